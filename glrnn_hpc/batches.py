"""Batches of gathered windows, in order or shuffled, whole or a rank's share of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from glrnn_hpc.gather import Gather
from glrnn_hpc.sequences import Sequences


@dataclass(frozen=True)
class Share:
    """Part of each batch that belongs to rank `rank` of the `size` ranks that train together."""

    rank: int
    size: int


WHOLE = Share(0, 1)


def window_dataset(sequences: Sequences, window_size: int, window_step: int = 1) -> tf.data.Dataset:
    """Return the windows one by one, in order: elements ``({'inputs', 'params'}, label)``."""
    gather = Gather(sequences, window_size, window_step)
    windows = ordered_batches(gather, 1024).unbatch()
    return windows.apply(tf.data.experimental.assert_cardinality(gather.n))


def ordered_batches(gather: Gather, batch_size: int, share: Share = WHOLE) -> tf.data.Dataset:
    """Return the windows in batches, in order; of each batch the share of this rank.

    The elements are those of `Gather.element`; a share that is not the whole has weights too, 0 where there is no
    window.
    """
    numbers = tf.data.Dataset.range(math.ceil(gather.n / batch_size))
    return _batches(numbers, gather, batch_size, share, lambda position, _: position)


def shuffled_batches(
    gather: Gather, batch_size: int, share: Share = WHOLE, *, epochs: range, seed: int
) -> tf.data.Dataset:
    """Return the windows of all `epochs` in batches, every one once per epoch; of each batch the share of this rank.

    The order of an epoch depends on `seed` and its number alone. The elements are those of `ordered_batches`.
    """
    n_batches = math.ceil(gather.n / batch_size)

    def shuffled(position: Any, epoch: Any) -> Any:
        # A pseudorandom permutation that is computed place by place: nothing is as long as an epoch. With TensorFlow's
        # default of 4 rounds neighbours stay correlated; from 8 on the order cannot be told from a random one.
        key = tf.cast(tf.stack([tf.constant(seed, tf.int64), epoch, tf.constant(0, tf.int64)]), tf.uint32)
        last = tf.constant(gather.n - 1, tf.int64)
        return tf.raw_ops.RandomIndexShuffle(index=position, seed=key, max_index=last, rounds=8)

    numbers = tf.data.Dataset.range(epochs.start * n_batches, epochs.stop * n_batches)
    return _batches(numbers, gather, batch_size, share, shuffled)


def _batches(
    numbers: tf.data.Dataset, gather: Gather, batch_size: int, share: Share, order: Callable[[Any, Any], Any]
) -> tf.data.Dataset:
    """Make batch `number`, counted over all epochs, of the windows that `order` puts at its positions."""
    n_batches = math.ceil(gather.n / batch_size)
    length = math.ceil(batch_size / share.size)

    @tf.autograph.experimental.do_not_convert
    def batch(number: Any) -> Any:
        start = number % n_batches * batch_size
        stop = tf.minimum(start + batch_size, gather.n)
        if share.size == 1:
            return gather.element(order(tf.range(start, stop), number // n_batches))
        # All ranks make as many batches of the same length; what is beyond the end has no weight.
        positions = start + share.rank * length + tf.range(length, dtype=tf.int64)
        is_there = positions < stop
        parts = gather.element(order(tf.where(is_there, positions, 0), number // n_batches))
        return *parts, tf.cast(is_there, tf.float32)

    # TensorFlow rewrites a pipeline to optimise it, and copies the data that it holds in doing so. Its tuning has
    # nothing to choose here, and sleeps for longer and longer: the end of a training would wait for it.
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    options.autotune.enabled = False
    return numbers.map(batch, num_parallel_calls=2).prefetch(4).with_options(options)
