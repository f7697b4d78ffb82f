"""History of a load that turns round: what a window of a few steps no longer shows, in numbers at each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.experiments.base import Column
from glrnn_hpc.experiments.derived_features import DerivedFeatures
from glrnn_hpc.load_path import SAME_STEP

Array = NDArray[Any]

#: Reversals that are remembered.
N_TURNS = 3


def history_features(control: str) -> DerivedFeatures:
    """Return the history of a load feature as load features, all of them chosen by ``history``.

    Parameters
    ----------
    control : str
        The feature, such as ``e_z``.

    Returns
    -------
    DerivedFeatures
        Their names begin with that of the feature. See `load_history`.
    """
    columns = [
        Column(f"{control}_direction", title="direction of loading"),
        Column(f"{control}_max", title="largest value so far"),
        Column(f"{control}_min", title="smallest value so far"),
        Column(f"{control}_path", title="path so far"),
        Column(f"{control}_reversals", title="reversals so far"),
    ]
    for k in range(1, N_TURNS + 1):
        columns += [
            Column(f"{control}_turn_{k}", title=f"value at reversal {k} before now"),
            Column(f"{control}_since_{k}", title=f"path since reversal {k} before now"),
        ]
    return DerivedFeatures(
        "history",
        (control,),
        tuple(columns),
        lambda given: {f"{control}_{name}": values for name, values in load_history(given[control]).items()},
    )


def load_history(paths: Array) -> Mapping[str, Array]:
    """Return the history of load paths at each step, from this step and earlier ones alone.

    A path has turned round as soon as it goes back from the extreme of its branch by more than a thousandth of its
    longest increment so far: rounding is no reversal.

    Parameters
    ----------
    paths : ndarray, shape (n, n_steps), float64
        One load feature, at least one step.

    Returns
    -------
    dict of str to ndarray, shape (n, n_steps), float64
        `direction`: 1 where the load grows, -1 where it falls, 0 before it has changed. `max`, `min`: largest and
        smallest value so far. `path`: sum of the lengths of all increments so far. `reversals`: their number so far.
        `turn_1`, `turn_2`, `turn_3`: value at the last reversal, the one before it, and the one before that;
        `since_1`, `since_2`, `since_3`: path since then. The first step stands for reversals that have not been.
    """
    n, n_steps = paths.shape
    increments = np.abs(np.diff(paths, axis=1, prepend=paths[:, :1]))
    travelled = np.cumsum(increments, axis=1)
    tolerances = SAME_STEP * np.maximum.accumulate(increments, axis=1)
    direction, extreme, at_extreme = np.zeros(n), paths[:, 0].copy(), np.zeros(n)
    # Values and paths of the last reversals, the latest one first.
    turns, at_turns = np.repeat(paths[None, :, 0], N_TURNS, axis=0), np.zeros((N_TURNS, n))
    directions, reversals = np.zeros((n, n_steps)), np.zeros((n, n_steps))
    turn_values, turn_paths = np.empty((N_TURNS, n, n_steps)), np.empty((N_TURNS, n, n_steps))
    turn_values[:, :, 0], turn_paths[:, :, 0] = turns, at_turns
    for step in range(1, n_steps):
        value, tolerance = paths[:, step], tolerances[:, step]
        begins = (direction == 0) & (np.abs(value - extreme) > tolerance)
        turned = direction * (extreme - value) > tolerance
        turns[:, turned] = np.concatenate([extreme[None, turned], turns[:-1, turned]])
        at_turns[:, turned] = np.concatenate([at_extreme[None, turned], at_turns[:-1, turned]])
        direction = np.where(begins, np.sign(value - extreme), np.where(turned, -direction, direction))
        is_ahead = turned | (direction * (value - extreme) > 0)
        extreme = np.where(is_ahead, value, extreme)
        at_extreme = np.where(is_ahead, travelled[:, step], at_extreme)
        directions[:, step] = direction
        reversals[:, step] = reversals[:, step - 1] + turned
        turn_values[:, :, step], turn_paths[:, :, step] = turns, at_turns
    history = {
        "direction": directions,
        "max": np.maximum.accumulate(paths, axis=1),
        "min": np.minimum.accumulate(paths, axis=1),
        "path": travelled,
        "reversals": reversals,
    }
    for k in range(N_TURNS):
        history |= {f"turn_{k + 1}": turn_values[k], f"since_{k + 1}": travelled - turn_paths[k]}
    return history
