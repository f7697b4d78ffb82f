from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.preprocessor.from_file import FilePreprocessor
from tests.conftest import INPUT_KEYS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file whose load features hold the number of their column; undrained groups have the axial one first."""
    path = tmp_path / "a.hdf5"
    drained = np.broadcast_to(np.arange(3.0), (10, 6, 3))
    undrained = np.broadcast_to(np.array([2.0, 0.0]), (10, 6, 2))
    params, outputs = np.random.default_rng(0).random((10, 2)), np.ones((10, 6, 2))
    groups = {"0.2e6/drained": (params, drained, outputs), "0.2e6/undrained": (params, undrained, outputs)}
    write_file(path, groups, contact_params=["E", "v"], inputs=INPUT_KEYS, outputs=["e", "p"])
    with h5py.File(path, "r+") as opened:
        opened.attrs["inputs_undrained"] = ["e_z", "e_x"]
    return path


def features(path: Path, **keys: Any) -> tuple[list[str], Any]:
    preprocessor = FilePreprocessor(raw_data=str(path), window_size=3, **keys)
    inputs = preprocessor.all_sequences().arrays()[0]
    stats = preprocessor.prepare_arrays().train_stats
    assert stats["input_names"] == preprocessor.column_names()["input"]
    assert stats["num_input_features"] == inputs.shape[2]
    np.testing.assert_array_equal(np.asarray(stats["inputs_mean"]), inputs[0, 0])
    assert (inputs == inputs[:1, :1]).all()
    return stats["input_names"], inputs[0, 0].tolist()


def test_all_features_are_taken_by_default_and_chosen_ones_in_the_order_of_the_file(file: Path):
    assert features(file, experiment_type="drained") == (["e_x", "e_y", "e_z"], [0, 1, 2])
    assert features(file, experiment_type="drained", inputs=["e_z", "e_x"]) == (["e_x", "e_z"], [0, 2])
    assert features(file, experiment_type="undrained") == (["e_z", "e_x"], [2, 0])


def test_a_type_has_features_of_its_own(file: Path):
    keys = {"inputs": ["e_x"], "inputs_drained": ["e_z"]}
    assert features(file, experiment_type="drained", **keys) == (["e_z"], [2])
    assert features(file, experiment_type="undrained", **keys) == (["e_x"], [0])


def test_groups_with_other_columns_are_merged_on_the_common_ones_by_name(file: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert features(file) == (["e_x", "e_z"], [0, 2])
    assert "merged on e_x, e_z, the load features that all have" in caplog.text
    assert features(file, inputs_drained=["e_z"]) == (["e_z"], [2])


def test_groups_with_the_same_columns_share_their_arrays(real_file: Path):
    preprocessor = FilePreprocessor(raw_data=str(real_file), inputs=["e_z"])
    sequences = preprocessor.all_sequences()
    (stack, _), *_ = preprocessor.source().locations.values()
    assert sequences.inputs is stack.inputs
    np.testing.assert_array_equal(sequences.columns, [2])


def test_a_feature_that_a_group_does_not_have_is_named(file: Path):
    with pytest.raises(ConfigError, match=r"inputs: 0.2e6/undrained of .* has no load feature e_y; it has e_z, e_x"):
        features(file, inputs=["e_y"])
    with pytest.raises(ConfigError, match=r"inputs_drained: .*no load feature ez; .*did you mean e_z\?"):
        features(file, inputs_drained=["ez"])
