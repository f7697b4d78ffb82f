from __future__ import annotations

import numpy as np
import pytest

from glrnn_hpc.config import RunConfig, parse
from glrnn_hpc.models.lstm import rnn_model, rnn_model_for_triax
from glrnn_hpc.surrogate.model_cache import Compiled

SHAPES = {"num_input_features": 3, "num_params": 4, "num_labels": 2}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_the_network_is_the_one_that_is_described():
    """Initial state by tanh of the parameters, LSTM, dense relu, dense: evaluated by hand in NumPy."""
    rng = np.random.default_rng(2)
    model = rnn_model(SHAPES, window_size=5, lstm_units=6, dense_units=7)
    weights = {}
    for name in ("state_h", "state_c", "lstm", "dense", "response"):
        layer = model.get_layer(name)
        layer.set_weights([rng.normal(0, 0.7, array.shape) for array in layer.get_weights()])
        weights[name] = [array.astype("float64") for array in layer.get_weights()]
    inputs, params = rng.normal(size=(9, 5, 3)), rng.normal(size=(9, 4))
    h, c = (np.tanh(params @ weights[name][0] + weights[name][1]) for name in ("state_h", "state_c"))
    kernel, recurrent, bias = weights["lstm"]
    for step in range(5):
        gates = inputs[:, step] @ kernel + h @ recurrent + bias
        i, f, g, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    hidden = np.maximum(h @ weights["dense"][0] + weights["dense"][1], 0)
    expected = hidden @ weights["response"][0] + weights["response"][1]
    found = model({"inputs": inputs.astype("float32"), "params": params.astype("float32")}).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_seed_decides_the_initial_weights():
    first, again, other = (rnn_model(SHAPES, 5, 4, 4, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim == 2)


def test_grainlearnings_model_for_triaxial_tests_is_the_same_network():
    old = {"num_load_features": 3, "num_contact_params": 4, "num_labels": 2}
    weights = [build(old, 5, 4, 4, seed=1).get_weights() for build in (rnn_model, rnn_model_for_triax)]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_arguments_of_adam_reach_it():
    model = rnn_model(SHAPES, 5, 4, 4)
    keys = {"learning_rate": 0.02, "beta_1": 0.8, "epsilon": 1e-5, "amsgrad": True, "clipnorm": 2.0}
    Compiled(model, parse(RunConfig, {"raw_data": "x", **keys}))
    found = model.optimizer.get_config()
    assert {key: found[key] for key in keys} == {**keys, "learning_rate": pytest.approx(0.02)}
    assert found["beta_2"] == 0.999
