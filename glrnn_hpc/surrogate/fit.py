"""Train a model: batches, loop, callbacks. It knows neither search nor tracking; those come as callbacks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from glrnn_hpc import windows
from glrnn_hpc.batches import WHOLE, Share, ordered_batches, shuffled_batches
from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import TrainingDiverged
from glrnn_hpc.gather import DeviceCopies, taking_on_device
from glrnn_hpc.preprocessor.base import PreparedData, Preprocessor, gives_arrays
from glrnn_hpc.preprocessor.splits import scaling_of
from glrnn_hpc.records.metrics import Metrics
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.surrogate.artifact import save_model
from glrnn_hpc.surrogate.checkpoint import Checkpoint, Saving, Stopping, restore
from glrnn_hpc.surrogate.model_cache import Compiled

#: Names of the elements in GrainLearning's older data sets.
_OLD_NAMES = {"load_sequence": "inputs", "contact_parameters": "params"}

#: A loss that is not finite stays so for the rest of its epoch; looking at each batch would be of no use.
_BATCHES_BETWEEN_CHECKS = 16


@dataclass(frozen=True)
class FitData:
    """What `fit` trains on: batches of all epochs, and batches in order to validate and test on.

    With `take` the elements say where the windows are, and it makes a batch of them, on the device of the model.
    """

    train: tf.data.Dataset
    n_batches: int
    val: tf.data.Dataset
    test: tf.data.Dataset
    train_stats: dict[str, Any]
    take: Callable[..., Any] | None = None


def prepare(
    preprocessor: Preprocessor,
    config: RunConfig,
    first_epoch: int = 0,
    share: Share = WHOLE,
    copies: DeviceCopies | None = None,
) -> FitData:
    """Turn what a preprocessor gives into batches, inputs standardised where the configuration says so.

    Parameters
    ----------
    preprocessor : Preprocessor
        Gives the data.
    config : RunConfig
        Windows, batches, epochs and the seed of their order.
    first_epoch : int
        Epoch, from 0, whose batches come first.
    share : Share
        This rank's part of each batch; the batches then hold weights, 0 where there is no window.
    copies : DeviceCopies, optional
        Where the arrays of an `ArrayPreprocessor` are copied to; batches are then made there.
    """
    is_scaled = config.standardize_inputs
    # A subclass that makes its data sets in its own way must not be passed over.
    if gives_arrays(preprocessor):
        return _from_arrays(preprocessor.prepare_arrays(), config, first_epoch, share, copies)
    datasets, stats = preprocessor.prepare_datasets()
    train, val = (_counted(datasets[name].map(with_new_names)) for name in ("train", "val"))
    n_windows = int(train.cardinality())
    # One data set for all epochs: fit takes n_batches of it per epoch, and each repetition has another order.
    shuffled = train.shuffle(n_windows, seed=config.seed, reshuffle_each_iteration=True).batch(config.batch_size)
    test = _windows_of(datasets["test"].map(with_new_names), config)
    n_batches = math.ceil(n_windows / config.batch_size)
    # The order of an epoch follows from those before it, which must be drawn again: slow, but the same.
    train_batches = shuffled.repeat().skip(first_epoch * n_batches)
    batches = (train_batches, val.batch(config.batch_size), test)
    scaled = [batch.map(_scaler(stats)) if is_scaled else batch for batch in batches]
    if share.size > 1:
        scaled = [batch.map(_divider(share, config.batch_size)) for batch in scaled]
    return FitData(scaled[0], n_batches, scaled[1], scaled[2], stats)


def ordered(
    prepared: PreparedData,
    name: str,
    config: RunConfig,
    share: Share = WHOLE,
    copies: DeviceCopies | None = None,
) -> tf.data.Dataset:
    """Return the windows of a split in order, as training validates on them."""
    split = _scaled(prepared, name, config)
    size, step = prepared.window_size, prepared.window_step
    return ordered_batches(split, size, step, batch_size=config.batch_size, share=share, copies=copies)


@tf.autograph.experimental.do_not_convert
def with_new_names(inputs: dict[str, Any], labels: Any) -> tuple[dict[str, Any], Any]:
    """Rename the elements that GrainLearning's older data sets call otherwise."""
    return {_OLD_NAMES.get(name, name): value for name, value in inputs.items()}, labels


def fit(
    compiled: Compiled,
    data: FitData,
    config: RunConfig,
    metrics_file: Path,
    model_file: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    checkpoint_file: Path | None = None,
    earlier: Checkpoint | None = None,
) -> tuple[keras.callbacks.History, dict[str, float]]:
    """Train until the epochs are done or `val_loss` has not improved for `patience` epochs. Collective on its group.

    Parameters
    ----------
    compiled : Compiled
        The model, trained in place; at the end it has its best weights. Rank 0 of its group alone writes, and decides
        when to stop.
    data : FitData
        Batches, beginning with the first epoch that is to be trained.
    config : RunConfig
        How to train.
    metrics_file, model_file : Path
        Where the metrics and the best model go; with a `checkpoint_file`, which holds its weights, the model is written
        at the end only.
    callbacks : sequence of keras.callbacks.Callback
        Called at the end of an epoch before anything is written; what they raise ends the training.
    checkpoint_file : Path, optional
        Where the state goes after each epoch, at most every `config.checkpoint_every` seconds.
    earlier : Checkpoint, optional
        Where to go on from.

    Returns
    -------
    tuple
        The history of all epochs, those before the checkpoint too, and `loss` and `mae` of the test split.

    Raises
    ------
    TrainingDiverged
        If the loss is no longer finite; the best model before that is kept.
    ModelError
        If the checkpoint is of another model.
    Left
        If another rank of the group ended the training.
    """
    model, together, is_root = compiled.model, compiled.together, compiled.group.rank == 0
    stopping = Stopping(config.patience, earlier)
    best = _BestModel(model_file, stopping, is_written_at_once=checkpoint_file is None)
    writers = [_MetricsLog(metrics_file, earlier), stopping, best] if is_root else [stopping]
    if checkpoint_file is not None and is_root:
        arguments = (checkpoint_file, config.checkpoint_every, config.as_dict(), stopping, callbacks, earlier)
        writers.append(Saving(*arguments))
    agreement = [] if together is None else [together.callback()]
    is_leaving = contextlib.nullcontext() if together is None else together.leaving()
    with _taking(model, data.take), is_leaving:
        first_epoch, last_epoch = 0, config.epochs
        if earlier is not None:
            restore(model, earlier, callbacks if is_root else None)
            if is_root:
                # What the owner of the checkpoint had written stays with its generation.
                Metrics.numbered(earlier.history).write(metrics_file)
            first_epoch = earlier.epochs
            last_epoch = earlier.epochs if earlier.has_ended else config.epochs
        try:
            history = model.fit(
                data.train,
                initial_epoch=first_epoch,
                epochs=last_epoch,
                steps_per_epoch=data.n_batches,
                validation_data=data.val,
                callbacks=[_DivergenceStop(config.learning_rate), *callbacks, *writers, *agreement],
                shuffle=False,
                verbose=0,
            )
        except TrainingDiverged:
            if is_root:
                best.write()
            raise
        test = model.evaluate(data.test, verbose=0, return_dict=True, callbacks=[*callbacks, *agreement])
    if earlier is not None:
        _prepend(history, earlier)
    return history, {name: float(test[name]) for name in ("loss", "mae")}


@contextlib.contextmanager
def _taking(model: keras.Model, take: Callable[..., Any] | None) -> Iterator[None]:
    """Let the steps of a model make their batches by `take` inside the block."""
    if take is None:
        yield
        return
    model.make_train_function()
    model.make_test_function()
    steps = model.train_function, model.test_function

    def taking(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda iterator: step(iter([take(*next(iterator))]))

    # Around the traced steps, not in them: a model that is kept is trained on other data next.
    model.train_function, model.test_function = map(taking, steps)
    try:
        yield
    finally:
        model.train_function, model.test_function = steps


def _prepend(history: keras.callbacks.History, earlier: Checkpoint) -> None:
    names = list(earlier.history[0])
    history.epoch = [*range(earlier.epochs), *history.epoch]
    history.history = {name: [row[name] for row in earlier.history] + history.history.get(name, []) for name in names}


class _DivergenceStop(keras.callbacks.Callback):
    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self._learning_rate = learning_rate
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if (batch + 1) % _BATCHES_BETWEEN_CHECKS == 0 and logs:
            self._check({"loss": float(logs["loss"])})

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._check(logs or {})

    def _check(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingDiverged(
                    f"training diverged: {name} is {value} in epoch {self._epoch + 1}; "
                    f"learning_rate={self._learning_rate:g} is too high, or the data hold extreme values."
                )


class _MetricsLog(keras.callbacks.Callback):
    """One row per epoch; the file is rewritten whole, so that a reader never sees half a row."""

    def __init__(self, path: Path, earlier: Checkpoint | None) -> None:
        super().__init__()
        self._path = path
        self._metrics = Metrics.numbered(earlier.history) if earlier else Metrics()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        self._metrics = self._metrics.with_epoch(row)
        self._metrics.write(self._path)


class _BestModel(keras.callbacks.Callback):
    """Write the best model. Keras' ModelCheckpoint writes in place, and a killed rank would leave half of it there.

    Parameters
    ----------
    path : Path
        The model's file.
    stopping : Stopping
        What knows the best epoch and its weights; it comes before this.
    is_written_at_once : bool
        Whether to write after each epoch that is the best so far, and not at the end only.
    """

    def __init__(self, path: Path, stopping: Stopping, *, is_written_at_once: bool) -> None:
        super().__init__()
        self._path = path
        self._stopping = stopping
        self._is_written_at_once = is_written_at_once
        self._written: int | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if self._is_written_at_once and self._stopping.best_epoch == epoch:
            self.write()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
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


def _from_arrays(
    prepared: PreparedData, config: RunConfig, first_epoch: int, share: Share, copies: DeviceCopies | None
) -> FitData:
    train = _scaled(prepared, "train", config)
    size, step = prepared.window_size, prepared.window_step
    count = len(train) * windows.n_windows(train.n_steps, size, step)
    epochs = range(first_epoch, config.epochs)
    batches = shuffled_batches(
        train, size, step, batch_size=config.batch_size, epochs=epochs, seed=config.seed, share=share, copies=copies
    )
    val, test = (ordered(prepared, name, config, share, copies) for name in ("val", "test"))
    take = None if copies is None else taking_on_device(train, size, copies)
    return FitData(batches, math.ceil(count / config.batch_size), val, test, prepared.train_stats, take)


def _scaled(prepared: PreparedData, name: str, config: RunConfig) -> Sequences:
    split, stats = prepared.splits[name], prepared.train_stats
    if not config.standardize_inputs:
        return split
    return replace(split, input_scaling=scaling_of(stats, "inputs_"), param_scaling=scaling_of(stats, "params_"))


def _scaler(stats: dict[str, Any]) -> Any:
    scalings = {name: scaling_of(stats, f"{name}_") for name in ("inputs", "params")}

    @tf.autograph.experimental.do_not_convert
    def scale(inputs: dict[str, Any], labels: Any) -> tuple[dict[str, Any], Any]:
        scaled = {}
        for name, scaling in scalings.items():
            values = (tf.cast(inputs[name], tf.float64) - scaling.mean) / scaling.divisor()
            scaled[name] = tf.cast(values, tf.float32)
        return scaled, labels

    return scale


def _divider(share: Share, batch_size: int) -> Any:
    length = math.ceil(batch_size / share.size)

    @tf.autograph.experimental.do_not_convert
    def divide(inputs: dict[str, Any], labels: Any) -> tuple[dict[str, Any], Any, Any]:
        positions = share.rank * length + tf.range(length)
        is_there = positions < tf.shape(labels)[0]
        chosen = tf.where(is_there, positions, 0)
        parts = {name: tf.gather(values, chosen) for name, values in inputs.items()}
        return parts, tf.gather(labels, chosen), tf.cast(is_there, tf.float32)

    return divide


def _counted(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Tell the data set its own length: Keras warns when one of unknown length ends."""
    if int(dataset.cardinality()) >= 0:
        return dataset
    add_one = tf.autograph.experimental.do_not_convert(lambda count, *_: count + 1)
    count = int(dataset.reduce(np.int64(0), add_one))
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def _windows_of(sequences: tf.data.Dataset, config: RunConfig) -> tf.data.Dataset:
    """Window the whole sequences of a test split that comes as a data set."""
    elements = list(sequences.as_numpy_iterator())
    inputs = np.stack([element["inputs"] for element, _ in elements])
    params = np.stack([element["params"] for element, _ in elements])
    labels = np.stack([values for _, values in elements])
    sequences = Sequences(inputs, labels, np.arange(len(params)), params)
    return ordered_batches(sequences, config.window_size, config.window_step, batch_size=config.batch_size)
