"""Paths of a load: the length of their steps, where they turn round, and their branches in between."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Steps and first values that differ by less, in parts of a step, are the same; smaller increments are none.
SAME_STEP = 1e-3

#: Paths that differ by less than this part of their range are the same.
SAME_PATH = 1e-6


@dataclass(frozen=True)
class LoadPath:
    """Paths of one load feature in all sequences of a training.

    Attributes
    ----------
    start : float or None
        First value; None where the sequences begin with different ones.
    step : float or None
        Length of the increment from one step to the next, up or down; None where there are several.
    reverses : bool
        Whether it both grows and falls within a sequence.
    """

    start: float | None
    step: float | None
    reverses: bool


def load_paths(parts: Iterable[Array]) -> list[LoadPath]:
    """Return the paths of each load feature.

    Parameters
    ----------
    parts : iterable of ndarray, shape (n_samples, n_steps, n_inputs)
        The sequences of the training in parts, without padding, in original units; at least one part.
    """
    starts, lengths, reversing = [], [], []
    for part in parts:
        values = np.asarray(part, "float64")
        starts.append(values[:, 0])
        # A sequence of one step has no increment.
        increments = np.diff(values, axis=1) if values.shape[1] > 1 else np.zeros_like(values)
        sizes = np.abs(increments)
        least = SAME_STEP * sizes.max(axis=1)
        reversing.append(((increments.max(axis=1) > least) & (increments.min(axis=1) < -least)).any(axis=0))
        lengths += [sizes.min(axis=(0, 1)), sizes.max(axis=(0, 1))]
    first, reverses = np.concatenate(starts), np.any(reversing, axis=0)
    shortest, longest = np.min(lengths, axis=0), np.max(lengths, axis=0)
    paths = []
    for column in range(first.shape[1]):
        step, tolerance = longest[column], SAME_STEP * longest[column]
        is_even = 0 < step <= shortest[column] + tolerance
        is_one_start = np.ptp(first[:, column]) <= tolerance
        paths.append(
            LoadPath(
                start=_rounded(first[0, column]) if is_one_start else None,
                step=_rounded((shortest[column] + step) / 2) if is_even else None,
                reverses=bool(reverses[column]),
            )
        )
    return paths


def branch_ends(values: Array, tolerance: float = 0.0) -> list[int]:
    """Return the rows at which the branches of a path begin and end.

    Parameters
    ----------
    values : ndarray, shape (n_rows,)
        One load feature along its path, at least one row.
    tolerance : float
        A way back of this length at most is no reversal: a measured strain is not smooth.

    Returns
    -------
    list of int
        The first row, the rows at which the path turns round, and the extreme of the last branch.
    """
    turns, high, low, direction = [0], 0, 0, 0
    for row, value in enumerate(values.tolist()):
        if direction >= 0 and value > values[high]:
            high = row
        if direction <= 0 and value < values[low]:
            low = row
        if direction > 0 and values[high] - value > tolerance:
            turns.append(high)
            direction, low = -1, row
        elif direction < 0 and value - values[low] > tolerance:
            turns.append(low)
            direction, high = 1, row
        elif direction == 0 and values[high] - values[low] > tolerance:
            direction = 1 if high > low else -1
    return [*turns, {1: high, -1: low}.get(direction, len(values) - 1)]


def branches(values: Array) -> list[slice]:
    """Return the rows of each branch of a path; a turning point belongs to both.

    A filled area over the path can be drawn over each of them, but not over all of the path at once.
    """
    ends = [*branch_ends(values)[:-1], len(values) - 1]
    return [slice(begin, end + 1) for begin, end in zip(ends[:-1], ends[1:], strict=True)]


def reverses(values: Array, tolerance: float = 0.0) -> bool:
    """Return whether a path turns round; a way back of `tolerance` at most is no reversal."""
    return len(branch_ends(values, tolerance)) > 2


def is_one_path(paths: Array) -> bool:
    """Return whether all sequences follow the same path; paths of shape (n_samples, n_steps)."""
    return bool(np.ptp(paths, axis=0).max() <= SAME_PATH * np.ptp(paths))


def _rounded(value: float) -> float:
    """Return a value in the digits that single precision has."""
    return float(f"{value:.6g}") + 0.0
