"""The fast way to run the network gives what Keras gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.predict import predict_sequences
from glrnn_hpc.surrogate import kernels
from glrnn_hpc.surrogate.kernels import one_load_kernel

SHAPES = {"num_input_features": 3, "num_params": 7, "num_labels": 2}


def network(window_size: int = 4, **sizes: int) -> keras.Model:
    return rnn_model(SHAPES, window_size=window_size, **{"lstm_units": 6, "dense_units": 5, **sizes})


@pytest.mark.parametrize(("window_size", "n"), [(1, 3), (4, 1), (4, 7), (9, 40)])
def test_it_answers_as_keras_does_over_all_windows(window_size: int, n: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kernels, "_ROWS", 64)  # several blocks, the last of them shorter
    model = network(window_size)
    rng = np.random.default_rng(0)
    load = rng.normal(size=(30, 3)).astype("float32")
    params = rng.normal(size=(n, 7)).astype("float32")
    kernel = one_load_kernel(model, window_size)
    assert kernel is not None
    config = {"window_size": window_size, "standardize_outputs": False}
    expected = predict_sequences(model, np.repeat(load[None], n, axis=0), params, SHAPES, config)
    answered = kernel(load, params).numpy()
    assert answered.shape == (n, 30 - window_size, 2)
    np.testing.assert_allclose(answered, expected, atol=1e-5, rtol=0)


def test_it_answers_loads_and_sets_of_any_length_without_being_traced_anew():
    kernel = one_load_kernel(network(), 4)
    assert kernel is not None
    for n_steps, n in ((5, 2), (50, 3), (8, 1)):
        assert kernel(np.zeros((n_steps, 3), "float32"), np.zeros((n, 7), "float32")).shape == (n, n_steps - 4, 2)
    assert kernel.experimental_get_tracing_count() == 1


def swapped(window_size: int) -> keras.Model:
    """Return a network in which the two states change places; its layers and shapes are those of ours."""
    ours = network(window_size)
    sequence, params = ours.input["inputs"], ours.input["params"]
    states = [ours.get_layer(name)(params) for name in ("state_c", "state_h")]
    hidden = ours.get_layer("dense")(ours.get_layer("lstm")(sequence, initial_state=states))
    return keras.Model({"inputs": sequence, "params": params}, ours.get_layer("response")(hidden))


def other_activation(window_size: int) -> keras.Model:
    ours = network(window_size)
    ours.get_layer("dense").activation = keras.activations.tanh
    return ours


@pytest.mark.parametrize("other", [swapped, other_activation])
def test_a_network_that_computes_something_else_is_left_to_keras(other):
    assert one_load_kernel(network(4), 4) is not None
    assert one_load_kernel(other(4), 4) is None
    assert one_load_kernel(network(4), 5) is None


def test_a_network_of_other_layers_is_left_to_keras():
    sequence, params = keras.Input((4, 3), name="inputs"), keras.Input((7,), name="params")
    response = keras.layers.Dense(2)(keras.layers.Concatenate()([keras.layers.Flatten()(sequence), params]))
    assert one_load_kernel(keras.Model({"inputs": sequence, "params": params}, response), 4) is None
