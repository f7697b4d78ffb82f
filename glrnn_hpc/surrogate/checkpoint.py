"""Checkpoint of a training: all state that it needs to go on as if nothing had happened, in one file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypedDict, runtime_checkable

import keras
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import ModelError

Array = NDArray[Any]

_VERSION = 1


@runtime_checkable
class Stateful(Protocol):
    """A callback whose state belongs to the checkpoint."""

    def get_state(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state that `get_state` returned."""


class EarlyStoppingState(TypedDict):
    """Epochs since the best one, and the best one (from 0) with its `val_loss`; None before the first epoch."""

    wait: int
    best_epoch: int
    stopped_epoch: int
    best: float | None


@dataclass(frozen=True)
class Checkpoint:
    """A training after a finished epoch.

    Attributes
    ----------
    epochs : int
        Epochs that are done.
    has_ended : bool
        Whether the training was to stop after them.
    variables, optimizer : list of ndarray
        Of the model (seeds of random layers too) and of the optimizer (slots and iterations too), in Keras' order.
    best_weights : list of ndarray or None
        Those that early stopping would restore.
    history : list of dict
        Loss and metrics of every epoch.
    stopping : EarlyStoppingState
        State of early stopping, without the weights.
    callbacks : list
        States of the callbacks that have one, in their order.
    config : dict
        The configuration of the training.
    """

    epochs: int
    has_ended: bool
    variables: list[Array]
    optimizer: list[Array]
    best_weights: list[Array] | None
    history: list[dict[str, float]]
    stopping: EarlyStoppingState
    callbacks: list[dict[str, Any]]
    config: dict[str, Any]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; an older one stays until the new one is whole."""
    arrays = {}
    for name in ("variables", "optimizer", "best_weights"):
        for number, array in enumerate(getattr(checkpoint, name) or []):
            arrays[f"{name}/{number}"] = array
    described = {
        "version": _VERSION,
        "counts": {
            name: None if getattr(checkpoint, name) is None else len(getattr(checkpoint, name))
            for name in ("variables", "optimizer", "best_weights")
        },
        **{
            name: getattr(checkpoint, name)
            for name in ("epochs", "has_ended", "history", "stopping", "callbacks", "config")
        },
    }
    with layout.replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, description=np.array(json.dumps(described)), **arrays)


def load(path: Path, config: RunConfig) -> Checkpoint:
    """Read a checkpoint of the training that `config` describes.

    Raises
    ------
    ModelError
        If the file is missing or broken, or is of another configuration or version.
    """
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            described = json.loads(str(file["description"]))
            if described.pop("version") != _VERSION:
                raise ModelError(f"{path}: is a checkpoint of another version of this package.")
            arrays: dict[str, Any] = {
                name: None if count is None else [file[f"{name}/{number}"] for number in range(count)]
                for name, count in described.pop("counts").items()
            }
        checkpoint = Checkpoint(**described, **arrays)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: cannot be read as a checkpoint: {error}") from error
    # A key that a later version added has its default in an older checkpoint.
    defaults = {key: value for key, value in _defaults_of(config).items() if key not in checkpoint.config}
    recorded, given = {**defaults, **checkpoint.config}, json.loads(json.dumps(config.as_dict()))
    if recorded != given:
        keys = [key for key in {*recorded, *given} if recorded.get(key) != given.get(key)]
        raise ModelError(f"{path}: is a checkpoint of another configuration; {', '.join(sorted(keys))} differ.")
    return checkpoint


def _defaults_of(config: RunConfig) -> dict[str, Any]:
    """Return the defaults of the keys that are always in a configuration."""
    fields = type(config).model_fields
    return {key: fields[key].default for key in config.as_dict() if key in fields and not fields[key].is_required()}


def restore(model: keras.Model, checkpoint: Checkpoint, callbacks: Sequence[keras.callbacks.Callback] | None) -> None:
    """Put the state of a checkpoint into a compiled model and the callbacks that have one; None if they are elsewhere.

    Raises
    ------
    ModelError
        If the checkpoint is of another model.
    """
    model.optimizer.build(model.trainable_variables)
    for variables, arrays in (
        (model.variables, checkpoint.variables),
        (model.optimizer.variables, checkpoint.optimizer),
    ):
        shapes = [tuple(variable.shape) for variable in variables], [array.shape for array in arrays]
        if shapes[0] != shapes[1]:
            raise ModelError("a checkpoint of another model: its variables have other shapes.")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
    if callbacks is None:
        return
    stateful = [callback for callback in callbacks if isinstance(callback, Stateful)]
    for callback, state in zip(stateful, checkpoint.callbacks, strict=True):
        callback.set_state(state)


def arrays_of(variables: Sequence[Any]) -> list[Array]:
    """Return copies of the values of Keras variables."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
