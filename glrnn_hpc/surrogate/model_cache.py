"""Models that are ready to train; a worker keeps them, as tracing one anew takes longer than many an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from glrnn_hpc.config import RunConfig
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.surrogate.data_parallel import DataParallel

#: Kept at a time: those of the commonest sweeps over a network's size.
_CAPACITY = 8

_SHAPES = ("num_input_features", "num_params", "num_labels")


class Compiled:
    """A compiled model and what lets a group of ranks train it.

    Parameters
    ----------
    model : keras.Model
        Compiled here, for MSE with Adam and MAE as a metric.
    config : RunConfig
        Arguments of Adam.
    group : Ranks, optional
        Those that train it together; the weights are the same on all of them.

    Attributes
    ----------
    model : keras.Model
        The model.
    group : Ranks
        The group.
    data_parallel : DataParallel or None
        Training and evaluation on the group; None for a group of one.
    """

    def __init__(self, model: keras.Model, config: RunConfig, group: Ranks | None = None) -> None:
        self.model = model
        self.group = Ranks() if group is None else group
        is_alone = self.group.size == 1
        optimizer = keras.optimizers.Adam(**config.adam_arguments())
        # XLA costs seconds of compilation per trial and is no faster on CPU cores for networks of this size. Ranks that
        # train together take the MAE of all of them themselves.
        model.compile(optimizer=optimizer, loss="mse", metrics=["mae"] if is_alone else None, jit_compile=False)
        optimizer.build(model.trainable_variables)
        self._untrained = [variable.numpy() for variable in optimizer.variables]
        self.data_parallel = None if is_alone else DataParallel(model, self.group)

    def renew(self, weights: list[Any], learning_rate: float) -> None:
        """Make it as good as new: other weights, an optimizer that has not seen a batch."""
        self.model.set_weights(weights)
        optimizer = self.model.optimizer
        for variable, value in zip(optimizer.variables, self._untrained, strict=True):
            variable.assign(value)
        optimizer.learning_rate = learning_rate


class CompiledModels:
    """The models of the trainings before, for those that have the same shapes; they train as new ones would."""

    def __init__(self, group: Ranks | None = None) -> None:
        self._group = group
        self._kept: dict[tuple[Any, ...], Compiled] = {}

    @contextmanager
    def fresh(self, train_stats: Mapping[str, Any], config: RunConfig) -> Iterator[Compiled]:
        """Lend a model of `models.rnn_model` with the initial weights of the configuration's seed.

        It is kept for the next training only if the block ends without an exception: Keras leaves its iterators in a
        model whose training was broken off.
        """
        new = rnn_model(train_stats, **config.as_dict())
        key = _key(train_stats, config)
        compiled = self._kept.pop(key, None)
        if compiled is None:
            compiled = Compiled(new, config, self._group)
        else:
            compiled.renew(new.get_weights(), config.learning_rate)
        yield compiled
        # A moving average of the weights begins with those that the optimizer was built with.
        if not config.adam_arguments().get("use_ema"):
            self._kept[key] = compiled
        while len(self._kept) > _CAPACITY:
            del self._kept[next(iter(self._kept))]


def _key(train_stats: Mapping[str, Any], config: RunConfig) -> tuple[Any, ...]:
    """Return what is a constant of a traced model."""
    shapes = tuple(int(train_stats[name]) for name in _SHAPES)
    constants = {name: value for name, value in config.adam_arguments().items() if name != "learning_rate"}
    return (*shapes, config.window_size, config.lstm_units, config.dense_units, *sorted(constants.items()))
