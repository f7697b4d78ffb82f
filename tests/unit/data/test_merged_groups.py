from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.experiments.load_history import load_history
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.preprocessor.from_file import FilePreprocessor
from tests.conftest import DATA, INPUT_KEYS, write_steps


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


HISTORY = TRIAXIAL.derived_features()[0]


def test_the_name_of_a_group_chooses_all_features_that_the_experiment_derives(real_file: Path):
    preprocessor = FilePreprocessor(raw_data=str(real_file), inputs=["history", "e_z", "e_x"])
    expected = ["e_x", "e_z", *HISTORY.names()]
    assert preprocessor.column_names()["input"] == expected
    assert preprocessor.prepare_arrays().train_stats["input_names"] == expected
    single = FilePreprocessor(raw_data=str(real_file), inputs=["e_z_turn_1", "e_z", "e_z_max"])
    assert single.column_names()["input"] == ["e_z", "e_z_max", "e_z_turn_1"]


@pytest.mark.parametrize("experiment_type", ["All", "undrained"])
def test_derived_features_are_those_of_the_sequences_beside_which_they_stand(experiment_type: str):
    keys = {"raw_data": str(DATA / "cyclic.hdf5"), "experiment_type": experiment_type, "pad_length": 4}
    preprocessor = FilePreprocessor(**keys, inputs=["e_z", "history"])
    inputs, params, labels = preprocessor.all_sequences().arrays()
    raw_inputs, raw_params, raw_labels = FilePreprocessor(**keys).all_sequences().arrays()
    np.testing.assert_array_equal(inputs[..., 0], raw_inputs[..., 2])
    np.testing.assert_array_equal(params, raw_params)
    np.testing.assert_array_equal(labels, raw_labels)
    history = load_history(raw_inputs[:, 4:, 2].astype("float64"))
    for name in ("turn_2", "reversals"):
        column = inputs[..., preprocessor.column_names()["input"].index(f"e_z_{name}")]
        np.testing.assert_array_equal(column[:, 4:], history[name].astype("float32"))
        np.testing.assert_array_equal(column[:, :4], column[:, [4]].repeat(4, axis=1))  # padding repeats the first step
    prepared = preprocessor.prepare_arrays()
    train = prepared.splits["train"].arrays()[0][:, 4:].astype("float64").reshape(-1, inputs.shape[2])
    np.testing.assert_allclose(prepared.train_stats["inputs_mean"], train.mean(axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(prepared.train_stats["inputs_std"], train.std(axis=0), rtol=1e-9)


def test_only_the_load_is_copied_where_features_are_derived(real_file: Path):
    preprocessor = FilePreprocessor(raw_data=str(real_file), inputs=["e_z", "e_z_max"])
    sequences = preprocessor.all_sequences()
    (stack, _), *_ = preprocessor.source().locations.values()
    assert sequences.labels is stack.outputs
    assert sequences.inputs.shape == (*stack.inputs.shape[:2], 2)
    assert not sequences.inputs.flags.writeable


def test_groups_with_other_columns_have_derived_features_of_their_own_strain(file: Path):
    preprocessor = FilePreprocessor(raw_data=str(file), window_size=3, inputs=["e_z", "e_z_max", "e_z_path"])
    inputs = preprocessor.all_sequences().arrays()[0]
    assert preprocessor.column_names()["input"] == ["e_z", "e_z_max", "e_z_path"]
    assert (inputs == np.array([2, 2, 0])).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"inputs": ["e_z", "e_z_trn_1"]},
            r"inputs: 0.2e6/drained of .* no load feature e_z_trn_1; it has e_x, e_y, e_z, and derived from them "
            r"history \(e_z_direction, e_z_max, .*e_z_since_3\); small_strain \(e_z_log_path\)\. "
            r"did you mean e_z_turn_1\?",
        ),
        ({"inputs": ["e_z", "histroy"]}, r"no load feature histroy; .*ean history\?"),
        ({"inputs": ["e_x", "e_z_max"]}, "inputs: e_z_max is derived from e_z; choose e_z, too"),
        ({"inputs_undrained": ["history"]}, "inputs_undrained: e_z_direction is derived from e_z; choose e_z, too"),
    ],
)
def test_derived_features_that_cannot_be_are_refused_by_their_key(keys: dict[str, Any], message: str, file: Path):
    with pytest.raises(ConfigError, match=message):
        features(file, **keys)


def test_a_strain_that_a_group_lacks_has_no_history(tmp_path: Path):
    path = write_steps(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as opened:
        opened.attrs["inputs"] = ["e_x", "e_y", "e_1"]
    with pytest.raises(ConfigError, match=r"e_z_direction is derived from e_z, but .* has no load feature e_z; it has"):
        features(path, inputs=["e_1", "history"])


def test_a_column_with_the_name_of_a_derived_feature_is_refused_where_it_is_meant(tmp_path: Path):
    path = write_steps(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as opened:
        opened.attrs["inputs"] = ["e_x", "e_z", "e_z_max"]
    for keys in ({}, {"inputs": ["e_z", "e_z_max"]}):
        with pytest.raises(ConfigError, match=r"inputs: e_z_max is a column of 0.2e6/drained .* experiment derives"):
            features(path, **keys)
    assert FilePreprocessor(raw_data=str(path), inputs=["e_z"]).column_names()["input"] == ["e_z"]
