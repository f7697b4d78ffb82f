"""Feed-forward network of the last window: a regression without memory, for the key `network` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from glrnn_hpc.models.weights import seeded_initializers


def feed_forward(
    input_shapes: Mapping[str, int], window_size: int, seed: int, units: int = 128, n_layers: int = 3
) -> keras.Model:
    """Build dense layers over the load features of a window, side by side, and the parameters."""
    initializer = seeded_initializers(seed)
    sequence = keras.Input((window_size, input_shapes["num_input_features"]), name="inputs")
    params = keras.Input((input_shapes["num_params"],), name="params")
    hidden = keras.layers.Concatenate()([keras.layers.Flatten()(sequence), params])
    for number in range(n_layers):
        dense = keras.layers.Dense(units, "relu", kernel_initializer=initializer(), name=f"dense_{number}")
        hidden = dense(hidden)
    response = keras.layers.Dense(input_shapes["num_labels"], kernel_initializer=initializer(), name="response")(hidden)
    return keras.Model({"inputs": sequence, "params": params}, response)
