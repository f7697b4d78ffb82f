"""A network of a user's own, from one file outside the package, and the GRU: trained, cached, exported, predicted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import config, layout, predict, train
from glrnn_hpc.errors import ConfigError, ModelError
from glrnn_hpc.models import registry
from glrnn_hpc.models.gru import gru
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.search.sweep import load_sweep, trial_config
from glrnn_hpc.surrogate import artifact, model_cache

SHAPES = {"num_input_features": 3, "num_params": 4, "num_labels": 2}

MODULE = """
import keras

from glrnn_hpc.config import Positive


def convolution(input_shapes, window_size, seed, filters: int = 4, rate: Positive = 0.5, activation="tanh"):
    inputs = keras.Input((window_size, input_shapes["num_input_features"]), name="inputs")
    params = keras.Input((input_shapes["num_params"],), name="params")
    hidden = keras.layers.Conv1D(filters, 2, activation=activation)(inputs)
    hidden = keras.layers.Dropout(rate, seed=seed)(keras.layers.Flatten()(hidden))
    hidden = keras.layers.Concatenate()([hidden, params])
    return keras.Model({"inputs": inputs, "params": params}, keras.layers.Dense(input_shapes["num_labels"])(hidden))


def without_layers(input_shapes):
    return "no model"


not_a_function = 3


def hiding(input_shapes, copy=1):
    pass


def misplaced(window_size, input_shapes):
    pass
"""


@pytest.fixture(autouse=True)
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a user's file into the current folder, and forget its module afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_networks.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)


def run(folder: str, cache: model_cache.ModelCache | None = None, **keys: Any) -> tuple[Path, train.Outcome]:
    run_config = registry.run_config(keys)
    preprocessor = PreprocessorTriaxialCompression(**run_config.as_dict())
    return Path(folder), train.run_training(preprocessor, run_config, layout.RunFolder(Path(folder)), models=cache)


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize(
    "network", [{"network": "my_networks:convolution", "filters": 3}, {"network": "gru", "lstm_units": 3}]
)
def test_a_network_is_trained_written_and_predicted_with(network: dict[str, Any], weights_only: bool, tiny: Any):
    keys = tiny(save_weights_only=weights_only, **network)
    if "filters" in network:
        del keys["lstm_units"], keys["dense_units"]
    folder, outcome = run("run", **keys)
    sys.modules.pop("my_networks", None)
    model, stats, read = predict.get_pretrained_model(folder)
    assert network.items() <= read.items()
    assert ("lstm_units" in read) == ("filters" not in network)
    assert all(
        np.array_equal(*pair) for pair in zip(model.get_weights(), outcome.history.model.get_weights(), strict=True)
    )
    # What is read from the files makes the preprocessor again, and the prediction of a file does so.
    assert PreprocessorTriaxialCompression(**read).prepare_arrays().train_stats["num_labels"] == stats["num_labels"]
    assert predict.predict_file(folder, keys["raw_data"], "predicted.hdf5")["n_sequences"] == 3


def test_a_network_of_the_cache_trains_to_the_same_bits_as_a_new_one(tiny: Any, monkeypatch: pytest.MonkeyPatch):
    keys = tiny(network="my_networks:convolution", filters=3)
    del keys["lstm_units"], keys["dense_units"]
    _, expected = run("new", **keys)
    cache, made = model_cache.ModelCache(), []
    compiled = model_cache.Compiled
    monkeypatch.setattr(model_cache, "Compiled", lambda *given: made.append(given) or compiled(*given))
    run("before", cache, **{**keys, "learning_rate": 0.1, "batch_size": 7})
    _, outcome = run("after", cache, **keys)
    assert outcome.history.history == expected.history.history
    assert len(made) == 1
    run("other", cache, **{**keys, "rate": 0.25})
    assert len(made) == 2


def test_the_gru_starts_from_the_parameters():
    model = gru(SHAPES, 5, 6, 7, seed=1)
    inputs = np.zeros((1, 5, 3), "float32")
    one, other = (model({"inputs": inputs, "params": np.full((1, 4), value, "float32")}).numpy() for value in (0, 1))
    assert one.shape == (1, 2)
    assert not np.allclose(one, other)
    again, different = (gru(SHAPES, 5, 6, 7, seed=seed).get_weights() for seed in (1, 2))
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(again, different, strict=True) if a.any())


def test_the_keys_of_a_network_are_those_of_its_function():
    raw = {"raw_data": "x.hdf5", "network": "my_networks:convolution"}
    assert registry.run_config(raw).as_dict().items() >= {"filters": 4, "rate": 0.5, "activation": "tanh"}.items()
    # One mapping of defaults serves all networks.
    assert registry.run_config({**train.get_default_config(), **raw}).as_dict() == registry.run_config(raw).as_dict()
    for key, value, message in (
        ("filtres", 3, "config.filtres: unknown key; did you mean filters?"),
        ("filters", "many", "config.filters: .*valid integer.*'many' was given"),
        ("filters", True, "config.filters: a number is needed"),
        ("rate", 0, "config.rate: .*greater than 0"),
        (
            "lstm_units",
            30,
            "config.lstm_units: my_networks:convolution has no such key; its keys: filters, rate",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            registry.run_config({**raw, key: value})
    with pytest.raises(ConfigError, match="config.filters: unknown key"):
        registry.run_config({"raw_data": "x.hdf5", "network": "gru", "filters": 3})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "lstn",
            r"config.network: there is no network 'lstn'; did you mean lstm\? Known are lstm, gru. Name one of",
        ),
        (
            "lstn",
            "Name one of your own as module:function, such as my_networks:convolution, a function of",
        ),
        (3, "there is no network 3; Known are lstm, gru"),
        ("no_such_module:network", "config.network: no_such_module cannot be imported"),
        ("my_networks:missing", "config.network: my_networks has no missing"),
        ("my_networks:not_a_function", "my_networks:not_a_function is no function"),
        ("my_networks:hiding", "my_networks:hiding: copy cannot be the name of a key"),
        ("my_networks:misplaced", "its first parameter must be input_shapes, it takes window_size, input_shapes"),
    ],
)
def test_a_wrong_network_is_one_message(name: object, message: str):
    with pytest.raises(ConfigError, match=message):
        registry.run_config({"raw_data": "x.hdf5", "network": name})


def test_a_function_that_returns_no_model_is_named():
    own = registry.run_config({"raw_data": "x.hdf5", "network": "my_networks:without_layers"})
    with pytest.raises(ConfigError, match="my_networks:without_layers returned a str; a keras.Model is needed"):
        registry.build_network(own, SHAPES)


def test_a_sweep_compares_networks_and_searches_their_keys(steps_file: Path, tmp_path: Path):
    parameters = {
        "raw_data": {"value": str(steps_file)},
        "network": {"values": ["lstm", "my_networks:convolution"]},
        "filters": {"values": [2, 3]},
        "lstm_units": {"value": 4},
    }
    spec = load_sweep({"method": "grid", "parameters": parameters}, directory=str(tmp_path))
    own = trial_config(spec, {"network": "my_networks:convolution", "filters": 3}).as_dict()
    lstm = trial_config(spec, {"network": "lstm", "filters": 3}).as_dict()
    assert own["filters"] == 3
    assert lstm["lstm_units"] == 4
    assert "lstm_units" not in own
    assert "filters" not in lstm
    with pytest.raises(ConfigError, match="parameters.filter: unknown key; did you mean filters"):
        load_sweep({"method": "grid", "parameters": {**parameters, "filter": {"value": 1}}}, directory=str(tmp_path))
    with pytest.raises(ConfigError, match="parameters.network: there is no network 'gruu'; did you mean gru"):
        load_sweep({"method": "grid", "parameters": {"network": {"values": ["lstm", "gruu"]}}})


def test_files_that_were_downloaded_run_no_code(tmp_path: Path):
    own = registry.run_config({"raw_data": "x.hdf5", "network": "my_networks:convolution", "window_size": 5})
    folder = layout.RunFolder(tmp_path / "run")
    folder.root.mkdir()
    artifact.save_description(folder, own, SHAPES)
    path = folder.model(weights_only=True)
    artifact.save_model(registry.build_network(own, SHAPES), path)
    sys.modules.pop("my_networks")
    read, stats = artifact.load_description(folder)
    assert read.as_dict() == own.as_dict()
    with pytest.raises(
        ModelError, match="needs the network my_networks:convolution, but code that a downloaded file names"
    ):
        artifact.load_model(path, read, stats, may_run_own_code=False)
    assert "my_networks" not in sys.modules
    artifact.load_model(path, read, stats)
    # A whole model of Keras' own layers needs no code.
    (tmp_path / "my_networks.py").unlink()
    sys.modules.pop("my_networks")
    whole = folder.model(weights_only=False)
    artifact.save_model(registry.build_network(config.parse(config.RunConfig, {"raw_data": "x"}), SHAPES), whole)
    artifact.load_model(whole, read.model_copy(update={"window_size": 10}), stats)
    with pytest.raises(ConfigError, match="my_networks cannot be imported"):
        artifact.load_model(path, read, stats)
