"""Windows by index: a window is the pair (sequence, last step), gathered when a batch is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc.errors import WindowError

Array = NDArray[Any]


def n_windows(n_steps: int, window_size: int, window_step: int = 1) -> int:
    """Return the number of training windows in a sequence.

    Raises
    ------
    WindowError
        If the window is not shorter than the sequence.
    """
    if not 1 <= window_size < n_steps:
        raise WindowError(
            f"window_size={window_size} does not fit a sequence of {n_steps} steps; "
            f"choose 1..{n_steps - 1}, or pad the sequences with pad_length."
        )
    if window_step < 1:
        raise WindowError(f"window_step={window_step} must be at least 1.")
    return (n_steps - window_size) // window_step + 1


def label_steps(n_steps: int, window_size: int, window_step: int = 1) -> Array:
    """Return the step that each training window ends at and predicts, shape (n_windows,)."""
    return window_size - 1 + window_step * np.arange(n_windows(n_steps, window_size, window_step), dtype=np.int32)


def window_index(n_sequences: int, n_steps: int, window_size: int, window_step: int = 1) -> Array:
    """Return all training windows as pairs (sequence, last step).

    Returns
    -------
    ndarray, shape (n_sequences * n_windows, 2), int32
        Sequence by sequence, in the order of the steps.
    """
    steps = label_steps(n_steps, window_size, window_step)
    return np.stack(
        [np.repeat(np.arange(n_sequences, dtype=np.int32), len(steps)), np.tile(steps, n_sequences)], axis=1
    )


def prediction_index(n_sequences: int, n_steps: int, window_size: int) -> Array:
    """Return the windows of a prediction as pairs (sequence, last step): one for each step from `window_size` on.

    Returns
    -------
    ndarray, shape (n_sequences * (n_steps - window_size), 2), int32
        Sequence by sequence. The first training window, which ends one step earlier, is not among them.

    Raises
    ------
    WindowError
        If the window is not shorter than the sequences.
    """
    index = window_index(n_sequences, n_steps, window_size)
    return index[index[:, 1] >= window_size]


def make_windows(sequences: Array, window_size: int, window_step: int = 1) -> Array:
    """Show each sequence as its windows of `window_size` steps.

    Parameters
    ----------
    sequences : ndarray, shape (n_samples, n_steps, n_features)
        Load sequences.

    Returns
    -------
    ndarray, shape (n_samples, n_windows, window_size, n_features)
        Read-only view. Window ``k`` ends at step ``k * window_step + window_size - 1``.

    Raises
    ------
    WindowError
        If the window is not shorter than the sequences.
    """
    n_windows(sequences.shape[1], window_size, window_step)
    views = np.lib.stride_tricks.sliding_window_view(sequences, window_size, axis=1)
    return np.moveaxis(views[:, ::window_step], -1, 2)


def gather(inputs: Any, params: Any, labels: Any, index: Any, window_size: int) -> tuple[dict[str, Any], Any]:
    """Gather the windows of `index` inside a TensorFlow graph.

    Parameters
    ----------
    inputs : tensor, shape (n_samples, n_steps, n_inputs)
    params : tensor, shape (n_samples, n_params)
    labels : tensor, shape (n_samples, n_steps, n_labels)
    index : tensor, shape (n, 2), int32
        Pairs (sequence, last step).
    window_size : int
        Steps of a window.

    Returns
    -------
    tuple
        ``({'inputs': (n, window_size, n_inputs), 'params': (n, n_params)}, (n, n_labels))``.
    """
    sequence, last = index[:, 0], index[:, 1]
    steps = last[:, None] + tf.range(1 - window_size, 1)[None, :]
    pairs = tf.stack([tf.broadcast_to(sequence[:, None], tf.shape(steps)), steps], axis=-1)
    windows = tf.ensure_shape(tf.gather_nd(inputs, pairs), (None, window_size, inputs.shape[-1]))
    return {"inputs": windows, "params": tf.gather(params, sequence)}, tf.gather_nd(labels, index)


def window_dataset(
    inputs: Array, params: Array, labels: Array, window_size: int, window_step: int = 1
) -> tf.data.Dataset:
    """Return the windows one by one, in order: elements ``({'inputs', 'params'}, label)``."""
    batches = ordered_batches(inputs, params, labels, window_size, window_step, batch_size=1024)
    count = inputs.shape[0] * n_windows(inputs.shape[1], window_size, window_step)
    return batches.unbatch().apply(tf.data.experimental.assert_cardinality(count))


def ordered_batches(
    inputs: Array, params: Array, labels: Array, window_size: int, window_step: int = 1, *, batch_size: int
) -> tf.data.Dataset:
    """Return the windows in batches, in order."""
    tensors = tf.constant(inputs), tf.constant(params), tf.constant(labels)
    index = window_index(inputs.shape[0], inputs.shape[1], window_size, window_step)
    return _gathered(tf.data.Dataset.from_tensor_slices(index).batch(batch_size), tensors, window_size)


def shuffled_batches(
    inputs: Array,
    params: Array,
    labels: Array,
    window_size: int,
    window_step: int = 1,
    *,
    batch_size: int,
    epochs: range,
    seed: int,
) -> tf.data.Dataset:
    """Return the windows of all `epochs` in batches; the order of an epoch depends on `seed` and its number alone."""
    tensors = tf.constant(inputs), tf.constant(params), tf.constant(labels)
    index = tf.constant(window_index(inputs.shape[0], inputs.shape[1], window_size, window_step))

    @tf.autograph.experimental.do_not_convert
    def one_epoch(epoch: Any) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(index, seed=tf.stack([tf.constant(seed, tf.int64), epoch]))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    return _gathered(tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(one_epoch), tensors, window_size)


def _gathered(index_batches: tf.data.Dataset, tensors: tuple[Any, Any, Any], window_size: int) -> tf.data.Dataset:
    @tf.autograph.experimental.do_not_convert
    def gathered(index: Any) -> Any:
        return gather(*tensors, index, window_size)

    return index_batches.map(gathered, num_parallel_calls=2).prefetch(4)
