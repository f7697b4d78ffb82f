"""Data-parallel training: each rank takes its share of every batch, gradients are averaged over all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.surrogate.raw_loss import NAME as RAW_LOSS
from glrnn_hpc.surrogate.raw_loss import RawLoss

#: After the gradients, the shared buffer holds: sum of the weights, of the losses, of the absolute errors, of the raw
#: losses; whether to stop; whether a rank has failed.
_SUMS, _TAIL = 4, 6


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
    raw_loss : RawLoss, optional
        Of a network that learns targets; the labels of a batch are then what it takes apart.
    """

    def __init__(self, model: keras.Model, group: Ranks, raw_loss: RawLoss | None = None) -> None:
        self._model, self._group, self._raw_loss = model, group, raw_loss
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
        self._sums = np.zeros(_SUMS)
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
        self._buffer[: self._n + _SUMS] = self._gradients(inputs, labels, weights).numpy()
        self._buffer[-2:] = 0
        summed = self._summed()
        self._apply(summed[: self._n] / summed[self._n])
        return self._means(summed)

    def _test_batch(self, iterator: Any) -> dict[str, float]:
        inputs, labels, weights = next(iterator)
        self._buffer[:] = 0
        self._buffer[self._n : self._n + _SUMS] = self._errors(inputs, labels, weights).numpy()
        return self._means(self._summed())

    def _means(self, summed: Any) -> dict[str, float]:
        self._sums += summed[self._n : self._n + _SUMS]
        n, *sums = self._sums
        names = ["loss", "mae"] if self._raw_loss is None else ["loss", "mae", RAW_LOSS]
        return {name: total / n for name, total in zip(names, sums, strict=False)}

    def _errors_of(self, inputs: Any, labels: Any, weights: Any, training: bool = False) -> Any:
        """Return the sums of the weights, the losses, the absolute errors and the raw losses of a share of a batch."""
        outputs = self._model(inputs, training=training)
        raw = tf.constant(0.0)
        if self._raw_loss is not None:
            raw = tf.reduce_sum(weights * self._raw_loss.errors(labels, outputs))
            labels = labels[:, : self._raw_loss.n_targets]
        errors = labels - outputs
        loss = tf.reduce_sum(weights * tf.reduce_mean(errors**2, axis=-1))
        if self._model.losses:
            loss += tf.reduce_sum(weights) * tf.add_n(self._model.losses)
        absolute = tf.reduce_sum(weights * tf.reduce_mean(tf.abs(errors), axis=-1))
        return tf.stack([tf.reduce_sum(weights), loss, absolute, raw])

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
