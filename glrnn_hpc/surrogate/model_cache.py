"""Cache of compiled models: a worker uses a model again, because tracing a new one takes longer than many an epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from glrnn_hpc.config import RunConfig
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.models.registry import build_network, network_arguments
from glrnn_hpc.models.structure import structure_of
from glrnn_hpc.records.train_stats import plain
from glrnn_hpc.surrogate.adam import VariableArguments, traced_arguments
from glrnn_hpc.surrogate.data_parallel import DataParallel
from glrnn_hpc.surrogate.raw_loss import RawLoss, raw_loss_of

#: Models in the cache: enough for the commonest sweeps over a network's size.
_CAPACITY = 8


#: Statistics that are constants of a traced raw loss.
_OF_RAW_LOSS = ("targets", "labels_std", "input_names", "param_names", "label_names")


class Compiled:
    """Compiled model, with what lets a group of ranks train it.

    Parameters
    ----------
    model : keras.Model
        Compiled here, for MSE with Adam and MAE as a metric.
    config : RunConfig
        Arguments of Adam.
    group : Ranks, optional
        Those that train it together; the weights are the same on all of them.
    raw_loss : RawLoss, optional
        Of a network that learns targets.

    Attributes
    ----------
    model : keras.Model
        The model.
    group : Ranks
        The group.
    data_parallel : DataParallel or None
        Training and evaluation on the group; None for a group of one.
    """

    def __init__(
        self, model: keras.Model, config: RunConfig, group: Ranks | None = None, raw_loss: RawLoss | None = None
    ) -> None:
        self.model = model
        self.group = Ranks() if group is None else group
        is_alone = self.group.size == 1
        optimizer = keras.optimizers.Adam(**config.adam_arguments())
        self._arguments = VariableArguments(optimizer)
        # XLA costs seconds of compilation per trial and is no faster on CPU cores for networks of this size. Ranks that
        # train together take the MAE of all of them themselves.
        model.compile(optimizer=optimizer, loss="mse", metrics=["mae"] if is_alone else None, jit_compile=False)
        if raw_loss is not None and is_alone:
            raw_loss.attach(model)
        optimizer.build(model.trainable_variables)
        self._untrained = [variable.numpy() for variable in optimizer.variables]
        self.data_parallel = None if is_alone else DataParallel(model, self.group, raw_loss)

    def renew(self, model: keras.Model, config: RunConfig) -> None:
        """Take over the variables of a new model, the arguments of Adam, and an optimizer that has not seen a batch."""
        # Not the weights alone: a layer that draws numbers has the state of its generator among the variables.
        for variable, other in zip(self.model.variables, model.variables, strict=True):
            variable.assign(other)
        optimizer = self.model.optimizer
        for variable, value in zip(optimizer.variables, self._untrained, strict=True):
            variable.assign(value)
        self._arguments.set(config.adam_arguments())


class ModelCache:
    """Compiled models of earlier trainings, for those that compute the same; they train as new ones would."""

    def __init__(self, group: Ranks | None = None) -> None:
        self._group = group
        self._models: dict[str, Compiled] = {}

    @contextmanager
    def fresh(self, train_stats: Mapping[str, Any], config: RunConfig) -> Iterator[Compiled]:
        """Give the network of the configuration with the initial weights of its seed.

        It returns to the cache only if the block ends without an exception: Keras leaves its iterators in a model whose
        training was broken off.
        """
        new = build_network(config, train_stats)
        key = cache_key(new, config, train_stats)
        compiled = None if key is None else self._models.pop(key, None)
        if compiled is None:
            compiled = Compiled(new, config, self._group, raw_loss_of(train_stats, config.as_dict()))
        else:
            compiled.renew(new, config)
        yield compiled
        if key is not None:
            self._models[key] = compiled
        while len(self._models) > _CAPACITY:
            del self._models[next(iter(self._models))]


def cache_key(model: keras.Model, config: RunConfig, train_stats: Mapping[str, Any]) -> str | None:
    """Return a text that decides the traced computation of a model; None for a model that cannot be used again.

    It holds the structure of the built model, what its network was built from (a layer of a user's own may hold a
    number that its configuration does not show), and the constants of the optimizer. Initial weights, the learning rate
    and the other numbers of Adam are variables of a traced model.
    """
    structure = structure_of(model)
    if structure is None:
        return None
    optimizer = traced_arguments(config.adam_arguments())
    # The raw loss holds the statistics of labels and targets as constants.
    raw = {name: plain(train_stats.get(name)) for name in _OF_RAW_LOSS} if "targets" in train_stats else None
    return json.dumps([structure, network_arguments(config, train_stats), optimizer, raw], sort_keys=True, default=str)
