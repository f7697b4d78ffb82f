"""Index of windows: a window is the pair (sequence, last step)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.errors import WindowError

Array = NDArray[Any]

#: What this module holds in GrainLearning, or held in version 0.1.0, and where that is.
_MOVED = {
    **dict.fromkeys(("Scaling", "Sequences"), "sequences"),
    **dict.fromkeys(
        ("extract_tensors", "predict_over_windows", "windowize_single_dataset", "windowize_train_val_test"),
        "surrogate.window_datasets",
    ),
    **dict.fromkeys(("ALIGNMENT", "DeviceCopies", "Gather", "as_tensor", "copies_on_gpu", "take_windows"), "gather"),
}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # By name, and late: those modules are built on this one.
    return getattr(importlib.import_module(f"glrnn_hpc.{_MOVED[name]}"), name)


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


def first_predicted_step(window_size: int, pad_length: int) -> int:
    """Return the first step of a sequence, without its padding, that a model predicts."""
    return max(0, window_size - pad_length)


def n_predictions_of_padding(window_size: int, pad_length: int) -> int:
    """Return how many predictions of a padded sequence come before its first step: those of padding beyond a window."""
    return max(0, pad_length - window_size)


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
