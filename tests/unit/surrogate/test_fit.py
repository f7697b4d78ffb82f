from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from glrnn_hpc import layout, predict, train, windows
from glrnn_hpc.config import RunConfig
from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.errors import ConfigError, ModelError, OutOfMemory, TrainingDiverged
from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.preprocessor.base import Preprocessor
from glrnn_hpc.preprocessor.from_arrays import PreprocessorLSTM
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.splits import scaling_of
from glrnn_hpc.records.train_stats import TrainStats
from glrnn_hpc.surrogate import artifact, prediction
from glrnn_hpc.surrogate.feed import Feed, FitData

STATS: TrainStats = {"num_input_features": 3, "num_params": 4, "num_labels": 2}


def configured(preprocessor: Preprocessor, config: dict[str, Any]):
    return train.full_config(preprocessor, config)


def test_constant_outputs_are_learned_and_predicted(tmp_path: Path):
    path = tmp_path / "constant.hdf5"
    steps = np.arange(8.0)[None, :, None].repeat(12, axis=0)
    arrays = (np.ones((12, 1)), steps, np.full((12, 8, 2), 0.5))
    write_file(path, {"0.2e6/drained": arrays}, contact_params=["E"], inputs=["e_z"], outputs=["e", "p"])
    config = {"raw_data": str(path), "window_size": 3, "lstm_units": 2, "dense_units": 2, "epochs": 1}
    config["standardize_inputs"] = True
    preprocessor = PreprocessorTriaxialCompression(**config)
    train.run_training(preprocessor, configured(preprocessor, config), layout.RunFolder(tmp_path / "run"))
    found = predict.predict_file(tmp_path / "run", path, tmp_path / "p.hdf5")
    assert found["units"] == {"p": "MPa"}
    assert all(math.isfinite(value) for errors in found["metrics"].values() for value in errors.values())
    assert math.isfinite(found["mse_standardised"])
    with pytest.raises(ConfigError, match="split: 'val' is not one of test, all"):
        predict.predict_file(tmp_path / "run", path, tmp_path / "p.hdf5", "val")


def test_divergence_is_seen_before_the_epoch_ends(tiny, tmp_path: Path):
    config = tiny(learning_rate=1e30, batch_size=2)
    preprocessor = PreprocessorTriaxialCompression(**config)
    n_batches: list[int] = []
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: n_batches.append(batch))
    folder = layout.RunFolder(tmp_path / "run")
    with pytest.raises(TrainingDiverged, match=r"loss is (nan|inf) in epoch 1; learning_rate=1e\+30"):
        train.run_training(preprocessor, configured(preprocessor, config), folder, callbacks=[count])
    assert len(n_batches) < Feed(configured(preprocessor, config)).prepare(preprocessor).n_batches


def test_a_callback_knows_that_patience_ends_the_training_with_this_epoch(tiny, tmp_path: Path):
    # Nothing is learned at this rate, so that the second epoch is not better than the first one.
    config = tiny(learning_rate=1e-12, epochs=5, patience=1)
    preprocessor = PreprocessorTriaxialCompression(**config)
    is_last: list[bool] = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: is_last.append(look.model.stop_training))
    folder = layout.RunFolder(tmp_path / "run")
    train.run_training(preprocessor, configured(preprocessor, config), folder, callbacks=[look])
    assert is_last == [False, True]


class Doubled(PreprocessorTriaxialCompression):
    """A user's subclass that changes the data sets and not the arrays."""

    def prepare_datasets(self, seed: int = 42):
        datasets, stats = super().prepare_datasets(seed)
        return {name: dataset.map(lambda x, y: (x, 2 * y)) for name, dataset in datasets.items()}, stats


def first_labels(data: FitData) -> np.ndarray:
    return next(data.val.as_numpy_iterator())[1]


def test_a_subclass_that_overrides_prepare_datasets_is_not_passed_over(tiny):
    config = tiny()
    plain, doubled = PreprocessorTriaxialCompression(**config), Doubled(**config)
    expected = 2 * first_labels(Feed(configured(plain, config)).prepare(plain))
    np.testing.assert_array_equal(first_labels(Feed(configured(doubled, config)).prepare(doubled)), expected)


def test_data_sets_are_scaled_and_windowed_as_arrays_are(tiny):
    config = tiny(standardize_inputs=True, window_step=2)
    plain, doubled = PreprocessorTriaxialCompression(**config), Doubled(**config)
    by_arrays, by_sets = (Feed(configured(each, config)).prepare(each) for each in (plain, doubled))
    assert by_arrays.n_batches == by_sets.n_batches
    for left, right in zip(by_arrays.test.as_numpy_iterator(), by_sets.test.as_numpy_iterator(), strict=True):
        np.testing.assert_allclose(left[0]["inputs"], right[0]["inputs"], atol=1e-6)
        np.testing.assert_allclose(left[0]["params"], right[0]["params"], atol=1e-6)
        np.testing.assert_allclose(2 * left[1], right[1], atol=1e-6)


def test_missing_statistics_are_named():
    with pytest.raises(ModelError, match="train_stats has no inputs_mean, which the configuration asks for; it has x"):
        scaling_of({"x": 1}, "inputs_")


def test_one_mapping_serves_preprocessor_and_training(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = np.arange(8.0)
    config = {"input_data": steps, "param_data": np.ones((10, 2)), "output_data": steps[None, None].repeat(10, axis=0)}
    config |= {"train_frac": 0.6, "val_frac": 0.2, "window_size": 3, "epochs": 1, "lstm_units": 2, "dense_units": 2}
    preprocessor = PreprocessorLSTM.from_dict(config)
    train.train_without_wandb(preprocessor, {**train.get_default_config(), **config})
    model, stats, found = predict.get_pretrained_model("outputs")
    data = preprocessor.prepare_input_data(np.ones((4, 2)))
    assert predict.predict_macroscopics(model, data, stats, found).shape == (4, 8, 1)
    del config["param_data"]
    with pytest.raises(ConfigError, match="param_data: this key is required"):
        PreprocessorLSTM.from_dict(config)


def test_a_network_with_a_list_of_inputs_is_traced_once(tiny):
    inputs, params = keras.Input((3, 3), name="inputs"), keras.Input((4,), name="params")
    hidden = keras.layers.LSTM(2)(inputs)
    model = keras.Model([inputs, params], keras.layers.Dense(2)(keras.layers.Concatenate()([hidden, params])))
    config = tiny(standardize_outputs=False)
    stats = PreprocessorTriaxialCompression(**config).prepare_arrays().train_stats
    rng = np.random.default_rng(0)
    for n, n_steps in ((1, 5), (4, 5), (4, 9)):
        sequences, values = rng.random((n, n_steps, 3), "float32"), rng.random((n, 4), "float32")
        predicted = predict.predict_sequences(model, sequences, values, stats, config)
        seen = windows.make_windows(sequences, 3)[:, 1:].reshape(-1, 3, 3)
        expected = model([seen, values.repeat(n_steps - 3, axis=0)]).numpy()
        np.testing.assert_allclose(predicted.reshape(-1, 2), expected, atol=1e-6)
    assert prediction._compiled(model, 3, 3, 4).experimental_get_tracing_count() == 1


def test_prediction_windows_end_at_window_size_and_later():
    np.testing.assert_array_equal(windows.prediction_index(2, 5, 3), [[0, 3], [0, 4], [1, 3], [1, 4]])


def test_a_broken_whole_model_is_refused(tmp_path: Path):
    path = tmp_path / layout.MODEL_WHOLE
    path.write_bytes(b"PK\x03\x04 half of a model")
    with pytest.raises(ModelError, match="model-best.keras: cannot be loaded"):
        artifact.load_model(path, RunConfig(raw_data="x.hdf5"), STATS)


def test_a_configuration_in_the_form_of_wandb_is_unpacked(tmp_path: Path):
    folder = layout.RunFolder(tmp_path)
    layout.write_text(
        folder.config,
        "wandb_version: 1\n_wandb:\n  value: {}\nraw_data:\n  value: x.hdf5\nepochs:\n  desc: null\n  value: 3\n",
    )
    layout.write_json(folder.train_stats, STATS)
    assert artifact.load_description(folder)[0] == RunConfig(raw_data="x.hdf5", epochs=3)
    with folder.config.open("a") as file:
        file.write("smoothing:\n  value: 3\n")
    with pytest.raises(ConfigError, match="smoothing: unknown key"):
        artifact.load_description(folder)
    # The keys of a preprocessor of the user's own are known to it alone.
    with folder.config.open("a") as file:
        file.write("preprocessor:\n  value: my_data:Mine\n")
    assert artifact.load_description(folder)[0] == RunConfig(raw_data="x.hdf5", epochs=3)


@pytest.mark.parametrize(
    ("stats", "message"),
    [
        ([], "a mapping is needed, this is a list"),
        ({"num_input_features": 3, "num_params": 4}, "num_labels must be a whole number from 1, it is None"),
        ({"num_input_features": "3", "num_params": 4, "num_labels": 2}, "num_input_features must be .*, it is '3'"),
    ],
)
def test_broken_statistics_of_a_model_are_named(stats: object, message: str, tmp_path: Path):
    folder = layout.RunFolder(tmp_path)
    layout.write_text(folder.config, "raw_data: x.hdf5\n")
    folder.train_stats.write_text(json.dumps(stats))
    with pytest.raises(ModelError, match=f"train_stats.json: is broken: {message}"):
        artifact.load_description(folder)


@pytest.mark.parametrize("weights_only", [False, True])
def test_a_model_of_another_description_is_refused(weights_only: bool, tmp_path: Path):
    config = RunConfig(raw_data="x.hdf5", window_size=5, lstm_units=2, dense_units=2)
    path = layout.RunFolder(tmp_path).model(weights_only=weights_only)
    artifact.save_model(rnn_model(STATS, **config.as_dict()), path)
    artifact.load_model(path, config, STATS)
    with pytest.raises(ModelError, match=r"cannot be loaded|takes params of shape \(4,\).* describes \(5,\)"):
        artifact.load_model(path, config, {**STATS, "num_params": 5})
    if not weights_only:
        with pytest.raises(ModelError, match=r"takes inputs of shape \(5, 3\), but its folder describes \(6, 3\)"):
            artifact.load_model(path, config.model_copy(update={"window_size": 6}), STATS)


def test_a_network_that_does_not_fit_into_memory_is_one_message(tiny, tmp_path: Path):
    config = tiny(lstm_units=1_000_000)
    preprocessor = PreprocessorTriaxialCompression(**config)
    with pytest.raises(OutOfMemory, match="lstm_units=1000000, .* need more memory than there is"):
        train.run_training(preprocessor, configured(preprocessor, config), layout.RunFolder(tmp_path))
