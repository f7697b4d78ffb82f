"""Fast kernel of the LSTM for many sets of parameters under one load: Keras' results, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from glrnn_hpc.config import RunConfig
from glrnn_hpc.models.registry import build_network

#: Rows of the hidden state at a time: its matrix, and that of the four gates, then stay in the caches of a core.
_ROWS = 1600

#: What differs between two networks that compute the same.
_NOT_COMPARED = ("kernel_initializer", "recurrent_initializer", "bias_initializer", "build_config")


def one_load_kernel(model: keras.Model, window_size: int) -> Callable[[Any, Any], Any] | None:
    """Compile a network for many sets of parameters under one load sequence.

    All pairs of a set and a window are answered in one call. The load's part of the gates is computed once for all
    sets, the first step's recurrent part once for all windows.

    Parameters
    ----------
    model : keras.Model
        With the weights that it has now.
    window_size : int
        Steps of a window.

    Returns
    -------
    callable or None
        From load ``(T, n_inputs)`` and params ``(n, n_params)``, scaled as the network needs them, to the tensor
        ``(n, T - window_size, n_labels)``, float32: as the network gives it for the windows that end at steps
        ``window_size .. T-1``. None for a network that is not the LSTM of `models.lstm`: Keras must run it.
    """
    if not _is_lstm(model, window_size):
        return None
    state_h, state_c, lstm, dense, response = (
        [tf.constant(value) for value in model.get_layer(name).get_weights()]
        for name in ("state_h", "state_c", "lstm", "dense", "response")
    )
    kernel, recurrent, bias = lstm
    n_units, n_labels = int(recurrent.shape[0]), int(response[0].shape[1])

    def step(gates: Any, carry: Any) -> tuple[Any, Any]:
        update, forget, candidate, output = tf.split(gates, 4, axis=-1)
        carry = tf.sigmoid(forget) * carry + tf.sigmoid(update) * tf.tanh(candidate)
        return tf.sigmoid(output) * tf.tanh(carry), carry

    def call(load: Any, params: Any) -> Any:
        n, n_windows = tf.shape(params)[0], tf.shape(load)[0] - window_size
        of_load = load @ kernel + bias  # (T, 4 units): the same for all sets
        hidden = tf.tanh(params @ state_h[0] + state_h[1])
        first = hidden @ recurrent  # (n, 4 units): the same for all windows
        carry = tf.tanh(params @ state_c[0] + state_c[1])

        def answer(start: Any, stop: Any) -> Any:
            """Return the response (windows, n, labels) for some of the windows; window k begins at step k + 1."""
            gates = of_load[start + 1 : stop + 1, None] + first
            h, c = step(gates, carry)
            for k in range(1, window_size):
                gates = tf.reshape(tf.reshape(h, (-1, n_units)) @ recurrent, (stop - start, n, 4 * n_units))
                h, c = step(gates + of_load[start + 1 + k : stop + 1 + k, None], c)
            h = tf.nn.relu(tf.reshape(h, (-1, n_units)) @ dense[0] + dense[1])
            return tf.reshape(h @ response[0] + response[1], (stop - start, n, n_labels))

        length = tf.maximum(_ROWS // tf.maximum(n, 1), 1)
        n_blocks = (n_windows + length - 1) // length
        blocks = tf.TensorArray(tf.float32, n_blocks, element_shape=(None, None, n_labels), infer_shape=False)

        def add(number: Any, done: Any) -> tuple[Any, Any]:
            start = number * length
            return number + 1, done.write(number, answer(start, tf.minimum(start + length, n_windows)))

        # One block after the other: side by side they would drive each other out of the caches.
        _, blocks = tf.while_loop(lambda number, _: number < n_blocks, add, (0, blocks), parallel_iterations=1)
        return tf.transpose(blocks.concat(), (1, 0, 2))

    signature = [
        tf.TensorSpec((None, int(kernel.shape[0])), tf.float32),
        tf.TensorSpec((None, int(state_h[0].shape[0])), tf.float32),
    ]
    return tf.function(call, input_signature=signature, autograph=False)


def _is_lstm(model: keras.Model, window_size: int) -> bool:
    """Return whether a model has the layers of `models.lstm`, connected in the same way, in float32."""
    try:
        shapes = {tensor.name: tensor.shape for tensor in model.inputs}
        sizes = {
            "num_input_features": int(shapes["inputs"][-1]),
            "num_params": int(shapes["params"][-1]),
            "num_labels": int(model.outputs[0].shape[-1]),
        }
        units = {"lstm_units": model.get_layer("lstm").units, "dense_units": model.get_layer("dense").units}
        config = RunConfig(raw_data="none", network="lstm", window_size=window_size, **units)
        return _structure(model) == _structure(build_network(config, sizes))
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        return False


def _structure(model: keras.Model) -> list[tuple[Any, ...]]:
    """Return of each layer its kind, its settings and what it is connected to."""
    layers = []
    for layer in model.get_config()["layers"]:
        settings = {key: value for key, value in layer["config"].items() if key not in _NOT_COMPARED}
        layers.append((layer["class_name"], repr(settings), repr(layer["inbound_nodes"])))
    return sorted(layers)
