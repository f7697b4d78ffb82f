"""Moving average of the weights in place of the weights, where a model is validated and its best weights are kept."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class AveragedWeights(keras.callbacks.Callback):
    """Put the moving average of Adam into the model for the validation, and the weights of the training back after it.

    The average stays in the model until this callback's turn at the end of the epoch. Those before it see the weights
    that were validated: early stopping keeps them, and so at its end the training leaves an average in the model. Those
    after it see the weights that the training goes on from: they belong in the checkpoint.

    The weights are laid aside and not swapped by sums and differences, as Keras' own callback does: these round.

    Notes
    -----
    What a layer keeps beside its weights, such as the means of a batch normalisation, is not averaged.
    """

    def __init__(self) -> None:
        super().__init__()
        self._aside: list[tuple[Any, tf.Tensor]] = []

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Put the average into the model."""
        optimizer: Any = self.model.optimizer
        pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
        for variable, average in pairs:
            if average is not None:
                self._aside.append((variable, tf.identity(variable.value)))
                variable.assign(average)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Put the weights of the training back."""
        for variable, value in self._aside:
            variable.assign(value)
        self._aside = []
