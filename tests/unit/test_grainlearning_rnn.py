"""What the ten unit tests of GrainLearning's RNN module ask for, written anew for this package.

Files have our names. What those tests ask for beside this and cannot get is in a table of docs/grainlearning.md.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

from glrnn_hpc import layout, predict, train, windows
from glrnn_hpc.models import rnn_model
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.grainlearning_names import Arrays
from tests.unit.surrogate.test_legacy import model_of_grainlearning

#: Groups of the file and their numbers of samples, of three steps, two load features and four labels without names.
GROUPS = {"0.2e5/drained": 2, "1000000/undrained": 10, "2000000.6/undrained": 4}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write the file, go to its folder, and return a configuration that trains on one of its groups."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    with h5py.File("data.hdf5", "w") as file:
        for name, n in GROUPS.items():
            file[f"{name}/inputs"] = rng.random((n, 3, 2))
            file[f"{name}/outputs"] = rng.random((n, 3, 4))
            file[f"{name}/contact_params"] = rng.random((n, 5))
    switched_off = dict.fromkeys(("add_e0", "add_pressure", "add_experiment_type", "standardize_outputs"), False)
    sizes = {"window_size": 1, "window_step": 1, "pad_length": 0, "lstm_units": 2, "dense_units": 2, "batch_size": 2}
    chosen = {"raw_data": "data.hdf5", "pressure": "2000000.6", "experiment_type": "undrained"}
    fractions = {"train_frac": 0.5, "val_frac": 0.25, "patience": 2, "epochs": 2, "learning_rate": 1e-3}
    return {**chosen, **switched_off, **sizes, **fractions, "save_weights_only": False}


@pytest.fixture
def dataset() -> Arrays:
    rng = np.random.default_rng(2)
    return {"inputs": rng.random((100, 10, 4)), "params": rng.random((100, 5))}, rng.random((100, 10, 3))


def splits_of(dataset: Arrays, train_frac: float = 0.7, val_frac: float = 0.15) -> dict[str, Arrays]:
    return PreprocessorTriaxialCompression.make_splits(dataset, train_frac, val_frac, seed=42)


def test_the_network_has_seven_layers_and_one_response_for_each_window():
    shapes = {"num_contact_params": 6, "num_load_features": 4, "num_labels": 5, "sequence_length": 200}
    model = rnn_model(shapes, 20)
    assert len(model.layers) == 7
    response = model({"inputs": np.ones((2, 20, 4), "float32"), "params": np.ones((2, 6), "float32")})
    assert response.shape == (2, 5)


@pytest.mark.parametrize(("weights_only", "model"), [(False, layout.MODEL_WHOLE), (True, layout.MODEL_WEIGHTS)])
def test_training_leaves_its_files_in_the_latest_run_and_in_outputs(
    config: dict[str, Any], weights_only: bool, model: str, capsys, monkeypatch
):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    config["save_weights_only"] = weights_only
    preprocessor = PreprocessorTriaxialCompression(**config)
    trained = train.train(preprocessor, config=config)
    # Twice: an earlier folder of the same name is in nobody's way.
    histories = [trained, *(train.train_without_wandb(preprocessor, config=config, verbose=0) for _ in range(2))]
    for folder in (Path("wandb/latest-run/files"), Path("outputs")):
        assert {path.name for path in folder.iterdir()} >= {model, "train_stats.json", "config.yaml"}
    assert all(history.history.keys() == {"loss", "mae", "val_loss", "val_mae"} for history in histories)
    printed = capsys.readouterr().out
    assert printed.count("test loss = ") == 1
    assert "val_loss" in printed  # Keras' progress
    shutil.rmtree("wandb")


@pytest.mark.parametrize("form", ["whole", "weights"])
def test_pretrained_models_have_their_statistics_and_their_configuration(tmp_path: Path, form: str):
    given = {"window_size": 4, "standardize_outputs": False, "save_weights_only": form != "whole"}
    folder = model_of_grainlearning(tmp_path / form, form, **given, stats={"mean": None, "std": None})
    model, stats, config = predict.get_pretrained_model(folder)
    assert len(model.layers) == 7
    model.summary(print_fn=lambda *_, **__: None)
    assert stats.keys() >= {"sequence_length", "num_input_features", "num_params", "num_labels"}
    assert given.items() <= config.items()
    assert (predict.load_config(folder), predict.load_model(folder, stats, config).count_params()) == (
        config,
        model.count_params(),
    )


def test_predictions_are_as_long_as_padded_sequences_and_others_are_refused(config: dict[str, Any]):
    preprocessor = PreprocessorTriaxialCompression(**config)
    data, stats = preprocessor.prepare_datasets()
    model = rnn_model(stats, **config)
    assert predict.predict_macroscopics(model, data["test"], stats, config, batch_size=1).shape == (1, 3 - 1, 4)
    padded_config = {**config, "pad_length": 1, "train_frac": 0.25, "val_frac": 0.25}
    padding = PreprocessorTriaxialCompression(**padded_config)
    padded, padded_stats = padding.prepare_datasets()
    predicted = predict.predict_macroscopics(model, padded["test"], padded_stats, padded_config, batch_size=2)
    assert predicted.shape == (2, 3, 4)
    with pytest.raises(ValueError, match="sequences of 4 steps, the model was trained with 3"):
        predict.predict_macroscopics(model, padding.prepare_single_dataset(), stats, padded_config, batch_size=2)


@pytest.mark.parametrize("window_size", [1, 2])
def test_a_network_runs_over_the_windows_of_a_batch(config: dict[str, Any], window_size: int):
    config |= {"pressure": "1000000", "window_size": window_size}
    data, stats = PreprocessorTriaxialCompression(**config).prepare_datasets()
    model = rnn_model(stats, window_size=window_size)
    inputs, _ = next(iter(data["test"].batch(1)))
    predicted = predict.predict_over_windows(inputs, model, window_size, stats["sequence_length"])
    assert isinstance(predicted, tf.Tensor)
    assert predicted.shape == (1, 3 - window_size, 4)
    last = model({"inputs": inputs["inputs"][:, -window_size:], "params": inputs["params"]})
    np.testing.assert_allclose(predicted[:, -1], last, atol=1e-6)


@pytest.mark.parametrize(("train_frac", "val_frac"), [(0.5, 0.25), (0.7, 0.15), (0.1, 0.5)])
def test_splits_have_the_sizes_of_their_fractions(dataset: Arrays, train_frac: float, val_frac: float):
    splits = splits_of(dataset, train_frac, val_frac)
    sizes = {"train": int(train_frac * 100), "val": int(val_frac * 100)}
    sizes["test"] = 100 - sum(sizes.values())
    for name, (inputs, labels) in splits.items():
        shapes = (inputs["inputs"].shape, inputs["params"].shape, labels.shape)
        assert shapes == ((sizes[name], 10, 4), (sizes[name], 5), (sizes[name], 10, 3))
    for fractions, message in (((1.0, 0.0), "leave the val split empty"), ((0.9, 0.2), "more than all sequences")):
        with pytest.raises(ValueError, match=message):
            splits_of(dataset, *fractions)


def test_dimensions_are_those_of_a_sequence(dataset: Arrays):
    for split in splits_of(dataset).values():
        found = PreprocessorTriaxialCompression.get_dimensions(tf.data.Dataset.from_tensor_slices(split))
        assert found == {"sequence_length": 10, "num_input_features": 4, "num_params": 5, "num_labels": 3}


@pytest.mark.parametrize(("pressure", "kind", "n"), [("All", "All", 16), ("0.2e5", "drained", 2)])
def test_groups_of_an_open_file_are_merged(config: dict[str, Any], pressure: str, kind: str, n: int):
    config |= {"pressure": pressure, "experiment_type": kind, "add_pressure": True, "add_experiment_type": True}
    preprocessor = PreprocessorTriaxialCompression(**config)
    with h5py.File("data.hdf5") as file:
        inputs, outputs, params = preprocessor._merge_datasets(file)
        assert (inputs.shape, outputs.shape, params.shape) == ((n, 3, 2), (n, 3, 4), (n, 5 + 2))
        np.testing.assert_allclose(inputs[:2], file["0.2e5/drained/inputs"][:], rtol=1e-6)


def test_data_sets_have_the_parameters_and_the_windows_that_were_asked_for(config: dict[str, Any], caplog):
    caplog.set_level(logging.ERROR)  # of the first output that is taken for e
    config |= {"pressure": "1000000", "train_frac": 0.7, "val_frac": 0.15}

    def prepared(**changes: Any) -> tuple[dict[str, tf.data.Dataset], dict[str, Any]]:
        data, stats = PreprocessorTriaxialCompression(**{**config, **changes}).prepare_datasets()
        return data, dict(stats)

    data, stats = prepared(standardize_outputs=True)
    assert data.keys() == {"train", "val", "test"}
    assert all(isinstance(split, tf.data.Dataset) for split in data.values())
    assert stats.keys() >= {"mean", "std", "sequence_length", "num_input_features", "num_params", "num_labels"}
    for pad_length, added in ((0, "add_e0"), (1, "add_pressure"), (3, "add_experiment_type")):
        data, others = prepared(**{added: True, "pad_length": pad_length})
        assert others["num_params"] == stats["num_params"] + 1
        assert not {"mean", "std"} & others.keys()
        assert len(data["train"]) == 7 * (3 + pad_length)
    with pytest.raises(FileNotFoundError):
        prepared(raw_data="nosuch.hdf5")


@pytest.mark.parametrize(("window_size", "window_step"), [(2, 2), (3, 2), (3, 1)])
def test_windows_of_a_data_set_are_those_of_grainlearning_in_its_order(
    dataset: Arrays, window_size: int, window_step: int
):
    split, labels = splits_of(dataset)["train"]
    inputs, params, labels = (np.asarray(values) for values in (split["inputs"], split["params"], labels))
    data = tf.data.Dataset.from_tensor_slices(({"inputs": inputs, "params": params}, labels))
    cut = windows.windowize_single_dataset(data, window_size=window_size, window_step=window_step)
    ends = range(window_size - 1, 10, window_step)
    expected = [
        (inputs[n, end + 1 - window_size : end + 1], params[n], labels[n, end]) for end in ends for n in range(70)
    ]
    order = np.random.RandomState(42).permutation(len(expected))
    assert len(cut) == len(expected)
    ((found, response),) = cut.batch(len(expected))
    np.testing.assert_array_equal(found["inputs"], np.stack([expected[k][0] for k in order]))
    np.testing.assert_array_equal(found["params"], np.stack([expected[k][1] for k in order]))
    np.testing.assert_array_equal(response, np.stack([expected[k][2] for k in order]))
    with pytest.raises(ValueError, match="window_size=11 does not fit"):
        windows.windowize_single_dataset(data, window_size=11)
    whole = windows.windowize_train_val_test(dict.fromkeys(("train", "val", "test"), data), window_size, window_step)
    assert (len(whole["val"]), len(whole["test"])) == (len(expected), 70)
