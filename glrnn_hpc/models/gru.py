"""GRU whose initial state comes from the contact parameters."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from glrnn_hpc.models.weights import seeded_initializers


def gru(input_shapes: Mapping[str, int], window_size: int, lstm_units: int, dense_units: int, seed: int) -> keras.Model:
    """Build the GRU: its initial state comes from the parameters, a dense layer and the response follow it.

    Parameters
    ----------
    input_shapes : mapping
        `num_input_features`, `num_params` and `num_labels`.
    window_size : int
        Steps of a window.
    lstm_units, dense_units : int
        Units of the GRU, and of the dense layer after it; the keys are those of the LSTM, so that a sweep can compare
        both networks.
    seed : int
        Seed of the initial weights.

    Returns
    -------
    keras.Model
        From ``{'inputs': (n, window_size, num_input_features), 'params': (n, num_params)}`` to ``(n, num_labels)``.

    References
    ----------
    Cho et al. 2014, Proceedings of EMNLP 2014, 1724-1734, doi:10.3115/v1/D14-1179
    """
    initializer = seeded_initializers(seed)
    sequence = keras.Input((window_size, input_shapes["num_input_features"]), name="inputs")
    params = keras.Input((input_shapes["num_params"],), name="params")
    state = keras.layers.Dense(lstm_units, "tanh", kernel_initializer=initializer(), name="state_h")(params)
    recurrent, kernel = initializer(keras.initializers.Orthogonal), initializer()
    layer = keras.layers.GRU(lstm_units, kernel_initializer=kernel, recurrent_initializer=recurrent, name="gru")
    hidden = layer(sequence, initial_state=state)
    hidden = keras.layers.Dense(dense_units, "relu", kernel_initializer=initializer(), name="dense")(hidden)
    response = keras.layers.Dense(input_shapes["num_labels"], kernel_initializer=initializer(), name="response")(hidden)
    return keras.Model({"inputs": sequence, "params": params}, response)
