"""Values that scripts of GrainLearning rely on: padding, units, lengths, the initial void ratio, statistics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib import pyplot

from glrnn_hpc import evaluate_model, layout, predict, train
from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import ConfigError, DataError, ModelError, WindowError
from glrnn_hpc.models import rnn_model
from glrnn_hpc.models.registry import build_network
from glrnn_hpc.preprocessor import FilePreprocessor, Preprocessor, PreprocessorLSTM, PreprocessorTriaxialCompression
from glrnn_hpc.surrogate import artifact
from tests.conftest import write_steps
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


ARRAYS = {"input_data": np.linspace(0, 1, 12), "param_data": np.ones((20, 2)), "output_data": np.ones((20, 1, 12))}
LSTM_CONFIG = {**ARRAYS, "train_frac": 0.7, "val_frac": 0.2, "window_size": 3, "window_step": 1, "patience": 5}
LSTM_CONFIG |= {"epochs": 1, "lstm_units": 2, "dense_units": 2, "batch_size": 64, "standardize_outputs": True}


def test_a_configuration_of_arrays_makes_its_preprocessor_again(tmp_path: Path, monkeypatch):
    """GrainLearning keeps the arrays in the configuration that it writes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    given = {**LSTM_CONFIG, "output_data": rng.random((20, 1, 12))}
    config = {**given, "output_dir": "elsewhere"}
    train.train_without_wandb(PreprocessorLSTM.from_dict(given), config=config, verbose=0)
    _, stats, loaded = predict.get_pretrained_model("elsewhere")
    again = PreprocessorLSTM.from_dict(loaded)
    np.testing.assert_allclose(again.output_data, np.swapaxes(given["output_data"], 1, 2), rtol=1e-6)
    assert (again.window_size, again.pad_length) == (3, 3)
    for keys in (loaded, given):
        assert rnn_model(stats, **keys).get_layer("lstm").units == 2
    (tmp_path / "elsewhere" / "arrays.npz").write_bytes(b"broken")
    with pytest.raises(ModelError, match=r"arrays\.npz: the arrays of the training cannot be read"):
        predict.get_pretrained_model("elsewhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_data": None}, "input_data: None was given; a load sequence"),
        ({"param_data": None}, r"param_data: None was given; an array of numbers \(n_samples, n_params\)"),
        ({"output_data": None}, "output_data: None was given"),
        ({"output_data": np.ones((20, 12))}, r"output_data: .*, one of the shape \(20, 12\) was given"),
        ({"param_data": [["a", "b"]]}, "param_data: .*could not convert"),
    ],
)
def test_arrays_that_are_not_filled_in_or_have_another_shape_are_refused(changes: dict[str, Any], message: str):
    """GrainLearning's tutorials begin with None in their place."""
    with pytest.raises(DataError, match=message):
        PreprocessorLSTM.from_dict({**LSTM_CONFIG, **changes})


def test_keys_of_a_preprocessor_are_its_attributes(tiny: Tiny, tmp_path: Path):
    config = tiny(standardize_outputs=False)
    preprocessor = PreprocessorTriaxialCompression(**config)
    assert (preprocessor.raw_data, preprocessor.window_size) == (config["raw_data"], 3)
    assert preprocessor.standardize_outputs is False
    preprocessor.window_size = 5
    assert preprocessor.prepare_arrays().window_size == 5
    preprocessor.raw_data = str(write_steps(tmp_path / "other.hdf5", n_samples=8))
    assert len(preprocessor.all_sequences()) == 8
    with pytest.raises(ConfigError, match="preprocessor.window_size: Input should be greater than or equal to 1"):
        preprocessor.window_size = 0


class _Bare(Preprocessor):
    def prepare_datasets(self, seed: int = 42) -> Any:
        raise NotImplementedError

    def prepare_single_dataset(self) -> Any:
        raise NotImplementedError


def test_a_preprocessor_needs_no_default_configuration():
    assert _Bare.from_dict({}).get_default_config() == {}
    assert train.full_config(_Bare(), {"epochs": 3}).epochs == 3


def test_unknown_keys_warn_where_grainlearning_takes_them(tiny: Tiny, tmp_path: Path):
    """And nowhere else: in a sweep or a command a typo would be a silent default of a thousand trials."""
    config = tiny(lstm_unit=4)
    warned = pytest.warns(UserWarning, match=r"lstm_unit: unknown key; did you mean lstm_units\? It is ignored")
    with warned:
        preprocessor = PreprocessorTriaxialCompression(**config)
    with warned:
        assert train.full_config(preprocessor, config).lstm_units == 4
    with warned:
        rnn_model({"num_input_features": 1, "num_params": 1, "num_labels": 1}, lstm_unit=4)
    with warned:
        PreprocessorLSTM.from_dict({**LSTM_CONFIG, "lstm_unit": 4})
    with pytest.raises(ConfigError, match=r"lstm_unit: unknown key; did you mean lstm_units\?$"):
        FilePreprocessor(**config)


def test_errors_are_those_that_scripts_catch(tiny: Tiny, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"nosuch.hdf5: there is no such file"):
        PreprocessorTriaxialCompression(raw_data="nosuch.hdf5").prepare_datasets()
    for folder in (tmp_path, tmp_path / "nosuch"):
        with pytest.raises(FileNotFoundError, match="is no folder of a trained model|there is no such folder"):
            predict.get_pretrained_model(folder)
    with pytest.raises(ValueError, match="window_size: Input should be greater"):
        PreprocessorTriaxialCompression(**tiny(window_size=0))
    with pytest.raises(FileNotFoundError, match="is not a sweep folder"):
        predict.get_best_run_from_sweep(tmp_path / "nosuch")
    for error in (ConfigError, DataError, WindowError, ModelError):
        assert issubclass(error, ValueError)


def test_a_checked_configuration_has_defaults_and_no_other_keys(tiny: Tiny):
    with pytest.warns(UserWarning, match="is missing; its default") as warned:
        checked = PreprocessorTriaxialCompression.check_config({**tiny(), "lstm_units": 4})
    assert "config.add_e0: is missing; its default False is used." in [str(each.message) for each in warned]
    assert (checked["window_size"], checked["add_pressure"], "lstm_units" in checked) == (3, True, False)
    with pytest.raises(ValueError, match="raw_data: this key is required"):
        PreprocessorTriaxialCompression.check_config({})


def test_labels_and_padding_are_made_as_grainlearning_makes_them():
    steps = np.arange(24.0).reshape(2, 3, 4)
    padded = Preprocessor.pad_initial(steps, 2)
    np.testing.assert_array_equal(padded[:, :, 0], [[0, 0, 0, 4, 8], [12, 12, 12, 16, 20]])
    labels = np.dstack([np.arange(6.0).reshape(2, 3), np.ones((2, 3))])
    scaled, stats = Preprocessor.standardize_outputs({"train": ({}, labels), "val": ({}, labels + 1)})
    np.testing.assert_allclose(stats["mean"], [2.5, 1])
    np.testing.assert_allclose(scaled["train"][1][..., 0].std(), 1)
    np.testing.assert_array_equal(scaled["val"][1][..., 1], 1)  # a constant label: divided by 1


def test_figures_show_the_predictions_of_each_label(tiny: Tiny, tmp_path: Path):
    folder, _ = written_model(tmp_path / "m", tiny(lstm_units=2))
    model, stats, config = predict.get_pretrained_model(folder)
    data = PreprocessorTriaxialCompression(**config).prepare_single_dataset()
    figure = predict.plot_predictions(model, data, stats, config, batch_size=8)
    assert [ax.get_ylabel() for ax in figure.axes] == ["e", "p"]
    simulated, predicted = figure.axes[0].lines[:2]
    np.testing.assert_array_equal(simulated.get_ydata(), np.arange(3, 12))
    assert len(predicted.get_ydata()) == 9
    predictions = predict.predict_batch(model, data, stats, config)
    histogram = evaluate_model.plot_metric_distribution(data, predictions, config)
    assert sum(bar.get_height() for bar in histogram.axes[0].patches) == 20
    pyplot.close("all")
