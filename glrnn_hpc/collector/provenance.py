"""Provenance of a verified trial, composed for its export: origin, ranges of the training, errors."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.collector.verify import Verified, split_metrics
from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.data.hdf5 import read_schema, select_groups
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.derived_features import given_features
from glrnn_hpc.experiments.registry import experiment_named
from glrnn_hpc.load_path import load_paths
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.preprocessor.splits import label_scaling
from glrnn_hpc.records.provenance import (
    FORMAT,
    Column,
    DataOrigin,
    LabelColumn,
    LabelError,
    LoadColumn,
    ModelFile,
    Owner,
    Provenance,
    SweepOrigin,
)
from glrnn_hpc.records.train_stats import input_names_of, param_names_of
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.study import leases
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.surrogate.artifact import find_model
from glrnn_hpc.surrogate.evaluate import PredictionMetrics
from glrnn_hpc.versions import software

Array = NDArray[Any]

#: Sequences whose extremes are taken at once, which bounds the memory.
_PART = 4096


class Checksums:
    """SHA-256 checksums of files; each file is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Return the checksum of a file in hexadecimal digits.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        key = path.resolve()
        if key not in self._known:
            digest = hashlib.sha256()
            try:
                with path.open("rb") as file:
                    while part := file.read(2**22):
                        digest.update(part)
            except FileNotFoundError as error:
                raise DataError(f"{path}: there is no such file.") from error
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
            self._known[key] = digest.hexdigest()
        return self._known[key]


def provenance_of(study: SweepStudy, verified: Verified, refused: list[int], checksums: Checksums) -> Provenance:
    """Return the provenance of a verified trial.

    Parameters
    ----------
    study : SweepStudy
        Its sweep.
    verified : Verified
        The trial.
    refused : list of int
        Trials of the same sweep whose files could not be verified.
    checksums : Checksums
        Checksums that are known already.
    """
    result, stats, config = verified.result, verified.stats, verified.config
    metrics = split_metrics(verified)
    model_file = find_model(verified.folder.root)
    load_features, parameters, labels = columns_of(verified)
    return Provenance(
        format=FORMAT,
        sweep=sweep_origin(study),
        trial=result.number,
        generation=result.generation,
        refused=refused,
        point=result.point,
        seed=config.seed,
        split_seed=stats.get("split_seed", SPLIT_SEED),
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        metrics=verified.metrics,
        recomputed=verified.recomputed,
        errors={split: label_errors(of_split) for split, of_split in metrics.items()},
        mse_standardised={split: of_split.mse_standardised for split, of_split in metrics.items()},
        data=data_origin(study, verified, checksums),
        sequence_length=stats.get("sequence_length"),
        window_size=config.window_size,
        pad_length=config.pad_length,
        load_features=load_features,
        parameters=parameters,
        labels=labels,
        model=ModelFile(
            file=model_file.name, sha256=checksums.of(model_file), weights=int(verified.model.count_params())
        ),
        trained_on=last_owner(verified),
        trained_with=result.software,
        exported=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        host=socket.gethostname(),
        **software(),
    )


def label_errors(metrics: PredictionMetrics) -> dict[str, LabelError]:
    """Return the errors of a prediction as they are written."""
    return {name: LabelError(**asdict(each)) for name, each in metrics.labels.items()}


def sweep_origin(study: SweepStudy) -> SweepOrigin:
    """Return the sweep of a trial."""
    spec = study.spec
    return SweepOrigin(
        name=str(spec.labels.get("name", study.folder.root.resolve().name)),
        folder=str(study.folder.root.resolve()),
        method=spec.method,
        metric=spec.metric,
        goal=spec.goal,
        seed=spec.seed,
        n_trials=len(study.slots()),
    )


def last_owner(verified: Verified) -> Owner | None:
    """Return the rank that trained the last epochs; None where its lease is gone or broken."""
    with contextlib.suppress(FileNotFoundError):
        owner = leases.owner_of(verified.folder, verified.result.generation)
        return None if owner is None else Owner(host=owner.process.host, job=owner.job, rank=owner.rank)
    return None


def data_origin(study: SweepStudy, verified: Verified, checksums: Checksums) -> DataOrigin:
    """Return the data of a verified trial."""
    fingerprint = verified.stats.get("fingerprint")
    path = checksum = size = groups = sequences = None
    if "raw_data" in study.spec.constants:
        path = Path(study.spec.data_file)
        checksum, size = checksums.of(path), path.stat().st_size
        if fingerprint is not None:
            schema = read_schema(path, experiment_named(verified.config.experiment))
            chosen = select_groups(schema, verified.config.pressure, verified.config.experiment_type)
            groups = [group.name for group in chosen]
    if isinstance(verified.data, PreparedData):
        sequences = {name: len(split) for name, split in verified.data.splits.items()}
    return DataOrigin(
        path=None if path is None else str(path),
        sha256=checksum,
        bytes=size,
        groups=groups,
        sequences=sequences,
        fingerprint=fingerprint,
    )


def columns_of(verified: Verified) -> tuple[list[LoadColumn], list[Column], list[LabelColumn]]:
    """Return load features, parameters and labels of the model, with their ranges in the training split."""
    stats, data = verified.stats, verified.data
    experiment = experiment_named(verified.config.experiment)
    units, scaling = experiment.units(), label_scaling(stats)
    inputs, params, labels = _extremes_of(data.splits["train"]) if isinstance(data, PreparedData) else [None] * 3
    paths = load_paths(_inputs_of(data.splits["train"])) if isinstance(data, PreparedData) else []
    input_names = input_names_of(stats)
    # A derived feature follows no path of its own: it has a range alone.
    given = given_features(input_names, experiment.derived_features())
    return (
        [
            LoadColumn(name=name, min=low, max=high, **({} if path is None or name not in given else asdict(path)))
            for (name, low, high), path in zip_longest(_ranges(input_names, inputs), paths)
        ],
        [Column(name=name, min=low, max=high) for name, low, high in _ranges(param_names_of(stats), params)],
        [
            LabelColumn(
                name=name,
                min=low,
                max=high,
                unit=units.get(name),
                mean=None if scaling is None else float(scaling.mean[k]),
                std=None if scaling is None else float(scaling.std[k]),
            )
            for k, (name, low, high) in enumerate(_ranges(verified.label_names(), labels))
        ],
    )


def _ranges(names: list[str], extremes: Array | None) -> list[tuple[str, float | None, float | None]]:
    """Return each name with its least and greatest value, None where the arrays are not there."""
    if extremes is None:
        return [(name, None, None) for name in names]
    return list(zip(names, *extremes.tolist(), strict=True))


def _extremes_of(sequences: Sequences) -> list[Array]:
    """Return the least and greatest values, (2, n_columns), of inputs, parameters and labels, part by part."""
    inputs, labels = (
        _extremes(np.concatenate([_extremes(part, (0, 1)) for part in parts]), (0,))
        for parts in (_inputs_of(sequences), (sequences.labels[rows] for rows in _parts_of(sequences)))
    )
    return [inputs, _extremes(sequences.params, (0,)), labels]


def _inputs_of(sequences: Sequences) -> Iterator[Array]:
    """Yield the load features that are used, part by part."""
    for rows in _parts_of(sequences):
        values = sequences.inputs[rows]
        yield values if sequences.columns is None else values[..., sequences.columns]


def _parts_of(sequences: Sequences) -> Iterator[Array]:
    rows = np.sort(sequences.rows)
    for start in range(0, len(rows), _PART):
        yield rows[start : start + _PART]


def _extremes(values: Array, axes: tuple[int, ...]) -> Array:
    return np.stack([values.min(axis=axes), values.max(axis=axes)]).astype("float64")
