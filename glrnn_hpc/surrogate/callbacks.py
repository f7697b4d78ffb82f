"""Callbacks of a training: divergence, metrics file, best model, early stopping and checkpoints."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import TrainingDiverged
from glrnn_hpc.records.metrics import Metrics
from glrnn_hpc.surrogate import checkpoint
from glrnn_hpc.surrogate.artifact import save_model
from glrnn_hpc.surrogate.checkpoint import Checkpoint, EarlyStoppingState, Stateful

logger = logging.getLogger(__name__)

#: A loss that is not finite stays so for the rest of its epoch; looking at each batch would be of no use.
_BATCHES_BETWEEN_CHECKS = 16


class DivergenceStop(keras.callbacks.Callback):
    """Raise `TrainingDiverged` once the loss or a metric is no longer finite."""

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self._learning_rate = learning_rate
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the loss, now and then."""
        if (batch + 1) % _BATCHES_BETWEEN_CHECKS == 0 and logs:
            self._check({"loss": float(logs["loss"])})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Check the loss and all metrics."""
        self._check(logs or {})

    def _check(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingDiverged(
                    f"training diverged: {name} is {value} in epoch {self._epoch + 1}; "
                    f"learning_rate={self._learning_rate:g} is too high, or the data hold extreme values."
                )


class EpochLog(keras.callbacks.Callback):
    """Log the metrics of each epoch of a single training."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Log one line."""
        values = ", ".join(f"{name} {value:.5g}" for name, value in (logs or {}).items())
        logger.info("epoch %d of %d: %s", epoch + 1, self._epochs, values)


class MetricsLog(keras.callbacks.Callback):
    """Write `metrics.csv`, one row per epoch; the file is replaced whole, so that a reader never sees half a row.

    Parameters
    ----------
    path : Path
        The file.
    earlier : Checkpoint, optional
        The training goes on from it; its epochs come first.
    """

    def __init__(self, path: Path, earlier: Checkpoint | None) -> None:
        super().__init__()
        self._path = path
        self._metrics = Metrics.numbered(earlier.history if earlier else [])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add this epoch."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        self._metrics = self._metrics.with_epoch(row)
        self.write()

    def write(self) -> None:
        """Write the epochs so far, if there are any."""
        if self._metrics.rows:
            self._metrics.write(self._path)


class ResumableEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping on `val_loss` that goes on from a checkpoint: Keras' forgets its state when training begins."""

    def __init__(self, patience: int, earlier: Checkpoint | None) -> None:
        super().__init__("val_loss", patience=patience, mode="min", restore_best_weights=True)
        self._earlier = earlier

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Begin anew, or with the state of the checkpoint."""
        super().on_train_begin(logs)
        if self._earlier is None:
            return
        state = self._earlier.stopping
        self.wait, self.best, self.best_epoch = state["wait"], state["best"], state["best_epoch"]
        self.stopped_epoch = state["stopped_epoch"]
        self.best_weights = self._earlier.best_weights

    def get_state(self) -> EarlyStoppingState:
        """Return what `on_train_begin` takes over, without the weights."""
        return {
            "wait": int(self.wait or 0),
            "best_epoch": int(self.best_epoch or 0),
            "stopped_epoch": int(self.stopped_epoch or 0),
            "best": None if self.best is None else float(self.best),
        }


class BestModel(keras.callbacks.Callback):
    """Write the best model. Keras' ModelCheckpoint writes in place, and a killed rank would leave half of it there.

    Parameters
    ----------
    path : Path
        The model's file.
    stopping : ResumableEarlyStopping
        Knows the best epoch and its weights; it comes before this callback.
    is_written_at_once : bool
        Whether to write after each epoch that is the best so far, and not at the end only.
    """

    def __init__(self, path: Path, stopping: ResumableEarlyStopping, *, is_written_at_once: bool) -> None:
        super().__init__()
        self._path = path
        self._stopping = stopping
        self._is_written_at_once = is_written_at_once
        self._written: int | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write if this epoch is the best so far."""
        if self._is_written_at_once and self._stopping.best_epoch == epoch:
            self.write()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Write if that is still to be done."""
        self.write()

    def write(self) -> None:
        """Write the model with its best weights, unless there are none or they are written."""
        if self._stopping.best_weights is None or self._written == self._stopping.best_epoch:
            return
        current = self.model.get_weights()
        self.model.set_weights(self._stopping.best_weights)
        save_model(self.model, self._path)
        self.model.set_weights(current)
        self._written = self._stopping.best_epoch


class CheckpointWriter(keras.callbacks.Callback):
    """Write the checkpoint after each epoch, or at most every `config.checkpoint_every` seconds.

    It comes last, so that the states of the others are final.

    Parameters
    ----------
    path : Path
        The checkpoint's file.
    config : RunConfig
        The configuration of the training.
    stopping : ResumableEarlyStopping
        Early stopping of this training.
    callbacks : sequence of keras.callbacks.Callback
        Those whose states are in the checkpoint, if they have one.
    earlier : Checkpoint, optional
        Where this training goes on from.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        stopping: ResumableEarlyStopping,
        callbacks: Sequence[keras.callbacks.Callback],
        earlier: Checkpoint | None,
    ) -> None:
        super().__init__()
        self._path = path
        self._config = config
        self._stopping = stopping
        self._stateful = [callback for callback in callbacks if isinstance(callback, Stateful)]
        self._history = list(earlier.history) if earlier else []
        self._saved = -float("inf")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the checkpoint if it is time, or the training is about to stop."""
        self._history.append({name: float(value) for name, value in (logs or {}).items()})
        has_ended = bool(self.model.stop_training)
        if not has_ended and time.monotonic() - self._saved < self._config.checkpoint_every:
            return
        best = self._stopping.best_weights
        checkpoint.save(
            Checkpoint(
                epochs=epoch + 1,
                has_ended=has_ended,
                variables=checkpoint.arrays_of(self.model.variables),
                optimizer=checkpoint.arrays_of(self.model.optimizer.variables),
                best_weights=None if best is None else [np.asarray(weight) for weight in best],
                history=self._history,
                stopping=self._stopping.get_state(),
                callbacks=[callback.get_state() for callback in self._stateful],
                config=self._config.as_dict(),
            ),
            self._path,
        )
        self._saved = time.monotonic()
