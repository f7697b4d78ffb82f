"""Learning rate of each epoch: constant, falling like a cosine, or falling where the validation makes no progress."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import keras

from glrnn_hpc.config import TrainingConfig

#: Metric of an epoch, of the schedules that are not constant.
LEARNING_RATE = "learning_rate"


def rate_of_epoch(config: TrainingConfig, val_losses: Sequence[float]) -> float:
    """Return the learning rate of the epoch that follows the given ones; it depends on nothing else.

    Parameters
    ----------
    config : TrainingConfig
        `learning_rate` is that of the first epoch. The cosine [1]_ is above 0 in the last one of `epochs`.
    val_losses : sequence of float
        `val_loss` of the epochs that are done.

    References
    ----------
    .. [1] Loshchilov and Hutter (2017), SGDR: stochastic gradient descent with warm restarts, without the restarts,
       https://doi.org/10.48550/arXiv.1608.03983
    """
    if config.learning_rate_schedule == "cosine":
        return config.learning_rate * (1 + math.cos(math.pi * len(val_losses) / config.epochs)) / 2
    if config.learning_rate_schedule == "plateau":
        return config.learning_rate * config.plateau_factor ** _n_plateaus(val_losses, config.plateau_epochs)
    return config.learning_rate


def _n_plateaus(losses: Iterable[float], length: int) -> int:
    """Return how often so many losses, one after the other, were no better than the best one before them."""
    best, n_worse, n_plateaus = math.inf, 0, 0
    for loss in losses:
        n_worse = 0 if loss < best else n_worse + 1
        best = min(best, loss)
        if n_worse == length:
            n_worse, n_plateaus = 0, n_plateaus + 1
    return n_plateaus


class LearningRateSchedule(keras.callbacks.Callback):
    """Set the learning rate of each epoch, and add it to the metrics of the epoch.

    It comes first, so that the others see the rate among the metrics.

    Parameters
    ----------
    config : TrainingConfig
        The schedule.
    val_losses : iterable of float
        `val_loss` of the epochs before a checkpoint.
    """

    def __init__(self, config: TrainingConfig, val_losses: Iterable[float] = ()) -> None:
        super().__init__()
        self._config = config
        self._val_losses = list(val_losses)
        self._rate = config.learning_rate

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Set the rate."""
        self._rate = rate_of_epoch(self._config, self._val_losses)
        self.model.optimizer.learning_rate = self._rate

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add the rate to the metrics."""
        if logs is not None:
            self._val_losses.append(float(logs["val_loss"]))
            logs[LEARNING_RATE] = self._rate
