"""Sweeps of networks that see some of the load features."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from glrnn_hpc import layout
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.preprocessor.splits import split_ids
from tests.sweep.test_collect import N_SAMPLES, N_STEPS, spec_of, swept, write_data


def test_the_export_of_a_model_that_sees_one_load_feature_tells_its_range_and_its_path(tmp_path: Path):
    data = write_data(tmp_path / "a.hdf5")
    with h5py.File(data, "r+") as file:  # each sequence turns round where another one does not
        steps = np.where(np.arange(N_STEPS)[None] <= np.arange(N_SAMPLES)[:, None] % 8 + 2, 0.5, -0.5)
        file["0.2e6/drained/inputs"][:, :, 2] = np.cumsum(steps, axis=1) - 0.5
    study = swept(tmp_path / "sweep", spec_of(data, learning_rate={"value": 1e-3}, inputs={"value": ["e_z"]}))
    collect(study.root)
    (column,) = layout.read_json(study.best.provenance)["load_features"]
    values = (np.cumsum(steps, axis=1) - 0.5)[split_ids(N_SAMPLES, 0.7, 0.15, 42)["train"]]
    path = {"start": 0.0, "step": 0.5, "reverses": True}
    assert column == {"name": "e_z", "min": values.min(), "max": values.max(), **path}
