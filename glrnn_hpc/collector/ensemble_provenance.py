"""Provenance of an ensemble, composed for its export: its members, their weights, its errors and intervals."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from glrnn_hpc.collector.ensemble_candidates import EnsembleCandidate
from glrnn_hpc.collector.ensemble_selection import Selection
from glrnn_hpc.collector.provenance import (
    Checksums,
    columns_of,
    data_origin,
    label_errors,
    last_owner,
    sweep_origin,
)
from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.records.ensemble import EnsembleRecord
from glrnn_hpc.records.provenance import (
    ENSEMBLE_FORMAT,
    EnsembleOrigin,
    MemberOrigin,
    ModelFile,
    Provenance,
    SingleModel,
)
from glrnn_hpc.surrogate.artifact import find_model
from glrnn_hpc.surrogate.evaluate import PredictionMetrics
from glrnn_hpc.versions import software


class Evaluation(Protocol):
    """Errors of an ensemble and of its members on a split, and the part of the truth that its intervals hold."""

    @property
    def metrics(self) -> PredictionMetrics: ...

    @property
    def members(self) -> list[PredictionMetrics]: ...

    @property
    def coverage(self) -> dict[str, float]: ...


def ensemble_provenance(
    members: Sequence[EnsembleCandidate],
    record: EnsembleRecord,
    evaluations: Mapping[str, Evaluation],
    selection: Selection,
    *,
    n_picks: int,
    n_candidates: int,
    refused: list[int],
    n_weights: Sequence[int],
    checksums: Checksums,
) -> Provenance:
    """Return the provenance of an ensemble.

    Parameters
    ----------
    members : sequence of EnsembleCandidate
        Members in the order of `record`.
    record : EnsembleRecord
        What `ensemble.json` says.
    evaluations : mapping of str to Evaluation
        Errors on the splits `val` and `test`.
    selection : Selection
        How the members were chosen; its first pick is the best single model.
    n_picks, n_candidates : int
        Picks that were allowed, and trials that were chosen from.
    refused : list of int
        Trials of the sweep of the best single model whose files could not be verified.
    n_weights : sequence of int
        Numbers of the weights of the members.
    checksums : Checksums
        Checksums that are known already.
    """
    best_place = list(selection.weights).index(selection.picks[0])
    best = members[best_place]
    files = best.files
    sequence_length = files.stats.get("sequence_length")
    load_features = {column.name: column for member in members for column in columns_of(member.files)[0]}
    _, parameters, labels = columns_of(files)
    single = {split: each.members[best_place] for split, each in evaluations.items()}
    return Provenance(
        format=ENSEMBLE_FORMAT,
        sweep=sweep_origin(best.candidate.study),
        ensemble=EnsembleOrigin(
            n_picks=n_picks,
            n_candidates=n_candidates,
            members=[
                _member(member, place, record, evaluations, n_weights[place], checksums)
                for place, member in enumerate(members)
            ],
            best_single=SingleModel(
                folder=record.members[best_place].folder,
                errors={split: label_errors(each) for split, each in single.items()},
                mse_standardised={split: each.mse_standardised for split, each in single.items()},
            ),
            interval_level=record.intervals.level,
            coverage={split: dict(each.coverage) for split, each in evaluations.items()},
        ),
        refused=refused,
        split_seed=files.stats.get("split_seed", SPLIT_SEED),
        errors={split: label_errors(each.metrics) for split, each in evaluations.items()},
        mse_standardised={split: each.metrics.mse_standardised for split, each in evaluations.items()},
        data=data_origin(best.candidate.study, files, checksums),
        sequence_length=None if sequence_length is None else sequence_length - files.config.pad_length,
        window_size=record.first_step,
        pad_length=0,
        load_features=[load_features[name] for name in record.input_names],
        parameters=parameters,
        labels=labels,
        exported=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        host=socket.gethostname(),
        **software(),
    )


def _member(
    member: EnsembleCandidate,
    place: int,
    record: EnsembleRecord,
    evaluations: Mapping[str, Evaluation],
    n_weights: int,
    checksums: Checksums,
) -> MemberOrigin:
    files = member.files
    model_file = find_model(files.folder.root)
    return MemberOrigin(
        folder=record.members[place].folder,
        weight=record.members[place].weight,
        sweep=sweep_origin(member.candidate.study),
        trial=files.result.number,
        generation=files.result.generation,
        state=files.result.state,
        point=files.result.point,
        seed=files.config.seed,
        epochs=files.result.epochs,
        best_epoch=files.result.best_epoch,
        metrics=files.metrics,
        recomputed=files.recomputed,
        window_size=files.config.window_size,
        pad_length=files.config.pad_length,
        load_features=member.input_names,
        mse_standardised={split: each.members[place].mse_standardised for split, each in evaluations.items()},
        model=ModelFile(file=model_file.name, sha256=checksums.of(model_file), weights=n_weights),
        trained_on=last_owner(files),
        trained_with=files.result.software,
    )
