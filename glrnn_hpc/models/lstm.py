"""LSTM whose initial state comes from the contact parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from glrnn_hpc.config import ARRAY_KEYS, RUN_KEYS, warn_of_unknown_key, without_always
from glrnn_hpc.models.shapes import shapes_of
from glrnn_hpc.models.weights import seeded_initializers


def lstm(
    input_shapes: Mapping[str, int], window_size: int, lstm_units: int, dense_units: int, seed: int
) -> keras.Model:
    """Build the LSTM: its initial state comes from the parameters, a dense layer and the response follow it.

    Parameters
    ----------
    input_shapes : mapping
        `num_input_features`, `num_params` and `num_labels`.
    window_size : int
        Steps of a window.
    lstm_units, dense_units : int
        Units of the LSTM, and of the dense layer after it.
    seed : int
        Seed of the initial weights.

    Returns
    -------
    keras.Model
        From ``{'inputs': (n, window_size, num_input_features), 'params': (n, num_params)}`` to ``(n, num_labels)``.

    References
    ----------
    Hochreiter and Schmidhuber 1997, Neural Computation 9, doi:10.1162/neco.1997.9.8.1735
    """
    initializer = seeded_initializers(seed)
    sequence = keras.Input((window_size, input_shapes["num_input_features"]), name="inputs")
    params = keras.Input((input_shapes["num_params"],), name="params")
    state = [
        keras.layers.Dense(lstm_units, "tanh", kernel_initializer=initializer(), name=name)(params)
        for name in ("state_h", "state_c")
    ]
    recurrent = initializer(keras.initializers.Orthogonal)
    layer = keras.layers.LSTM(
        lstm_units, kernel_initializer=initializer(), recurrent_initializer=recurrent, name="lstm"
    )
    hidden = layer(sequence, initial_state=state)
    hidden = keras.layers.Dense(dense_units, "relu", kernel_initializer=initializer(), name="dense")(hidden)
    response = keras.layers.Dense(input_shapes["num_labels"], kernel_initializer=initializer(), name="response")(hidden)
    return keras.Model({"inputs": sequence, "params": params}, response)


def rnn_model(
    input_shapes: Mapping[str, Any],
    window_size: int = 20,
    lstm_units: int = 50,
    dense_units: int = 20,
    seed: int = 42,
    **other_keys: Any,
) -> keras.Model:
    """Build the LSTM whose initial state comes from the contact parameters.

    Parameters
    ----------
    input_shapes : mapping
        `num_input_features`, `num_params` and `num_labels`, such as `train_stats` holds them.
    window_size : int
        Steps of a window.
    lstm_units, dense_units : int
        Units of the LSTM, and of the dense layer after it.
    seed : int
        Seed of the initial weights.
    **other_keys
        Other keys of the training configuration; they are ignored, unknown ones with a warning.

    Returns
    -------
    keras.Model
        From ``{'inputs': (n, window_size, num_input_features), 'params': (n, num_params)}`` to ``(n, num_labels)``.

    Raises
    ------
    ConfigError
        If a shape is missing.
    """
    for key in without_always(other_keys, "rnn_model"):
        if key not in RUN_KEYS | ARRAY_KEYS:
            warn_of_unknown_key(key, RUN_KEYS)
    return lstm(shapes_of(input_shapes), window_size, lstm_units, dense_units, seed)


#: GrainLearning's older name of the same network: `rnn_model` reads `num_load_features` and `num_contact_params` too.
rnn_model_for_triax = rnn_model
