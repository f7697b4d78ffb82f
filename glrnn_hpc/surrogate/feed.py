"""Feed of a training: a rank's batches, made of what a preprocessor gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from glrnn_hpc.batches import WHOLE, Share, ordered_batches, shuffled_batches
from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.gather import DeviceCopies, Gather
from glrnn_hpc.preprocessor.base import PreparedData, Preprocessor, gives_arrays
from glrnn_hpc.preprocessor.splits import scaling_of
from glrnn_hpc.records.train_stats import TrainStats
from glrnn_hpc.sequences import Sequences

#: Names of the elements in GrainLearning's older data sets.
_OLD_NAMES = {"load_sequence": "inputs", "contact_parameters": "params"}


@dataclass(frozen=True)
class FitData:
    """Data of a training: batches of all epochs, and batches in order to validate and test on.

    Attributes
    ----------
    train, val, test : tf.data.Dataset
        Elements ``({'inputs', 'params'}, labels)``, with weights for ranks that train together. Where a network learns
        targets, the labels are what `raw_loss` takes apart.
    n_batches : int
        Batches of an epoch.
    train_stats : TrainStats
        What `Preprocessor.prepare_datasets` returns.
    make_on_device : callable or None
        With it the elements are places of windows, and it makes a batch of them, on the device of the model.
    """

    train: tf.data.Dataset
    n_batches: int
    val: tf.data.Dataset
    test: tf.data.Dataset
    train_stats: TrainStats
    make_on_device: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Feed:
    """Maker of a rank's batches.

    Attributes
    ----------
    config : RunConfig
        Windows, batches, epochs and the seed of their order.
    share : Share
        This rank's part of each batch; the batches of a part hold weights, 0 where there is no window.
    copies : DeviceCopies or None
        Where the arrays of an `ArrayPreprocessor` are copied to; batches are then made there.
    """

    config: RunConfig
    share: Share = WHOLE
    copies: DeviceCopies | None = None

    def prepare(self, preprocessor: Preprocessor, first_epoch: int = 0) -> FitData:
        """Turn what a preprocessor gives into batches, inputs standardised where the configuration says so.

        Parameters
        ----------
        preprocessor : Preprocessor
            Gives the data.
        first_epoch : int
            Epoch, from 0, whose batches come first.

        Raises
        ------
        ConfigError
            If its network is to learn targets, and the preprocessor makes its data sets in a way of its own.
        """
        # A subclass that makes its data sets in its own way must not be passed over.
        if gives_arrays(preprocessor):
            return self._from_arrays(preprocessor.prepare_arrays(), first_epoch)
        datasets, stats = preprocessor.prepare_datasets()
        if "targets" in stats:
            # Their labels are targets alone; the raw labels, of which the raw loss is taken, are not in them.
            name = type(preprocessor).__name__
            raise ConfigError(
                f"label_scaling, exact: {name} makes data sets of its own (prepare_datasets), whose labels can only "
                "be learnt as they are; override prepare_arrays in its place, or set label_scaling: raw and exact: "
                "false."
            )
        return self._from_datasets(datasets, stats, first_epoch)

    def ordered(self, prepared: PreparedData, split: str) -> tf.data.Dataset:
        """Return the windows of a split in order, as training validates on them."""
        return ordered_batches(self._gather(prepared, split), self.config.batch_size, self.share)

    def _from_arrays(self, prepared: PreparedData, first_epoch: int) -> FitData:
        config, train = self.config, self._gather(prepared, "train")
        epochs = range(first_epoch, config.epochs)
        batches = shuffled_batches(train, config.batch_size, self.share, epochs=epochs, seed=config.seed)
        val, test = (self.ordered(prepared, split) for split in ("val", "test"))
        n_batches = math.ceil(train.n / config.batch_size)
        return FitData(batches, n_batches, val, test, prepared.train_stats, train.maker_on_device())

    def _gather(self, prepared: PreparedData, split: str) -> Gather:
        sequences, stats = prepared.splits[split], prepared.train_stats
        if self.config.standardize_inputs:
            inputs, params = scaling_of(stats, "inputs_"), scaling_of(stats, "params_")
            sequences = replace(sequences, input_scaling=inputs, param_scaling=params)
        has_targets = sequences.targets is not None
        return Gather(sequences, prepared.window_size, prepared.window_step, self.copies, with_raw=has_targets)

    def _from_datasets(self, datasets: dict[str, tf.data.Dataset], stats: TrainStats, first_epoch: int) -> FitData:
        config = self.config
        train, val = (_counted(datasets[split].map(rename_elements)) for split in ("train", "val"))
        n_windows = int(train.cardinality())
        n_batches = math.ceil(n_windows / config.batch_size)
        # One data set for all epochs: fit takes n_batches of it per epoch, and each repetition has another order.
        shuffled = train.shuffle(n_windows, seed=config.seed, reshuffle_each_iteration=True).batch(config.batch_size)
        # The order of an epoch follows from those before it, which must be drawn again: slow, but the same.
        batches = shuffled.repeat().skip(first_epoch * n_batches)
        splits = [batches, val.batch(config.batch_size), self._windowed(datasets["test"].map(rename_elements))]
        if config.standardize_inputs:
            splits = [split.map(_scaler(stats)) for split in splits]
        if self.share.size > 1:
            splits = [split.map(_divider(self.share, config.batch_size)) for split in splits]
        return FitData(splits[0], n_batches, splits[1], splits[2], stats)

    def _windowed(self, sequences: tf.data.Dataset) -> tf.data.Dataset:
        """Return the windows of a test split that comes as a data set of whole sequences."""
        elements = list(sequences.as_numpy_iterator())
        inputs = np.stack([element["inputs"] for element, _ in elements])
        params = np.stack([element["params"] for element, _ in elements])
        labels = np.stack([values for _, values in elements])
        arrays = Sequences(inputs, labels, np.arange(len(params)), params)
        return ordered_batches(Gather(arrays, self.config.window_size, self.config.window_step), self.config.batch_size)


@tf.autograph.experimental.do_not_convert
def rename_elements(inputs: dict[str, Any], labels: Any) -> tuple[dict[str, Any], Any]:
    """Rename the elements that GrainLearning's older data sets call otherwise."""
    return {_OLD_NAMES.get(name, name): value for name, value in inputs.items()}, labels


def _scaler(stats: TrainStats) -> Any:
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
    """Give the data set its own length: Keras warns when one of unknown length ends."""
    if int(dataset.cardinality()) >= 0:
        return dataset
    add_one = tf.autograph.experimental.do_not_convert(lambda count, *_: count + 1)
    count = int(dataset.reduce(np.int64(0), add_one))
    return dataset.apply(tf.data.experimental.assert_cardinality(count))
