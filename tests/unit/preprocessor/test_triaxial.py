from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.data.shared import read_data
from glrnn_hpc.errors import ConfigError, DataError, WindowError
from glrnn_hpc.preprocessor.from_arrays import PreprocessorLSTM
from glrnn_hpc.preprocessor.from_file import FilePreprocessor, PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.splits import split_ids
from tests.conftest import INPUT_KEYS, write_steps


def prepare(path: Path, **config: Any):
    return PreprocessorTriaxialCompression(raw_data=str(path), **{"window_size": 3, **config}).prepare_arrays()


def test_the_split_is_grainlearnings():
    # numpy.random.seed(42); numpy.random.permutation(10)
    ids = split_ids(10, 0.7, 0.15, 42)
    np.testing.assert_array_equal(ids["train"], [8, 1, 5, 0, 7, 2, 9])
    np.testing.assert_array_equal(ids["val"], [4])
    np.testing.assert_array_equal(ids["test"], [3, 6])


def test_an_empty_split_is_refused_with_the_counts():
    with pytest.raises(DataError, match=r"leave the val split empty \(train 2, val 0, test 2\)"):
        split_ids(4, 0.7, 0.15, 42)


def test_parameters_are_appended_in_the_documented_order(tmp_path: Path):
    path = write_steps(tmp_path / "a.hdf5", groups=("0.2e6/drained", "1.0e6/undrained"))
    preprocessor = PreprocessorTriaxialCompression(raw_data=str(path), add_e0=True, window_size=3)
    params = preprocessor.all_sequences().params
    assert params.shape == (40, 5)
    np.testing.assert_allclose(params[0, 2:], [0.2, 1.0, 0.0])
    np.testing.assert_allclose(params[-1, 2:], [1.0, 0.0, 0.0])
    stats = preprocessor.prepare_arrays().train_stats
    assert stats["param_names"] == ["E", "v", "pressure", "experiment_type", "e0"]
    assert stats["num_params"] == 5


def test_statistics_come_from_the_training_split_without_padding(steps_file: Path):
    plain, padded = prepare(steps_file), prepare(steps_file, pad_length=3)
    np.testing.assert_allclose(plain.train_stats["mean"], [5.5, 1005.5])
    np.testing.assert_allclose(plain.train_stats["std"], np.arange(12).std())
    np.testing.assert_allclose(plain.train_stats["inputs_mean"], [5.5] * 3)
    np.testing.assert_array_equal(plain.train_stats["mean"], padded.train_stats["mean"])
    assert padded.train_stats["sequence_length"] == 15
    np.testing.assert_array_equal(padded.splits["test"].arrays()[0][0, :5, 0], [0, 0, 0, 0, 1])


def test_statistics_are_those_of_the_training_sequences_alone(tmp_path: Path):
    rng = np.random.default_rng(1)
    # Each sequence has a level of its own: those of the other splits would show.
    params, inputs, outputs = (
        rng.normal(size=(30, *shape)) * scale + np.arange(30.0).reshape(30, *(1 for _ in shape))
        for shape, scale in (((2,), 1), ((6, 3), 2), ((6, 2), 3))
    )
    path = tmp_path / "levels.hdf5"
    names = {"contact_params": ["E", "v"], "inputs": INPUT_KEYS, "outputs": ["e", "p"]}
    write_file(path, {"0.2e6/drained": (params, inputs, outputs)}, **names, dtype="float64")
    stats = prepare(path, add_pressure=False, add_experiment_type=False, pad_length=3).train_stats
    train = split_ids(30, 0.7, 0.15, 42)["train"]
    for prefix, values in (("", outputs), ("inputs_", inputs), ("params_", params)):
        chosen = values[train].astype("float32").astype("float64")
        axes = tuple(range(values.ndim - 1))
        np.testing.assert_allclose(stats[f"{prefix}mean"], chosen.mean(axis=axes), rtol=1e-12)
        np.testing.assert_allclose(stats[f"{prefix}std"], chosen.std(axis=axes), rtol=1e-12)


def test_data_sets_carry_raw_inputs_and_standardised_labels(steps_file: Path):
    datasets, stats = PreprocessorTriaxialCompression(
        raw_data=str(steps_file), window_size=3, standardize_inputs=True
    ).prepare_datasets()
    inputs, label = next(datasets["train"].as_numpy_iterator())
    assert inputs["inputs"].shape == (3, 3)
    assert inputs["inputs"][-1, 0] == pytest.approx(label[0] * stats["std"][0] + stats["mean"][0], abs=1e-4)
    whole, labels = next(datasets["test"].as_numpy_iterator())
    assert whole["inputs"].shape == (12, 3)
    assert labels.shape == (12, 2)


def test_constant_outputs_are_divided_by_one(tmp_path: Path):
    path = tmp_path / "constant.hdf5"
    ones = np.full((20, 6, 1), 0.1)
    write_file(
        path, {"0.2e6/drained": (np.ones((20, 1)), ones, ones)}, contact_params=["E"], inputs=["e_z"], outputs=["e"]
    )
    prepared = prepare(path)
    np.testing.assert_array_equal(prepared.splits["train"].arrays()[2], 0)
    assert prepared.train_stats["std"] == [0.0]


@pytest.mark.parametrize("pressure", ["0.5e6", 5e5, 500000, ["0.5e6"], "500000"])
def test_a_pressure_matches_by_name_and_by_value(tmp_path: Path, pressure: Any):
    path = write_steps(tmp_path / "a.hdf5", groups=("0.2e6/drained", "0.5e6/drained"))
    groups = PreprocessorTriaxialCompression(raw_data=str(path), pressure=pressure).groups()
    assert [group.name for group in groups] == ["0.5e6/drained"]


def test_groups_that_differ_are_not_merged(tmp_path: Path):
    path = tmp_path / "a.hdf5"
    groups = {
        "0.2e6/drained": (np.ones((9, 2)), np.ones((9, 6, 3)), np.ones((9, 6, 2))),
        "0.5e6/drained": (np.ones((9, 2)), np.ones((9, 6, 1)), np.ones((9, 6, 2))),
    }
    write_file(path, groups, contact_params=["E", "v"], inputs=INPUT_KEYS, outputs=["e", "p"])
    with pytest.raises(DataError, match=r"no load feature in common.*0.2e6/drained: e_x, e_y, e_z; 0.5e6/drained: in"):
        prepare(path)
    groups["0.5e6/drained"] = (np.ones((9, 2)), np.ones((9, 7, 3)), np.ones((9, 7, 2)))
    write_file(path, groups, contact_params=["E", "v"], inputs=INPUT_KEYS, outputs=["e", "p"])
    with pytest.raises(DataError, match=r"0.2e6/drained has steps 6, but 0.5e6/drained has 7"):
        prepare(path)


def test_wrong_input_says_what_to_do(steps_file: Path, tmp_path: Path):
    with pytest.raises(WindowError, match="window_size=12 does not fit a sequence of 12 steps"):
        prepare(steps_file, window_size=12)
    with pytest.raises(ConfigError, match="window_sise: unknown key; did you mean window_size"):
        FilePreprocessor(raw_data=str(steps_file), window_sise=3)
    with pytest.raises(ConfigError, match="raw_data: this key is required"):
        PreprocessorTriaxialCompression(window_size=3)
    with pytest.raises(DataError, match="there is no such file"):
        prepare(tmp_path / "missing.hdf5")
    odd = write_steps(tmp_path / "odd.hdf5", groups=("loose/drained",))
    with pytest.raises(DataError, match="'loose' is no pressure in Pa; set add_pressure to False"):
        prepare(odd)
    no_e = tmp_path / "no_e.hdf5"
    write_file(
        no_e,
        {"0.2e6/drained": (np.ones((9, 1)), np.ones((9, 6, 1)), np.ones((9, 6, 1)))},
        contact_params=["E"],
        inputs=["e_z"],
        outputs=["q"],
    )
    with pytest.raises(DataError, match="add_e0 needs an output named e; there are q"):
        FilePreprocessor(raw_data=str(no_e), add_e0=True, window_size=3).prepare_arrays()


def test_data_in_memory_stand_in_for_the_file(steps_file: Path):
    data = read_data(steps_file)
    direct = PreprocessorTriaxialCompression(data, raw_data="gone.hdf5", window_size=3).prepare_arrays()
    np.testing.assert_array_equal(direct.splits["val"].arrays()[2], prepare(steps_file).splits["val"].arrays()[2])


def test_the_keys_of_the_training_are_accepted(steps_file: Path):
    PreprocessorTriaxialCompression(raw_data=str(steps_file), learning_rate=1e-3, lstm_units=4)
    assert PreprocessorTriaxialCompression.get_default_config()["window_size"] == 10


def test_arrays_in_memory_are_padded_and_transposed():
    outputs = np.arange(8.0)[None, None, :].repeat(10, axis=0)
    keys = {"input_data": np.arange(8.0), "param_data": np.ones((10, 2)), "output_data": outputs}
    preprocessor = PreprocessorLSTM.from_dict({**keys, "train_frac": 0.6, "val_frac": 0.2, "window_size": 3})
    datasets, stats = preprocessor.prepare_datasets()
    assert stats["sequence_length"] == 11
    whole, labels = next(datasets["test"].as_numpy_iterator())
    np.testing.assert_array_equal(whole["inputs"][:, 0], [0, 0, 0, *range(8)])
    np.testing.assert_allclose(labels[3:, 0] * stats["std"] + stats["mean"], range(8), atol=1e-5)
    single = next(preprocessor.prepare_single_dataset().as_numpy_iterator())
    np.testing.assert_array_equal(single[1][3:, 0], range(8))
    assert len(list(preprocessor.prepare_input_data(np.ones((4, 2))))) == 4
    assert PreprocessorLSTM.get_default_config()["val_frac"] == 0.15
    with pytest.raises(DataError, match="param_data 3 samples, but output_data has 8 steps and 10 samples"):
        PreprocessorLSTM(np.arange(8.0), np.ones((3, 2)), outputs, 0.6, 0.2, 3)


def test_what_a_batch_takes_out_is_what_numpy_makes_of_the_file(tmp_path: Path):
    """Groups, e0, padding, scaling and window_step at once, on data in which no two values are equal."""
    rng = np.random.default_rng(7)
    groups = {
        name: tuple(rng.normal(5, 2, size=(n, *shape)).astype("float32") for shape in ((2,), (9, 3), (9, 2)))
        for name, n in (("0.2e6/drained", 8), ("0.5e6/drained", 7), ("0.5e6/undrained", 9))
    }
    path = tmp_path / "random.hdf5"
    write_file(path, groups, contact_params=["E", "v"], inputs=INPUT_KEYS, outputs=["p", "e"])
    for is_scaled in (True, False):
        preprocessor = PreprocessorTriaxialCompression(
            raw_data=str(path), pressure="0.5e6", add_e0=True, window_size=4, window_step=2, pad_length=4,
            standardize_outputs=is_scaled,
        )  # fmt: skip
        datasets, stats = preprocessor.prepare_datasets(seed=11)
        names = ("0.5e6/drained", "0.5e6/undrained")
        params, inputs, outputs = (np.concatenate([groups[name][k] for name in names]) for k in range(3))
        kind = np.repeat([1.0, 0.0], [7, 9])
        params = np.column_stack([params, np.full(16, 0.5), kind, outputs[:, 0, 1]]).astype("float32")
        inputs, labels = (np.pad(array, ((0, 0), (4, 0), (0, 0)), mode="edge") for array in (inputs, outputs))
        order = np.random.RandomState(11).permutation(16)
        parts = {"train": order[:11], "val": order[11:13], "test": order[13:]}
        wide = outputs[parts["train"]].astype("float64")
        if is_scaled:
            labels = ((labels - wide.mean(axis=(0, 1))) / wide.std(axis=(0, 1))).astype("float32")
        for split in ("train", "val"):
            found = list(datasets[split].as_numpy_iterator())
            expected = [(i, last) for i in parts[split] for last in range(3, 13, 2)]
            assert len(found) == len(expected)
            for (element, label), (i, last) in zip(found, expected, strict=True):
                np.testing.assert_array_equal(element["inputs"], inputs[i, last - 3 : last + 1])
                np.testing.assert_array_equal(element["params"], params[i])
                np.testing.assert_allclose(label, labels[i, last], rtol=1e-5, atol=1e-6)
        for (element, label), i in zip(datasets["test"].as_numpy_iterator(), parts["test"], strict=True):
            np.testing.assert_array_equal(element["inputs"], inputs[i])
            np.testing.assert_array_equal(element["params"], params[i])
            np.testing.assert_allclose(label, labels[i], rtol=1e-5, atol=1e-6)
        assert stats["split_seed"] == 11


def test_a_parameter_of_the_file_that_is_appended_too_is_refused(tmp_path: Path) -> None:
    path = write_steps(tmp_path / "data.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["contact_params"] = ["E", "pressure"]
    with pytest.raises(DataError, match=r"contact_params with what .*add_... switches it off.* holds 'pressure' twice"):
        PreprocessorTriaxialCompression(raw_data=str(path)).prepare_arrays()
    without = PreprocessorTriaxialCompression(raw_data=str(path), add_pressure=False)
    assert without.column_names()["param"][:2] == ["E", "pressure"]
