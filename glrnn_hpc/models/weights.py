"""Initial weights of the built-in networks, which depend on the seed of the training alone."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

#: More than any built-in network has layers; the first seeds do not depend on it.
_MOST_LAYERS = 6


def seeded_initializers(seed: int) -> Callable[..., keras.initializers.Initializer]:
    """Return a function that makes the initializer of one weight after the other, each with a seed of its own."""
    # Of each layer its own, and not the global one: to set that makes TensorFlow forget the kernels of every model.
    seeds = iter(np.random.SeedSequence(seed).generate_state(_MOST_LAYERS).tolist())

    def initializer(
        kind: type[keras.initializers.Initializer] = keras.initializers.GlorotUniform,
    ) -> keras.initializers.Initializer:
        return kind(seed=next(seeds))

    return initializer
