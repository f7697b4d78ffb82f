"""Values that scripts of GrainLearning rely on: padding, units, lengths, the initial void ratio, statistics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc import layout, predict, train
from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import DataError
from glrnn_hpc.models.registry import build_network
from glrnn_hpc.preprocessor import FilePreprocessor, PreprocessorTriaxialCompression
from glrnn_hpc.surrogate import artifact
from tests.unit.surrogate.test_legacy import axial_file, glrnn, model_of_grainlearning

Tiny = Callable[..., dict[str, Any]]


def written_model(folder: Path, config: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Write the files of a model with its initial weights, as a training does."""
    stats = PreprocessorTriaxialCompression(**config).prepare_arrays().train_stats
    run, full = layout.RunFolder(folder), RunConfig(**config)
    folder.mkdir()
    artifact.save_description(run, full, stats)
    artifact.save_model(build_network(full, stats), run.model(weights_only=False))
    return folder, dict(stats)


@pytest.mark.parametrize(("pad_length", "steps"), [(0, range(3, 12)), (1, range(2, 12)), (5, range(12))])
def test_a_file_of_predictions_holds_each_predicted_step_of_the_sequences_once(
    tiny: Tiny, tmp_path: Path, pad_length: int, steps: range
):
    config = tiny(pad_length=pad_length, lstm_units=2)
    folder, _ = written_model(tmp_path / "m", config)
    predict.predict_file(folder, config["raw_data"], tmp_path / "p.hdf5", "all")
    with h5py.File(tmp_path / "p.hdf5") as file:
        group = file["0.2e6/drained"]
        for name in ("inputs", "simulated"):
            np.testing.assert_array_equal(group[name][0, :, 0], steps)
        assert group["outputs"].shape == group["simulated"].shape


def test_any_padding_trains(tiny: Tiny, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny(pad_length=5, epochs=1, lstm_units=2)
    train.train_without_wandb(PreprocessorTriaxialCompression(**config), config=config)
    _, stats, loaded = predict.get_pretrained_model("outputs")
    assert (loaded["pad_length"], stats["sequence_length"]) == (5, 12 + 5)


@pytest.mark.parametrize("pad_length", [5, 20])
def test_models_that_grainlearning_trained_with_any_padding_load(tmp_path: Path, pad_length: int):
    folder = model_of_grainlearning(tmp_path / "m", pad_length=pad_length)
    assert predict.get_pretrained_model(folder)[2]["pad_length"] == pad_length


def test_a_model_with_labels_as_they_are_predicts_with_errors_in_their_units(tmp_path: Path, capsys):
    """GrainLearning's files have no mean and std then."""
    names = ["p", "q", "r", "s", "t"]
    data = axial_file(tmp_path / "a.hdf5")
    with h5py.File(data, "a") as file:
        for group in ("0.2e6/drained", "0.2e6/undrained"):
            outputs = file[f"{group}/outputs"][..., :5]
            del file[f"{group}/outputs"]
            file[f"{group}/outputs"] = outputs
        file.attrs["outputs"] = names
    changes: dict[str, Any] = {"standardize_outputs": False, "stats": {"mean": None, "std": None}}
    folder = model_of_grainlearning(
        tmp_path / "m", add_e0=False, add_pressure=True, add_experiment_type=False, **changes
    )
    command = ["predict", str(folder), str(data), "--out", str(tmp_path / "p.hdf5"), "--split", "all"]
    assert glrnn(command) == 0
    assert "MSE in units of the labels" in capsys.readouterr().out
    assert glrnn([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mse_scale"] == "1"
    assert found["mse_standardised"] == pytest.approx(np.mean([found["metrics"][name]["rmse"] ** 2 for name in names]))


def test_mean_and_std_are_those_of_standardised_labels_alone(tiny: Tiny):
    """The scale of other labels has names of its own, so that errors can still be told in proportion to it."""
    plain, scaled = (
        PreprocessorTriaxialCompression(**tiny(standardize_outputs=value)).prepare_datasets()[1]
        for value in (False, True)
    )
    assert {"mean", "std"} <= scaled.keys()
    assert not {"labels_mean", "labels_std"} & scaled.keys()
    assert not {"mean", "std"} & plain.keys()
    np.testing.assert_array_equal(plain["labels_std"], scaled["std"])


@pytest.mark.parametrize("function", [predict.predict_batch, predict.predict_macroscopics])
def test_data_of_another_length_than_the_training_are_refused(tiny: Tiny, tmp_path: Path, function: Any):
    folder, _ = written_model(tmp_path / "m", tiny(lstm_units=2))
    model, stats, config = predict.get_pretrained_model(folder)
    padded = PreprocessorTriaxialCompression(**{**config, "pad_length": 3}).prepare_single_dataset()
    with pytest.raises(DataError, match=r"sequences of 15 steps, the model was trained with 12 .* pad_length=0"):
        function(model, padded, stats, config)
    data = PreprocessorTriaxialCompression(**config).prepare_single_dataset()
    assert function(model, data, stats, config).shape == (20, 9, 2)


@pytest.fixture
def unnamed_file(tmp_path: Path) -> Path:
    """Write data without attributes, with four outputs; the first step of output k is k."""
    path = tmp_path / "unnamed.hdf5"
    with h5py.File(path, "w") as file:
        file["0.2e6/drained/inputs"] = np.zeros((10, 3, 2))
        file["0.2e6/drained/contact_params"] = np.ones((10, 5))
        file["0.2e6/drained/outputs"] = np.ones((10, 3, 4)) * np.arange(4) + 0.5
    return path


def test_the_initial_void_ratio_is_the_first_output_where_none_is_called_e(unnamed_file: Path, caplog):
    config = {"raw_data": str(unnamed_file), "window_size": 1, "add_e0": True, "add_pressure": False}
    preprocessor = PreprocessorTriaxialCompression(**config, add_experiment_type=False)
    inputs, _ = next(preprocessor.prepare_single_dataset().as_numpy_iterator())
    np.testing.assert_array_equal(inputs["params"], [1, 1, 1, 1, 1, 0.5])
    assert preprocessor.column_names()["param"][-1] == "e0"
    assert "add_e0 takes the first step of the first output, output_0" in caplog.text
    with pytest.raises(DataError, match="add_e0 needs an output named e; there are output_0"):
        FilePreprocessor(**config).prepare_arrays()
