"""Windows of data sets of whole sequences, under the names that GrainLearning gave their functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc import windows
from glrnn_hpc.preprocessor.base import sequence_dataset
from glrnn_hpc.surrogate.feed import rename_elements
from glrnn_hpc.surrogate.prediction import all_windows

Array = NDArray[Any]


def extract_tensors(data: tf.data.Dataset) -> tuple[Array, Array, Array]:
    """Return inputs (n, T, x), parameters (n, c) and labels (n, T, y) of a data set of whole sequences."""
    elements = list(data.map(rename_elements).as_numpy_iterator())
    inputs, params = (np.array([element[name] for element, _ in elements]) for name in ("inputs", "params"))
    return inputs, params, np.array([labels for _, labels in elements])


def windowize_single_dataset(
    data: tf.data.Dataset, window_size: int = 1, window_step: int = 1, seed: int = 42, **_: Any
) -> tf.data.Dataset:
    """Cut whole sequences into windows, shuffled: elements ``({'inputs', 'params'}, labels of the last step)``.

    Parameters
    ----------
    data : tf.data.Dataset
        Whole sequences, ``({'inputs': (T, x), 'params': (c,)}, labels (T, y))``.
    window_size, window_step : int
        Steps of a window, and between two of them.
    seed : int
        Of the order; it is that of GrainLearning.
    **_
        Other keys of a configuration.

    Raises
    ------
    WindowError
        If the window is not shorter than the sequences.
    """
    inputs, params, labels = extract_tensors(data)
    n_steps = labels.shape[1]
    ends = windows.label_steps(n_steps, window_size, window_step)
    # All sequences of the first window, then of the next one: the order that is shuffled by the seed.
    cut = np.moveaxis(windows.make_windows(inputs, window_size, window_step), 1, 0)
    parts = (cut, np.repeat(params[None], len(ends), axis=0), np.moveaxis(labels[:, ends], 1, 0))
    order = np.random.RandomState(seed).permutation(len(ends) * len(labels))
    return sequence_dataset(*(part.reshape(-1, *part.shape[2:])[order] for part in parts))


def windowize_train_val_test(
    split_data: Mapping[str, tf.data.Dataset], window_size: int, window_step: int, **_: Any
) -> dict[str, tf.data.Dataset]:
    """Cut the splits `train` and `val` into windows, see `windowize_single_dataset`; `test` keeps whole sequences."""
    cut = {name: windowize_single_dataset(split_data[name], window_size, window_step) for name in ("train", "val")}
    return {**split_data, **cut}


def predict_over_windows(
    inputs: Mapping[str, Any], model: keras.Model, window_size: int, sequence_length: int
) -> tf.Tensor:
    """Run a network over all windows of a batch of whole sequences; nothing is scaled.

    Parameters
    ----------
    inputs : mapping
        `inputs` (n, T, x) and `params` (n, c).
    model : keras.Model
        The network.
    window_size : int
        Steps of a window.
    sequence_length : int
        How many steps of the sequences are taken.

    Returns
    -------
    tf.Tensor, shape (n, sequence_length - window_size, n_labels)
        Element ``k`` is the response at step ``window_size + k``, as in `predict_macroscopics`.
    """
    sequences = tf.cast(inputs["inputs"], tf.float32)[:, :sequence_length]
    return all_windows(model, sequences, tf.cast(inputs["params"], tf.float32), window_size)
