from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from glrnn_hpc import layout, predict, train
from glrnn_hpc.config import RunConfig, parse
from glrnn_hpc.data import hdf5, shared
from glrnn_hpc.data.hdf5 import read_schema
from glrnn_hpc.errors import ConfigError, DataError, ModelError, TrainingDiverged, WindowError
from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.preprocessor.base import Preprocessor
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.splits import split_ids
from tests.conftest import INPUT_KEYS
from tests.losses import losses_of


def last_step_model(window_size: int, n_inputs: int = 3, n_params: int = 4) -> keras.Model:
    """Return a network that answers with the last step of its window."""
    inputs = keras.Input((window_size, n_inputs), name="inputs")
    params = keras.Input((n_params,), name="params")
    last = keras.layers.Lambda(lambda window: window[:, -1, :2])(inputs)
    return keras.Model({"inputs": inputs, "params": params}, last)


def stats_of(config: dict[str, Any]) -> dict[str, Any]:
    return PreprocessorTriaxialCompression(**config).prepare_arrays().train_stats


def run(config: dict[str, Any], folder: Path, **other: Any) -> train.Outcome:
    preprocessor = PreprocessorTriaxialCompression(**config)
    return train.run_training(preprocessor, train.full_config(preprocessor, config), layout.RunFolder(folder), **other)


@pytest.mark.parametrize("pad_length", [0, 1, 3, 5])
def test_predictions_line_up_with_the_labels_from_window_size_on(tiny, pad_length: int):
    config = tiny(pad_length=pad_length, standardize_outputs=False)
    data = PreprocessorTriaxialCompression(**config).prepare_single_dataset()
    labels = np.stack([label for _, label in data.as_numpy_iterator()])
    predicted = predict.predict_macroscopics(last_step_model(3), data, stats_of(config), config, batch_size=7).numpy()
    assert predicted.shape == (20, 12 + pad_length - 3, 2)
    np.testing.assert_array_equal(predicted[..., 0], labels[:, 3:, 0])
    # The steps of the padding are 0, those of a sequence begin at 0.
    np.testing.assert_array_equal(predicted[0, :, 0], np.maximum(np.arange(3 - pad_length, 12), 0))


def test_single_batch_predicts_the_first_batch_only(tiny):
    config = tiny(standardize_outputs=False)
    data = PreprocessorTriaxialCompression(**config).prepare_single_dataset()
    predicted = predict.predict_macroscopics(
        last_step_model(3), data, stats_of(config), config, batch_size=5, single_batch=True
    )
    assert predicted.shape[0] == 5


def test_predictions_come_in_original_units(tiny):
    config = tiny()
    data = PreprocessorTriaxialCompression(**config).prepare_single_dataset()
    stats = stats_of(config)
    predicted = predict.predict_macroscopics(last_step_model(3), data, stats, config).numpy()
    np.testing.assert_allclose(predicted[0, 0], 3 * stats["std"] + stats["mean"], rtol=1e-6)


@pytest.mark.parametrize("n_steps", [4, 5, 30])
def test_sequences_of_another_length_are_predicted(tiny, n_steps: int):
    config = tiny(standardize_outputs=False)
    inputs = np.arange(float(n_steps), dtype="float32")[None, :, None].repeat(3, axis=2)
    predicted = predict.predict_sequences(
        last_step_model(3), inputs, np.zeros((1, 4), "float32"), stats_of(config), config
    )
    np.testing.assert_array_equal(predicted[0, :, 0], np.arange(3, n_steps))


def test_data_that_do_not_fit_the_model_are_refused_with_both_numbers(tiny):
    config, model = tiny(), last_step_model(3)
    stats = stats_of(config)

    def ask(n_steps: int, n_inputs: int, n_params: int) -> None:
        predict.predict_sequences(model, np.zeros((1, n_steps, n_inputs)), np.zeros((1, n_params)), stats, config)

    with pytest.raises(ModelError, match="the data have 2 features of the load sequence, the model was trained with 3"):
        ask(8, 2, 4)
    with pytest.raises(ModelError, match="the data have 5 parameters, the model was trained with 4"):
        ask(8, 3, 5)
    with pytest.raises(WindowError, match="sequences of 3 steps are too short for a model with window_size=3"):
        ask(3, 3, 4)
    with pytest.raises(ModelError, match="train_stats has no num_params"):
        predict.predict_sequences(model, np.zeros((1, 8, 3)), np.zeros((1, 4)), {"num_input_features": 3}, config)
    shapes = {"num_input_features": 3, "num_params": 4}
    with pytest.raises(ModelError, match="train_stats has no mean"):
        predict.predict_sequences(model, np.zeros((1, 8, 3)), np.zeros((1, 4)), shapes, config)
    with pytest.raises(DataError, match="no sequence to predict"):
        predict.predict_macroscopics(
            model, PreprocessorTriaxialCompression(**config).prepare_single_dataset().take(0), stats, config
        )


@pytest.mark.parametrize("weights_only", [True, False])
def test_a_training_leaves_files_that_give_the_logged_loss_again(tiny, tmp_path: Path, weights_only: bool):
    config = tiny(save_weights_only=weights_only, standardize_inputs=True, add_e0=True, beta_1=0.8)
    outcome = run(config, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    model_name = layout.MODEL_WEIGHTS if weights_only else layout.MODEL_WHOLE
    assert names == {"config.yaml", "train_stats.json", "metrics.csv", model_name}
    again = losses_of(tmp_path / "run")
    assert again == pytest.approx({name: outcome.metrics[name] for name in again}, rel=1e-5)
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert rows[0] == "epoch,loss,mae,val_loss,val_mae"
    assert len(rows) == 1 + outcome.epochs


def test_same_seed_same_numbers_and_another_seed_others(tiny, tmp_path: Path):
    first, second, other = (run(tiny(seed=seed), tmp_path / name) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first.history.history == second.history.history
    assert first.history.history != other.history.history
    weights = [predict.get_pretrained_model(tmp_path / name)[0].get_weights() for name in "ab"]
    for left, right in zip(*weights, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("key", [{"standardize_outputs": False}, {"window_step": 4}, {"pad_length": 3}])
def test_other_preprocessing_trains_and_predicts(tiny, tmp_path: Path, key: dict[str, Any]):
    config = tiny(**key)
    outcome = run(config, tmp_path / "run")
    assert all(math.isfinite(value) for value in outcome.metrics.values())
    found = predict.predict_file(tmp_path / "run", config["raw_data"], tmp_path / "p.hdf5", "all")
    assert found["n_sequences"] == 20
    assert set(found["metrics"]) == {"e", "p"}


def test_predictions_are_written_in_the_groups_of_the_data(tiny, tmp_path: Path):
    import h5py

    config = tiny()
    run(config, tmp_path / "run")
    predict.predict_file(tmp_path / "run", config["raw_data"], tmp_path / "p.hdf5")
    schema = read_schema(tmp_path / "p.hdf5")
    assert [group.name for group in schema.groups] == ["0.2e6/drained"]
    with h5py.File(tmp_path / "p.hdf5") as file:
        group = file["0.2e6/drained"]
        np.testing.assert_array_equal(group["simulated"][0, :, 0], np.arange(3, 12))
        np.testing.assert_array_equal(group["inputs"][0, :, 0], np.arange(3, 12))
        assert group["outputs"].shape == (3, 9, 2)
        assert len(group["samples"]) == 3


def test_divergence_stops_the_run_with_a_clear_error(tiny, tmp_path: Path):
    with pytest.raises(TrainingDiverged, match=r"epoch 1; learning_rate=1e\+30 is too high"):
        run(tiny(learning_rate=1e30), tmp_path / "run")


def test_training_stops_when_val_loss_does_not_improve(tiny, tmp_path: Path):
    outcome = run(tiny(learning_rate=1e-30, epochs=9, patience=2), tmp_path / "run")
    assert (outcome.epochs, outcome.best_epoch) == (3, 1)


def test_an_earlier_outputs_folder_is_kept_aside(tiny, tmp_path: Path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "mine").touch()
    preprocessor = PreprocessorTriaxialCompression(**tiny())
    history = train.train_without_wandb(preprocessor, tiny())
    assert (tmp_path / "outputs-1" / "mine").exists()
    assert "renamed to outputs-1/" in caplog.text
    assert len(history.history["val_loss"]) == 2
    assert predict.get_pretrained_model("outputs")[2]["lstm_units"] == 4


class Twice(Preprocessor):
    """A user's own experiment, with the names of GrainLearning's older data sets."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._inner = PreprocessorTriaxialCompression(**config)

    def prepare_datasets(self, seed: int = 42):
        datasets, stats = self._inner.prepare_datasets(seed)

        def old(inputs, labels):
            return {"load_sequence": inputs["inputs"], "contact_parameters": inputs["params"]}, labels

        return {name: dataset.map(old) for name, dataset in datasets.items()}, stats

    def prepare_single_dataset(self):
        return self._inner.prepare_single_dataset()

    @classmethod
    def get_default_config(cls) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("is_scaled", [True, False])
def test_a_preprocessor_and_a_model_of_the_users_own_are_trained(tiny, tmp_path: Path, monkeypatch, is_scaled: bool):
    monkeypatch.chdir(tmp_path)
    config = {key: value for key, value in tiny(standardize_inputs=is_scaled).items() if key != "raw_data"}
    shapes = {"num_input_features": 3, "num_params": 4, "num_labels": 2}
    own = rnn_model(shapes, window_size=3, lstm_units=2, dense_units=2)
    before = own.get_weights()[0].copy()
    history = train.train_without_wandb(Twice(tiny()), config, own)
    assert len(history.history["loss"]) == 2
    assert not np.array_equal(before, own.get_weights()[0])


def test_a_key_given_twice_must_agree(tiny):
    preprocessor = PreprocessorTriaxialCompression(**tiny())
    with pytest.raises(ConfigError, match="config.window_size: 5 was given, but the preprocessor was made with 3"):
        train.full_config(preprocessor, {"window_size": 5})
    with pytest.raises(ConfigError, match="ranks_per_trial: a single run trains on one rank, 2 were asked for"):
        train.full_config(preprocessor, {"ranks_per_trial": 2})
    assert train.get_default_config()["lstm_units"] == 200


def test_incomplete_model_folders_say_what_was_looked_for(tiny, tmp_path: Path):
    with pytest.raises(ModelError, match="there is no such folder"):
        predict.get_pretrained_model(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"config.yaml, train_stats.json and model-best.keras .* it has nothing"):
        predict.get_pretrained_model(tmp_path / "empty")
    run(tiny(save_weights_only=True), tmp_path / "run")
    weights = tmp_path / "run" / layout.MODEL_WEIGHTS
    weights.rename(tmp_path / "kept")
    with pytest.raises(ModelError, match="holds neither model-best.keras nor model-best.weights.h5"):
        predict.get_pretrained_model(tmp_path / "run")
    weights.write_bytes((tmp_path / "kept").read_bytes()[:500])
    with pytest.raises(ModelError, match="cannot be loaded"):
        predict.get_pretrained_model(tmp_path / "run")
    (tmp_path / "run" / "train_stats.json").write_text("{")
    with pytest.raises(ModelError, match="train_stats.json: is broken"):
        predict.get_pretrained_model(tmp_path / "run")


def test_errors_per_label_by_hand():
    simulated = np.array([[[0.0, 1.0], [2.0, 1.0]]])
    predicted = np.array([[[1.0, 1.0], [2.0, 3.0]]])
    found = predict.metrics_per_label(predicted, simulated, ["e", "p"])
    assert found["e"] == {"mae": 0.5, "rmse": pytest.approx(math.sqrt(0.5)), "r2": 0.5}
    assert found["p"]["r2"] == 0
    assert predict.metrics_per_label(simulated, simulated, ["e", "p"])["p"]["r2"] == 1


def test_old_shape_names_are_understood():
    old = {"num_load_features": 1, "num_contact_params": 2, "num_labels": 1}
    assert rnn_model(old, window_size=4, lstm_units=2, dense_units=2, patience=3).output_shape == (None, 1)
    with pytest.raises(ConfigError, match="num_labels is missing"):
        rnn_model({"num_load_features": 1, "num_contact_params": 2})


def test_train_stats_are_json_that_reads_back(tiny, tmp_path: Path):
    run(tiny(), tmp_path / "run")
    stats = json.loads((tmp_path / "run" / "train_stats.json").read_text())
    assert stats["label_names"] == ["e", "p"]
    assert stats["split_seed"] == 42
    np.testing.assert_allclose(stats["mean"], [5.5, 1005.5])


def test_predictions_never_take_the_place_of_the_data_or_the_model(tiny, steps_file: Path, tmp_path: Path):
    config = parse(RunConfig, tiny(epochs=1))
    train.run_training(PreprocessorTriaxialCompression(**config.as_dict()), config, layout.RunFolder(tmp_path / "m"))
    before = steps_file.read_bytes()
    for out in (steps_file, tmp_path / "m" / ".." / steps_file.name, tmp_path / "m" / "config.yaml", tmp_path):
        with pytest.raises(ConfigError, match="choose another"):
            predict.predict_file(tmp_path / "m", steps_file, out)
    assert steps_file.read_bytes() == before


def test_data_with_other_columns_than_the_training_are_refused_before_anything_is_written(
    tiny, steps_file: Path, tmp_path: Path
):
    config = parse(RunConfig, tiny(epochs=1))
    train.run_training(PreprocessorTriaxialCompression(**config.as_dict()), config, layout.RunFolder(tmp_path / "m"))
    params, inputs, outputs = np.ones((20, 2)), np.ones((20, 12, 3)), np.ones((20, 12, 3))
    names = {"contact_params": ["E", "v"], "inputs": ["e_x", "e_y", "e_z"], "outputs": ["e", "p"]}
    wrong = [
        ({**names, "outputs": ["p", "e"]}, "label columns e, p; .* has p, e"),
        ({**names, "outputs": ["e", "p", "q"]}, "label columns e, p; .* has e, p, q"),
        ({**names, "inputs": ["e_z", "e_y", "e_x"]}, "input columns e_x, e_y, e_z; .* has e_z, e_y, e_x"),
        ({**names, "contact_params": ["v", "E"]}, "param columns E, v, pressure, experiment_type; .* has v, E, "),
    ]
    for columns, message in wrong:
        arrays = (params, inputs, outputs[..., : len(columns["outputs"])])
        hdf5.write_file(tmp_path / "other.hdf5", {"0.2e6/drained": arrays}, **columns)
        with pytest.raises(ModelError, match=message):
            predict.predict_file(tmp_path / "m", tmp_path / "other.hdf5", tmp_path / "p.hdf5")
    assert not (tmp_path / "p.hdf5").exists()


def test_data_that_no_network_can_learn_from_are_refused(tiny, tmp_path: Path):
    names = {"contact_params": ["E"], "inputs": ["e_z"], "outputs": ["e", "p"]}
    params, inputs, outputs = np.ones((20, 1)), np.ones((20, 12, 1)), np.ones((20, 12, 2))
    outputs[3, 5, 1] = np.nan
    hdf5.write_file(tmp_path / "nan.hdf5", {"0.2e6/drained": (params, inputs, outputs)}, **names)
    with pytest.raises(DataError, match=r"0\.2e6/drained/outputs holds NaN .* first one in p of sample 3"):
        shared.read_data(tmp_path / "nan.hdf5")
    hdf5.write_file(tmp_path / "cyclic.hdf5", {"0.2e6/cyclic": (params, inputs, inputs)}, **{**names, "outputs": ["e"]})
    config = tiny(raw_data=str(tmp_path / "cyclic.hdf5"))
    with pytest.raises(DataError, match="0.2e6/cyclic is neither drained nor undrained; set add_experiment_type"):
        PreprocessorTriaxialCompression(**config).prepare_arrays()
    assert PreprocessorTriaxialCompression(**config, add_experiment_type=False).prepare_arrays()


def test_a_run_never_takes_the_place_of_a_file_or_of_the_current_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("mine")
    for folder in (Path("c.yaml"), Path(), tmp_path):
        with pytest.raises(ConfigError, match="is a file or the current folder"):
            layout.keep_aside(folder)
    assert (tmp_path / "c.yaml").read_text() == "mine"


def test_the_test_split_of_a_prediction_is_that_of_the_training(tiny, tmp_path: Path):
    config = tiny()
    run(config, tmp_path / "run")
    predict.predict_file(tmp_path / "run", config["raw_data"], tmp_path / "p.hdf5")
    with h5py.File(tmp_path / "p.hdf5") as file:
        samples = file["0.2e6/drained/samples"][...]
    np.testing.assert_array_equal(samples, sorted(split_ids(20, 0.7, 0.15, 42)["test"]))

    with h5py.File(config["raw_data"], "a") as file:
        for name in ("contact_params", "inputs", "outputs"):
            values = file[f"0.2e6/drained/{name}"][1:]
            del file[f"0.2e6/drained/{name}"]
            file[f"0.2e6/drained/{name}"] = values
    with pytest.raises(ModelError, match="other sequences than the model was trained on.* use --split all"):
        predict.predict_file(tmp_path / "run", config["raw_data"], tmp_path / "q.hdf5")
    assert predict.predict_file(tmp_path / "run", config["raw_data"], tmp_path / "q.hdf5", "all")["n_sequences"] == 19


def test_a_prediction_scales_inputs_and_labels_as_the_training_did(tiny, tmp_path: Path):
    rng = np.random.default_rng(5)
    arrays = (rng.normal(9, 1, (20, 2)), rng.normal(3, 2, (20, 12, 3)), rng.normal(50, 4, (20, 12, 2)))
    path = tmp_path / "random.hdf5"
    names = {"contact_params": ["E", "v"], "inputs": INPUT_KEYS, "outputs": ["e", "p"]}
    hdf5.write_file(path, {"0.2e6/drained": arrays}, **names)
    for is_scaled in (False, True):
        folder = tmp_path / f"run-{is_scaled}"
        run(tiny(raw_data=str(path), standardize_inputs=is_scaled, standardize_outputs=is_scaled), folder)
        model, stats, _ = predict.get_pretrained_model(folder)
        predict.predict_file(folder, path, tmp_path / "p.hdf5", "all")
        with h5py.File(tmp_path / "p.hdf5") as file:
            predicted = file["0.2e6/drained/outputs"][...]
        inputs, params = arrays[1].astype("float32"), arrays[0].astype("float32")
        params = np.concatenate([params, np.full((20, 1), 0.2), np.ones((20, 1))], axis=1).astype("float32")
        if is_scaled:
            inputs = (inputs - np.array(stats["inputs_mean"])) / np.array(stats["inputs_std"])
            std = np.array(stats["params_std"])
            params = (params - np.array(stats["params_mean"])) / np.where(std > 0, std, 1)
        expected = model({"inputs": inputs[:, 5:8].astype("float32"), "params": params.astype("float32")}).numpy()
        if is_scaled:
            expected = expected * np.array(stats["std"]) + np.array(stats["mean"])
        # The window of steps 5 to 7 answers for step 7; the first answer is for step 3.
        np.testing.assert_allclose(predicted[:, 4], expected, rtol=2e-5)
