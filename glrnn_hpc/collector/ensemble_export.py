"""Export of an ensemble: its members and record in one folder, evaluated as a user loads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.collector.ensemble_candidates import EnsembleCandidate, Truth, label_divisor, label_space, truth_of
from glrnn_hpc.collector.ensemble_provenance import ensemble_provenance
from glrnn_hpc.collector.ensemble_selection import Selection
from glrnn_hpc.collector.export import copy_model, replacing_export
from glrnn_hpc.collector.provenance import Checksums
from glrnn_hpc.collector.validation_errors import write_errors
from glrnn_hpc.errors import SweepError
from glrnn_hpc.records.ensemble import EnsembleRecord, MemberRecord, write_ensemble
from glrnn_hpc.records.provenance import Provenance, write_provenance
from glrnn_hpc.surrogate.ensemble import Ensemble, load_ensemble
from glrnn_hpc.surrogate.evaluate import ErrorSums, PredictionMetrics
from glrnn_hpc.surrogate.intervals import coverage, fit_intervals

Array = NDArray[Any]

#: Sequences that are evaluated at once, which bounds the memory.
_PART = 256

#: Largest relative difference between the selected error and that of the exported files.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class SplitEvaluation:
    """Evaluation of an ensemble on a split.

    Attributes
    ----------
    metrics : PredictionMetrics
        Errors of its mean.
    members : list of PredictionMetrics
        Errors of each member at the same steps.
    coverage : dict of str to float
        Part of the truth that the intervals hold, per label.
    """

    metrics: PredictionMetrics
    members: list[PredictionMetrics]
    coverage: dict[str, float]


def export_ensemble(
    candidates: Sequence[EnsembleCandidate],
    selection: Selection,
    n_picks: int,
    all_features: Sequence[str],
    refused: list[int],
    target: Path,
    checksums: Checksums,
) -> Provenance:
    """Write an ensemble where an earlier export is or is to be, and return its provenance.

    The folder is loaded and evaluated before it takes its place.

    Parameters
    ----------
    candidates : sequence of EnsembleCandidate
        Trials that were chosen from.
    selection : Selection
        What was chosen of them.
    n_picks : int
        Picks that were allowed.
    all_features : sequence of str
        Load features of the data in their order; empty where the data lie in no file.
    refused : list of int
        Trials of the sweep of the best member whose files could not be verified.
    target : Path
        Folder of the export.
    checksums : Checksums
        Checksums that are known already.

    Raises
    ------
    SweepError
        If the files cannot be put there, or do not give the error by which the members were selected.
    """
    members = [candidates[place] for place in selection.weights]
    record = _record(members, list(selection.weights.values()), all_features)
    truths = {split: _whole_truth(members, split) for split in ("val", "test")}
    with replacing_export(target) as partial:
        for entry, member in zip(record.members, members, strict=True):
            files = partial.member(entry.folder)
            files.root.mkdir(parents=True)
            copy_model(member.files.folder, files)
        write_ensemble(partial.ensemble, record)
        ensemble = load_ensemble(partial.root)
        divisor = label_divisor(members[0].files)
        evaluations = {split: evaluate_ensemble(ensemble, truth, divisor) for split, truth in truths.items()}
        _check_evaluation(target, ensemble, members, evaluations["val"], divisor, truths["val"])
        weights = [int(member.model.count_params()) for member in ensemble.members]
        provenance = ensemble_provenance(
            members,
            record,
            evaluations,
            selection,
            n_picks=n_picks,
            n_candidates=len(candidates),
            refused=refused,
            n_weights=weights,
            checksums=checksums,
        )
        write_provenance(partial.provenance, provenance)
        mean = ensemble.mean_of(_aligned(members, ensemble.first_step))
        write_errors(partial.error_covariance, members[0].files, truths["val"], mean, ensemble.first_step)
    return provenance


def evaluate_ensemble(ensemble: Ensemble, truth: Truth, divisor: Array) -> SplitEvaluation:
    """Return the errors of an ensemble and of its members on some sequences, and what its intervals hold.

    Parameters
    ----------
    ensemble : Ensemble
        As it was loaded.
    truth : Truth
        Sequences with all load features of the ensemble.
    divisor : ndarray, shape (n_labels,)
        What standardises a label's errors.
    """
    names = ensemble.record.label_names
    sums, sums_of_members = ErrorSums(names, divisor), [ErrorSums(names, divisor) for _ in ensemble.members]
    held = np.zeros(len(names))
    inputs = truth.input_array(ensemble.record.input_names)
    for start in range(0, len(inputs), _PART):
        part = slice(start, start + _PART)
        simulated = truth.labels[part, ensemble.first_step :]
        members = ensemble.predict_members(inputs[part], truth.params[part])
        prediction = ensemble.combine(members, truth.params[part])
        sums.add(prediction.mean, simulated)
        for of_member, predicted in zip(sums_of_members, members, strict=True):
            of_member.add(predicted, simulated)
        held += coverage(prediction.lower, prediction.upper, simulated) * len(simulated)
    parts = (held / len(inputs)).tolist()
    return SplitEvaluation(
        sums.metrics(), [each.metrics() for each in sums_of_members], dict(zip(names, parts, strict=True))
    )


def _record(members: Sequence[EnsembleCandidate], counts: Sequence[int], all_features: Sequence[str]) -> EnsembleRecord:
    """Return what `ensemble.json` says, with intervals that hold on the validation split."""
    space = label_space(members[0].files)
    first_step = max(member.first_step for member in members)
    truth = truth_of(members[0].files, "val")
    intervals = fit_intervals(
        space,
        _aligned(members, first_step),
        np.array(counts) / sum(counts),
        truth.labels[:, first_step:],
        truth.params,
    )
    taken = dict.fromkeys(name for member in members for name in member.input_names)
    ordered = [name for name in all_features if name in taken]
    return EnsembleRecord(
        members=[MemberRecord(folder=k, weight=count) for k, count in enumerate(counts)],
        first_step=first_step,
        input_names=[*ordered, *(name for name in taken if name not in ordered)],
        param_names=list(space.param_names),
        label_names=list(space.label_names),
        intervals=intervals.as_record(),
    )


def _aligned(members: Sequence[EnsembleCandidate], first_step: int) -> Array:
    """Return the predictions of the validation split, (n_members, n, n_steps, n_labels), from a step on."""
    return np.stack([member.predicted[:, first_step - member.first_step :] for member in members])


def _whole_truth(members: Sequence[EnsembleCandidate], split: str) -> Truth:
    """Return the sequences of a split with the load features of all members."""
    truths = [truth_of(member.files, split) for member in members]
    inputs = {name: values for truth in truths for name, values in truth.inputs.items()}
    return Truth(inputs, truths[0].params, truths[0].labels)


def _check_evaluation(
    target: Path,
    ensemble: Ensemble,
    members: Sequence[EnsembleCandidate],
    evaluation: SplitEvaluation,
    divisor: Array,
    truth: Truth,
) -> None:
    """Refuse an export whose files do not give the predictions by which its members were chosen."""
    record = ensemble.record
    predicted = _aligned(members, record.first_step)
    mean = np.average(predicted, axis=0, weights=[entry.weight for entry in record.members])
    sums = ErrorSums(record.label_names, divisor)
    sums.add(mean, truth.labels[:, record.first_step :])
    expected, found = sums.metrics().mse_standardised, evaluation.metrics.mse_standardised
    if not abs(found - expected) <= _TOLERANCE * expected + _TOLERANCE**2:
        raise SweepError(
            f"{target}: the files of the ensemble give a validation error of {found:.6g}, its members gave "
            f"{expected:.6g}; were the files of the sweep changed meanwhile? Collect it again."
        )
