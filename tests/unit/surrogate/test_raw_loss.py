from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from glrnn_hpc import layout, predict, train
from glrnn_hpc.config import RunConfig
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.gather import DeviceCopies
from glrnn_hpc.preprocessor.from_file import FilePreprocessor
from glrnn_hpc.surrogate import evaluate
from glrnn_hpc.surrogate.one_load import OneLoadModel

KEYS = {
    "add_e0": True,
    "label_scaling": "physical",
    "exact": True,
    "standardize_inputs": True,
    "lstm_units": 8,
    "dense_units": 8,
    "epochs": 2,
    "window_step": 7,
    "pressure": "0.2e6",
}


@pytest.fixture(scope="module")
def source() -> DemData:
    return read_data(Path(__file__).parents[2] / "data" / "triaxial.hdf5", "0.2e6")


def trained(
    source: DemData, folder: Path, copies: DeviceCopies | None = None, **keys: Any
) -> tuple[train.Outcome, FilePreprocessor, RunConfig]:
    config = RunConfig(raw_data=str(source.schema.path), **{**KEYS, **keys})
    preprocessor = FilePreprocessor(source, **config.as_dict())
    return train.run_training(preprocessor, config, layout.RunFolder(folder), copies=copies), preprocessor, config


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"experiment_type": "drained", "inputs": ["e_z"]},
        {"label_scaling": "raw"},
        {"standardize_outputs": False},
        {"exact": False, "inputs_drained": ["e_z"], "pad_length": 9},
    ],
    ids=lambda keys: "-".join(keys) or "all",
)
def test_the_raw_loss_is_that_of_the_predictions_in_units_of_the_labels_deviations(
    keys: dict[str, Any], source: DemData, tmp_path: Path
):
    outcome, preprocessor, config = trained(source, tmp_path / "run", **keys)
    model, stats, recorded = predict.get_pretrained_model(tmp_path / "run")
    for split in ("val", "test"):
        sequences = preprocessor.prepare_arrays().splits[split].with_raw_labels()
        inputs, params, labels = sequences.arrays()
        predicted = predict.predict_sequences(model, inputs, params, stats, recorded)
        # Prediction begins one step after the first window of the training, so that window has no prediction.
        steps = np.arange(config.window_size - 1 + config.window_step, sequences.n_steps, config.window_step)
        errors = (predicted[:, steps - config.window_size] - labels[:, steps]) / np.asarray(stats["labels_std"])
        first = evaluate.split_losses(model, preprocessor.prepare_arrays(), config, [split])
        assert first[f"{split}_loss_raw"] == pytest.approx(outcome.metrics[f"{split}_loss_raw"], rel=1e-5)
        n_windows = len(steps) + 1
        rest = outcome.metrics[f"{split}_loss_raw"] * n_windows - (errors**2).mean(axis=(0, 2)).sum()
        assert rest == pytest.approx(first_window(model, stats, recorded, sequences), rel=1e-3)


def first_window(model: keras.Model, stats: Any, config: Any, sequences: Any) -> float:
    """Return the error of the first window, of sequences whose first step is repeated once in front."""
    from dataclasses import replace

    inputs, params, labels = replace(sequences, pad_length=sequences.pad_length + 1).arrays()
    predicted = predict.predict_sequences(model, inputs, params, stats, config)[:, 0]
    errors = (predicted - labels[:, int(config["window_size"])]) / np.asarray(stats["labels_std"])
    return float((errors**2).mean())


def test_batches_that_are_made_on_a_device_give_the_same_losses(source: DemData, tmp_path: Path):
    found = trained(source, tmp_path / "device", DeviceCopies("CPU:0"))[0].history.history
    assert found == trained(source, tmp_path / "memory")[0].history.history
    assert list(found) == ["loss", "loss_raw", "mae", "val_loss", "val_loss_raw", "val_mae"]


def test_keras_alone_loads_the_file_of_a_network_that_learns_targets(source: DemData, tmp_path: Path):
    trained(source, tmp_path / "run")
    model = keras.models.load_model(tmp_path / "run" / layout.MODEL_WHOLE)
    assert model.output_shape == (None, 6)


def test_the_fast_kernel_gives_the_labels_that_keras_gives(source: DemData, tmp_path: Path):
    _, preprocessor, _ = trained(source, tmp_path / "run")
    model, stats, config = predict.get_pretrained_model(tmp_path / "run")
    inputs, params, _ = preprocessor.all_sequences().take(np.arange(3)).arrays()
    expected = predict.predict_sequences(model, np.repeat(inputs[:1], 3, axis=0), params, stats, config)
    fast = OneLoadModel(model, stats, config)
    assert fast.is_fast
    np.testing.assert_allclose(fast.respond(inputs[0], params), expected, rtol=2e-5, atol=1e-6)


class MakesDataSets(FilePreprocessor):
    """Preprocessor of the user's own, which changes the data sets of another one."""

    def prepare_datasets(self, seed: int = 42) -> Any:
        return super().prepare_datasets(seed)


def test_targets_of_a_preprocessor_that_makes_its_own_data_sets_are_refused(source: DemData, tmp_path: Path):
    config = RunConfig(raw_data=str(source.schema.path), **KEYS)
    with pytest.raises(ConfigError, match="label_scaling, exact: MakesDataSets makes data sets of its own.*override"):
        train.run_training(MakesDataSets(source, **config.as_dict()), config, layout.RunFolder(tmp_path / "run"))


def test_a_network_of_the_users_own_that_gives_all_labels_is_refused_where_targets_are_learnt(
    source: DemData, tmp_path: Path
):
    config = RunConfig(raw_data=str(source.schema.path), **KEYS)
    inputs, params = keras.Input((10, 3), name="inputs"), keras.Input((8,), name="params")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(inputs), params])
    model = keras.Model({"inputs": inputs, "params": params}, keras.layers.Dense(7)(joined))
    preprocessor = FilePreprocessor(source, **config.as_dict())
    with pytest.raises(ConfigError, match="model: the network gives 7 values; .* it learns 6: p, q, f0,.*num_targets"):
        train.run_training(preprocessor, config, layout.RunFolder(tmp_path / "run"), model=model)
