"""Batches of windows, in their order or shuffled: what a training is fed with, on one rank or on several."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from glrnn_hpc.gather import DeviceCopies, Gather
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.windows import n_windows


@dataclass(frozen=True)
class Share:
    """Which part of each batch is this rank's, of those that train together."""

    rank: int
    size: int


WHOLE = Share(0, 1)


def window_dataset(sequences: Sequences, window_size: int, window_step: int = 1) -> tf.data.Dataset:
    """Return the windows one by one, in order: elements ``({'inputs', 'params'}, label)``."""
    count = len(sequences) * n_windows(sequences.n_steps, window_size, window_step)
    windows = ordered_batches(sequences, window_size, window_step, batch_size=1024).unbatch()
    return windows.apply(tf.data.experimental.assert_cardinality(count))


def ordered_batches(
    sequences: Sequences,
    window_size: int,
    window_step: int = 1,
    *,
    batch_size: int,
    share: Share = WHOLE,
    copies: DeviceCopies | None = None,
) -> tf.data.Dataset:
    """Return the windows in batches, in order; of each batch the share of this rank.

    With `copies` the elements are those that `taking_on_device` makes a batch of, as tf.data itself runs on the CPU.
    """
    gather = Gather(sequences, window_size, window_step, copies)
    n_batches = math.ceil(gather.n / batch_size)
    make = gather if copies is None else gather.places
    return _batches(tf.data.Dataset.range(n_batches), make, gather.n, batch_size, share, lambda position, _: position)


def shuffled_batches(
    sequences: Sequences,
    window_size: int,
    window_step: int = 1,
    *,
    batch_size: int,
    epochs: range,
    seed: int,
    share: Share = WHOLE,
    copies: DeviceCopies | None = None,
) -> tf.data.Dataset:
    """Return the windows of all `epochs` in batches, every one once per epoch; of each batch the share of this rank.

    The order of an epoch depends on `seed` and its number alone. With `copies` it is like `ordered_batches`.
    """
    gather = Gather(sequences, window_size, window_step, copies)
    n_batches = math.ceil(gather.n / batch_size)

    def shuffled(position: Any, epoch: Any) -> Any:
        # A pseudorandom permutation that is computed place by place: nothing is as long as an epoch. With TensorFlow's
        # default of 4 rounds neighbours stay correlated; from 8 on the order cannot be told from a random one.
        key = tf.cast(tf.stack([tf.constant(seed, tf.int64), epoch, tf.constant(0, tf.int64)]), tf.uint32)
        last = tf.constant(gather.n - 1, tf.int64)
        return tf.raw_ops.RandomIndexShuffle(index=position, seed=key, max_index=last, rounds=8)

    numbers = tf.data.Dataset.range(epochs.start * n_batches, epochs.stop * n_batches)
    make = gather if copies is None else gather.places
    return _batches(numbers, make, gather.n, batch_size, share, shuffled)


def _batches(
    numbers: tf.data.Dataset,
    make: Callable[[Any], tuple[Any, ...]],
    n: int,
    batch_size: int,
    share: Share,
    order: Callable[[Any, Any], Any],
) -> tf.data.Dataset:
    """Make batch `number`, counted over all epochs, of those of `n` windows that `order` puts at its positions."""
    n_batches = math.ceil(n / batch_size)
    length = math.ceil(batch_size / share.size)

    @tf.autograph.experimental.do_not_convert
    def batch(number: Any) -> Any:
        start = number % n_batches * batch_size
        stop = tf.minimum(start + batch_size, n)
        if share.size == 1:
            return make(order(tf.range(start, stop), number // n_batches))
        # All ranks make as many batches of the same length; what is beyond the end has no weight.
        positions = start + share.rank * length + tf.range(length, dtype=tf.int64)
        is_there = positions < stop
        parts = make(order(tf.where(is_there, positions, 0), number // n_batches))
        return *parts, tf.cast(is_there, tf.float32)

    # TensorFlow rewrites a pipeline to optimise it, and copies the data that it holds in doing so. Its tuning has
    # nothing to choose here, and sleeps for longer and longer: the end of a training would wait for it.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return numbers.map(batch, num_parallel_calls=2).prefetch(4).with_options(options)
