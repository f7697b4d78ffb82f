"""Small ensembles on the real data, as `glrnn collect --ensemble` writes them, with networks that nobody trained."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from glrnn_hpc import layout
from glrnn_hpc.config import RunConfig
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.records.ensemble import EnsembleRecord, MemberRecord, write_ensemble
from glrnn_hpc.records.provenance import (
    ENSEMBLE_FORMAT,
    Column,
    DataOrigin,
    EnsembleOrigin,
    MemberOrigin,
    ModelFile,
    Owner,
    Provenance,
    SingleModel,
    SweepOrigin,
    write_provenance,
)
from glrnn_hpc.surrogate import artifact
from glrnn_hpc.surrogate.ensemble import Member
from glrnn_hpc.surrogate.intervals import LabelSpace, fit_intervals
from tests.conftest import DATA, INPUT_KEYS

REAL = DATA / "triaxial.hdf5"

#: Members with other windows, padding, load features, scaling and networks, and their weights.
MIXED: dict[int, dict[str, Any]] = {
    3: {"window_size": 5, "lstm_units": 4},
    2: {"window_size": 8, "pad_length": 10, "standardize_inputs": False, "lstm_units": 6, "seed": 1},
    1: {"window_size": 7, "inputs": ["e_z"], "label_scaling": "physical", "seed": 2},
}


def write_export(folder: Path, members: dict[int, dict[str, Any]] | None = None, data: Path = REAL) -> layout.RunFolder:
    """Write an ensemble of networks that are given by their weights."""
    given = MIXED if members is None else members
    export = layout.RunFolder(folder)
    loaded, origins = [], []
    for number, (weight, keys) in enumerate(given.items()):
        small = {"lstm_units": 4, "dense_units": 4, "add_e0": True, "standardize_inputs": True}
        config = RunConfig(raw_data=str(data), **{**small, **keys})
        preprocessor = PreprocessorTriaxialCompression(**config.as_dict())
        stats = preprocessor.prepare_arrays().train_stats
        files = export.member(number)
        files.root.mkdir(parents=True)
        model = rnn_model(stats, **config.as_dict())
        artifact.save_description(files, config, stats)
        artifact.save_model(model, files.model(weights_only=False))
        loaded.append(Member(model, stats, config.as_dict(), INPUT_KEYS))
        origins.append(_origin(number, weight, files.model(weights_only=False), model))
    first_step = max(member.first_step for member in loaded)
    inputs, params, labels = _some_sequences(data)
    predicted = [member.predict(inputs, params)[:, first_step - member.first_step :] for member in loaded]
    names = loaded[0].stats["label_names"], loaded[0].stats["param_names"]
    space = LabelSpace(*map(tuple, names), tuple(TRIAXIAL.label_transforms()))
    weights = np.array(list(given)) / sum(given)
    intervals = fit_intervals(space, np.stack(predicted), weights, labels[:, first_step:], params)
    record = EnsembleRecord(
        members=[MemberRecord(folder=number, weight=weight) for number, weight in enumerate(given)],
        first_step=first_step,
        input_names=[name for name in INPUT_KEYS if any(name in member.stats["input_names"] for member in loaded)],
        param_names=names[1],
        label_names=names[0],
        intervals=intervals.as_record(),
    )
    write_ensemble(export.ensemble, record)
    write_provenance(export.provenance, _provenance(origins, loaded[0].stats, data))
    return export


def _some_sequences(data: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sequences = PreprocessorTriaxialCompression(raw_data=str(data), add_e0=True).all_sequences()
    return sequences.take(np.arange(0, len(sequences), 20)).arrays()


def _origin(number: int, weight: int, file: Path, model: Any) -> MemberOrigin:
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    return MemberOrigin(
        folder=number,
        weight=weight,
        sweep=SweepOrigin(name="night", folder="/scratch/me/night"),
        trial=10 + number,
        model=ModelFile(file=file.name, sha256=checksum, weights=model.count_params()),
        trained_on=Owner(host="node7", job="local-000", rank=0),
        trained_with={"python": "3.11", "git": {"commit": "abc", "is_changed": True}},
    )


def _provenance(origins: list[MemberOrigin], stats: Any, data: Path) -> Provenance:
    params = zip(stats["param_names"], stats["params_min"], stats["params_max"], strict=True)
    single = SingleModel(folder=0, errors={}, mse_standardised={"val": 1.0, "test": 1.0})
    return Provenance(
        format=ENSEMBLE_FORMAT,
        sweep=SweepOrigin(name="night", folder="/scratch/me/night"),
        ensemble=EnsembleOrigin(
            n_picks=6, n_candidates=9, members=origins, best_single=single, interval_level=0.9, coverage={}
        ),
        data=DataOrigin(path=str(data), sha256=hashlib.sha256(data.read_bytes()).hexdigest()),
        parameters=[Column(name=name, min=float(low), max=float(high)) for name, low, high in params],
        host="node7",
    )
