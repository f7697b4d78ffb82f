"""What it takes to go on with a training as if nothing had happened: one file, replaced after each epoch."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

from glrnn_hpc import layout
from glrnn_hpc.errors import ModelError

_VERSION = 1


@runtime_checkable
class Stateful(Protocol):
    """A callback whose state belongs to the checkpoint."""

    def get_state(self) -> dict[str, Any]:
        """Return the state as JSON can hold it."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over a state that `get_state` returned."""


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
    stopping : dict
        State of early stopping.
    callbacks : list
        States of the callbacks that have one, in their order.
    config : dict
        The configuration of the training.
    """

    epochs: int
    has_ended: bool
    variables: list[Any]
    optimizer: list[Any]
    best_weights: list[Any] | None
    history: list[dict[str, float]]
    stopping: dict[str, Any]
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


def load(path: Path, config: dict[str, Any]) -> Checkpoint:
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
        found = Checkpoint(**described, **arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: cannot be read as a checkpoint: {error}") from error
    if found.config != json.loads(json.dumps(config)):
        keys = [key for key in {*found.config, *config} if found.config.get(key) != config.get(key)]
        raise ModelError(f"{path}: is a checkpoint of another configuration; {', '.join(sorted(keys))} differ.")
    return found


class Stopping(keras.callbacks.EarlyStopping):
    """Early stopping on `val_loss` that goes on from a checkpoint: Keras' forgets its state when training begins."""

    def __init__(self, patience: int, checkpoint: Checkpoint | None) -> None:
        super().__init__("val_loss", patience=patience, mode="min", restore_best_weights=True)
        self._checkpoint = checkpoint

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Begin anew, or where the checkpoint left off."""
        super().on_train_begin(logs)
        if self._checkpoint is None:
            return
        state = self._checkpoint.stopping
        self.wait, self.best, self.best_epoch = state["wait"], state["best"], state["best_epoch"]
        self.stopped_epoch = state["stopped_epoch"]
        self.best_weights = self._checkpoint.best_weights

    def get_state(self) -> dict[str, Any]:
        """Return what `on_train_begin` takes over, without the weights."""
        best = None if self.best is None else float(self.best)
        numbers = {"wait": self.wait, "best_epoch": self.best_epoch, "stopped_epoch": self.stopped_epoch}
        return {**{name: int(number or 0) for name, number in numbers.items()}, "best": best}


class Saving(keras.callbacks.Callback):
    """Write the checkpoint after each epoch, or at most every `seconds`. It comes last: the others' states are final.

    Parameters
    ----------
    path : Path
        The checkpoint's file.
    seconds : float
        Least time between two checkpoints; 0 for one after each epoch.
    config : dict
        The configuration of the training.
    stopping : Stopping
        Early stopping of this training.
    callbacks : sequence of keras.callbacks.Callback
        Those whose states are kept, if they have one.
    earlier : Checkpoint, optional
        Where this training goes on from.
    """

    def __init__(
        self,
        path: Path,
        seconds: float,
        config: dict[str, Any],
        stopping: Stopping,
        callbacks: Sequence[keras.callbacks.Callback],
        earlier: Checkpoint | None,
    ) -> None:
        super().__init__()
        self._path = path
        self._seconds = seconds
        self._config = config
        self._stopping = stopping
        self._stateful = [callback for callback in callbacks if isinstance(callback, Stateful)]
        self._history = list(earlier.history) if earlier else []
        self._saved = -float("inf")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the checkpoint if it is time, or the training is about to stop."""
        self._history.append({name: float(value) for name, value in (logs or {}).items()})
        has_ended = bool(self.model.stop_training)
        if not has_ended and time.monotonic() - self._saved < self._seconds:
            return
        best = self._stopping.best_weights
        save(
            Checkpoint(
                epochs=epoch + 1,
                has_ended=has_ended,
                variables=[_array(variable) for variable in self.model.variables],
                optimizer=[_array(variable) for variable in self.model.optimizer.variables],
                best_weights=None if best is None else [np.asarray(weight) for weight in best],
                history=self._history,
                stopping=self._stopping.get_state(),
                callbacks=[callback.get_state() for callback in self._stateful],
                config=self._config,
            ),
            self._path,
        )
        self._saved = time.monotonic()


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


def _array(variable: Any) -> Any:
    return np.array(keras.ops.convert_to_numpy(variable))
