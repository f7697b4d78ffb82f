"""Data-parallel training: each rank takes its share of every batch, gradients are averaged over all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from glrnn_hpc.data.ranks import Ranks

#: After the gradients, the shared buffer holds: sum of the weights, of the losses, of the absolute errors; whether to
#: stop; whether a rank has failed.
_TAIL = 5


class EndedByOtherRank(Exception):
    """Another rank of the group ended the training; the message says which, and why."""


class DataParallel:
    """Make a compiled model train and evaluate on the ranks of a group, as one rank would on the whole batches.

    The ranks communicate by sums of one buffer of one length alone. A rank that ends by an exception takes part in the
    next sum, whichever it is, and the others learn of it there.

    Parameters
    ----------
    model : keras.Model
        Compiled; the weights are the same on all ranks.
    group : Ranks
        The ranks. Training and evaluation are collective on it.
    """

    def __init__(self, model: keras.Model, group: Ranks) -> None:
        self._model, self._group = model, group
        model.optimizer.build(model.trainable_variables)
        self._shapes = [tuple(variable.shape) for variable in model.trainable_variables]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._n = sum(self._sizes)
        self._buffer = np.zeros(self._n + _TAIL, "float32")
        self._gradients = tf.function(self._gradients_of, autograph=False, reduce_retracing=True)
        self._errors = tf.function(self._errors_of, autograph=False, reduce_retracing=True)
        self._apply = tf.function(
            self._apply_to, autograph=False, input_signature=[tf.TensorSpec((self._n,), tf.float32)]
        )
        self._sums = np.zeros(3)
        # Keras calls these if they are there instead of making its own; compiling again takes them away.
        model.train_function = self._train_batch
        model.test_function = self._test_batch

    def callback(self) -> keras.callbacks.Callback:
        """Return the callback that broadcasts the root's decision to stop; it must come last."""
        return _StopBroadcast(self)

    @contextmanager
    def sharing_failures(self) -> Iterator[None]:
        """Let the others know if this rank leaves the block by an exception. Collective.

        Raises
        ------
        EndedByOtherRank
            If another rank did.
        """
        try:
            yield
            self.exchange()
        except EndedByOtherRank:
            raise EndedByOtherRank(self._reason()) from None
        except BaseException as error:
            self._buffer[:] = 0
            self._buffer[-1] = 1
            self._group.sum(self._buffer)
            self._reason(error)
            raise

    def _reason(self, error: BaseException | None = None) -> str:
        """Return the error of the first rank that has one. Collective."""
        reason = None if error is None else f"rank {self._group.rank} of the group: {type(error).__name__}: {error}"
        return next(each for each in self._group.allgather(reason) if each)

    def exchange(self, *, stop: bool = False) -> bool:
        """Return whether rank 0 wants to stop. Collective.

        Raises
        ------
        EndedByOtherRank
            If a rank has failed.
        """
        self._buffer[:] = 0
        self._buffer[-2] = stop and self._group.rank == 0
        return bool(self._summed()[-2])

    def reset(self) -> None:
        """Begin new means of the loss and of the absolute error."""
        self._sums[:] = 0

    def _summed(self) -> Any:
        self._group.sum(self._buffer)
        if self._buffer[-1]:
            raise EndedByOtherRank
        return self._buffer

    def _train_batch(self, iterator: Any) -> dict[str, float]:
        inputs, labels, weights = next(iterator)
        self._buffer[: self._n + 3] = self._gradients(inputs, labels, weights).numpy()
        self._buffer[-2:] = 0
        summed = self._summed()
        self._apply(summed[: self._n] / summed[self._n])
        return self._means(summed)

    def _test_batch(self, iterator: Any) -> dict[str, float]:
        inputs, labels, weights = next(iterator)
        self._buffer[:] = 0
        self._buffer[self._n : self._n + 3] = self._errors(inputs, labels, weights).numpy()
        return self._means(self._summed())

    def _means(self, summed: Any) -> dict[str, float]:
        self._sums += summed[self._n : self._n + 3]
        return {"loss": self._sums[1] / self._sums[0], "mae": self._sums[2] / self._sums[0]}

    def _errors_of(self, inputs: Any, labels: Any, weights: Any, training: bool = False) -> Any:
        """Return the sums of the weights, the losses and the absolute errors of a share of a batch."""
        errors = labels - self._model(inputs, training=training)
        loss = tf.reduce_sum(weights * tf.reduce_mean(errors**2, axis=-1))
        if self._model.losses:
            loss += tf.reduce_sum(weights) * tf.add_n(self._model.losses)
        absolute = tf.reduce_sum(weights * tf.reduce_mean(tf.abs(errors), axis=-1))
        return tf.stack([tf.reduce_sum(weights), loss, absolute])

    def _gradients_of(self, inputs: Any, labels: Any, weights: Any) -> Any:
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            sums = self._errors_of(inputs, labels, weights, training=True)
            loss = sums[1]
        gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return tf.concat([*(tf.reshape(gradient, [-1]) for gradient in gradients), sums], axis=0)

    def _apply_to(self, flat: Any) -> None:
        parts = tf.split(flat, self._sizes)
        gradients = [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]
        self._model.optimizer.apply(gradients, self._model.trainable_variables)


class _StopBroadcast(keras.callbacks.Callback):
    """Broadcast of rank 0's decision to stop; means of the loss begin anew with each epoch and evaluation."""

    def __init__(self, data_parallel: DataParallel) -> None:
        super().__init__()
        self._data_parallel = data_parallel

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._data_parallel.reset()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self._data_parallel.reset()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.model.stop_training = self._data_parallel.exchange(stop=bool(self.model.stop_training))
