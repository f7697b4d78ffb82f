"""The recurrent network that stands in for the DEM code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from glrnn_hpc.config import RUN_KEYS, unknown_key, without_always
from glrnn_hpc.errors import ConfigError

#: The names that GrainLearning's older files use for the shapes.
_OLD_SHAPES = {
    "num_input_features": "num_load_features",
    "num_params": "num_contact_params",
    "num_labels": "num_labels",
}


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
        Other keys of the training configuration; they are ignored.

    Returns
    -------
    keras.Model
        From ``{'inputs': (n, window_size, num_input_features), 'params': (n, num_params)}`` to ``(n, num_labels)``.

    Raises
    ------
    ConfigError
        If a key is none of the training configuration, or a shape is missing.

    References
    ----------
    Hochreiter and Schmidhuber 1997, Neural Computation 9, doi:10.1162/neco.1997.9.8.1735
    """
    for key in without_always(other_keys, "rnn_model"):
        if key not in RUN_KEYS:
            raise unknown_key(key, RUN_KEYS)
    n_inputs, n_params, n_labels = (_shape(input_shapes, name) for name in _OLD_SHAPES)
    # Of each layer its own, and not the global one: to set that makes TensorFlow forget the kernels of every model.
    seeds = iter(np.random.SeedSequence(seed).generate_state(6).tolist())

    def initial(kind: type[keras.initializers.Initializer] = keras.initializers.GlorotUniform) -> Any:
        return kind(seed=next(seeds))

    sequence = keras.Input((window_size, n_inputs), name="inputs")
    params = keras.Input((n_params,), name="params")
    state = [
        keras.layers.Dense(lstm_units, "tanh", kernel_initializer=initial(), name=name)(params)
        for name in ("state_h", "state_c")
    ]
    recurrent = initial(keras.initializers.Orthogonal)
    lstm = keras.layers.LSTM(lstm_units, kernel_initializer=initial(), recurrent_initializer=recurrent, name="lstm")
    hidden = lstm(sequence, initial_state=state)
    hidden = keras.layers.Dense(dense_units, "relu", kernel_initializer=initial(), name="dense")(hidden)
    response = keras.layers.Dense(n_labels, kernel_initializer=initial(), name="response")(hidden)
    return keras.Model({"inputs": sequence, "params": params}, response)


#: GrainLearning's older name of the same network: `rnn_model` reads `num_load_features` and `num_contact_params` too.
rnn_model_for_triax = rnn_model


def _shape(shapes: Mapping[str, Any], name: str) -> int:
    for known in (name, _OLD_SHAPES[name]):
        if known in shapes:
            return int(shapes[known])
    raise ConfigError(f"input_shapes: {name} is missing; it has {', '.join(shapes) or 'nothing'}.")
