"""Resampling of an observation: its columns at the load steps of a training, along a path that may reverse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.collector.training_domain import TrainingDomain
from glrnn_hpc.errors import DataError
from glrnn_hpc.load_path import SAME_STEP, branch_ends, reverses

Array = NDArray[Any]

#: A way back of the control that is shorter, in parts of a load step, is noise of the measurement and no reversal.
_LEAST_BRANCH = 0.5


@dataclass(frozen=True)
class Resampled:
    """Columns of an observation at the load steps of a training.

    Attributes
    ----------
    columns : dict of str to ndarray, shape (n_steps,)
        By name, the control among them.
    method : str
        How the rows of the file became these steps.
    notes : list of str
        Sentences about what was assumed or left out.
    """

    columns: dict[str, Array]
    method: str
    notes: list[str]


@dataclass(frozen=True)
class _Steps:
    """Steps of a training whose load reverses: the value before the first one, and the length of all."""

    start: float
    length: float


def resample(path: Path, columns: dict[str, Array], control: str, domain: TrainingDomain) -> Resampled:
    """Interpolate an observation to the load steps of a training.

    Parameters
    ----------
    path : Path
        File of the observation, for messages.
    columns : dict of str to ndarray, shape (n_rows,)
        The observation by name.
    control : str
        The load feature that the steps follow.
    domain : TrainingDomain
        Of the model.

    Raises
    ------
    DataError
        If the observation begins later than the training, or reverses where the training does not.
    """
    load_path = domain.load_paths.get(control)
    if load_path is None or not load_path.reverses:
        return _resample_monotonic(path, columns, control, domain)
    if load_path.step is None or load_path.start is None:
        note = (
            f"The training has paths of {control} that reverse in steps of different lengths: the observation's own "
            "steps are taken."
        )
        return Resampled(columns, "none: the observation's own steps", [note])
    resampled = _resample_branches(path, columns, control, _Steps(load_path.start, load_path.step))
    return _within_training(path, resampled, control, domain, load_path.step)


def _resample_branches(path: Path, columns: dict[str, Array], control: str, steps: _Steps) -> Resampled:
    """Interpolate all columns along each branch of the control, whose turning points become whole steps."""
    strains = columns[control]
    tolerance = SAME_STEP * steps.length
    is_at_start = abs(strains[0] - steps.start) <= tolerance
    if is_at_start and np.abs(np.abs(np.diff(strains)) - steps.length).max(initial=0.0) <= tolerance:
        return Resampled(columns, "none: the observation has the steps of the training", [])
    if abs(strains[0] - steps.start) > steps.length:
        raise DataError(
            f"{path}: begins at {control}={strains[0]:.4g}; the model needs the load from {steps.start:.4g} on. Is the "
            "first part of the experiment missing?"
        )
    notes = []
    if not is_at_start:
        notes.append(f"The first row, at {control}={strains[0]:.4g}, stands for the beginning at {steps.start:.4g}.")
    ends = branch_ends(strains, _LEAST_BRANCH * steps.length)
    levels, parts = [np.zeros(1)], [{name: values[:1] for name, values in columns.items()}]
    n_left_out = 0
    for begin, end in zip(ends[:-1], ends[1:], strict=True):
        origin = steps.start if begin == 0 else strains[begin]
        direction = 1.0 if strains[end] > origin else -1.0
        length, level = abs(strains[end] - origin), levels[-1][-1]
        if end == ends[-1]:
            n_steps, spacing = int(length / steps.length + SAME_STEP), steps.length
        else:
            n_steps = int(direction * (np.rint((strains[end] - steps.start) / steps.length) - level))
            spacing = length / max(1, n_steps)
        if n_steps < 1:
            n_left_out += end != ends[-1]
            continue
        counted = np.arange(1, n_steps + 1)
        levels.append(level + direction * counted)
        rows = slice(begin, end + 1)
        progress = direction * (strains[rows] - origin)
        # Rows in which the control goes back a little are noise: the others are in the order of the path.
        is_ahead = np.concatenate([[True], progress[1:] > np.maximum.accumulate(progress)[:-1]])
        parts.append(
            {
                name: np.interp(spacing * counted, progress[is_ahead], values[rows][is_ahead])
                for name, values in columns.items()
            }
        )
    resampled = {name: np.concatenate([part[name] for part in parts]) for name in columns}
    resampled[control] = steps.start + steps.length * np.concatenate(levels)
    notes += _reversal_notes(strains, ends, control, steps, n_left_out)
    method = (
        f"linear interpolation along the path of {control}, branch by branch, from {len(strains)} rows to "
        f"{len(resampled[control])} steps of the training"
    )
    return Resampled(resampled, method, notes)


def _reversal_notes(strains: Array, ends: list[int], control: str, steps: _Steps, n_left_out: int) -> list[str]:
    turns = ends[1:-1]
    if not turns:
        return []
    rows = ", ".join(str(row + 1) for row in turns)
    notes = [
        f"{control} turns round in the rows {rows} of the observation; ways back of less than "
        f"{_LEAST_BRANCH * steps.length:.2g}, half a load step, are taken for noise."
    ]
    off = (strains[turns] - steps.start) / steps.length
    if (moved := float(np.abs(off - np.rint(off)).max())) > SAME_STEP:
        notes.append(f"The turning points are moved by up to {moved * steps.length:.2g} to whole load steps.")
    if n_left_out:
        notes.append(f"Branches that are less than a load step long are left out: {n_left_out}.")
    return notes


def _within_training(
    path: Path, resampled: Resampled, control: str, domain: TrainingDomain, length: float
) -> Resampled:
    """Leave out what follows after the strains of the training were left, or after as many steps as it has."""
    values, notes = resampled.columns[control], list(resampled.notes)
    kept = len(values)
    if control in domain.input_ranges:
        low, high = domain.input_ranges[control]
        margin = (1 + SAME_STEP) * length
        outside = np.flatnonzero((values < low - margin) | (values > high + margin))
        if len(outside):
            kept = int(outside[0])
            notes.append(
                f"{control} leaves the range of the training, {low:.4g}..{high:.4g}: what was observed from step "
                f"{kept} on is left out."
            )
    if 0 < domain.n_steps < kept:
        kept = domain.n_steps
        notes.append(f"What was observed after {kept} steps, where the sequences of the training end, is left out.")
    elif kept < domain.n_steps and kept == len(values):
        notes.append(f"The observation ends after {kept} of the training's {domain.n_steps} steps.")
    if control in domain.grid:
        grid = np.asarray(domain.grid[control], "float64")[:kept]
        differing = np.flatnonzero(np.abs(grid - values[:kept]) > SAME_STEP * length)
        if len(differing):
            raise DataError(
                f"{path}: {control} is {values[differing[0]]:.4g} at step {differing[0]}, but the training has one "
                f"path of {control} only, with {grid[differing[0]]:.4g} there; the observation must turn round where "
                "that does."
            )
    return Resampled({name: each[:kept] for name, each in resampled.columns.items()}, resampled.method, notes)


def _resample_monotonic(path: Path, columns: dict[str, Array], control: str, domain: TrainingDomain) -> Resampled:
    """Interpolate all columns along a control that only increases."""
    strains = columns[control]
    training_steps, notes = _training_steps(domain, control)
    if training_steps is None:
        notes.append(f"The load steps of the training are not known: those of the observation are taken for {control}.")
        return Resampled(columns, "none: the observation's own steps", notes)
    n_steps = len(training_steps)
    step = np.abs(np.diff(training_steps)).max()
    tolerance = SAME_STEP * step
    if len(strains) <= n_steps and np.abs(strains - training_steps[: len(strains)]).max() <= tolerance:
        return Resampled(columns, "none: the observation has the steps of the training", notes)
    _check_increasing(path, strains, training_steps, control, domain)
    first, last = training_steps[0], training_steps[-1]
    if strains[0] > first + step:
        raise DataError(
            f"{path}: begins at {control}={strains[0]:.4g}; the model needs the load from {first:.4g} on. Is the "
            "first part of the experiment missing?"
        )
    if strains[0] > first + tolerance:
        notes.append(f"The first row, at {control}={strains[0]:.4g}, stands for the beginning at {first:.4g}.")
    reached = training_steps[training_steps <= strains[-1] + tolerance]
    if len(reached) < n_steps:
        notes.append(
            f"The observation ends at {control}={strains[-1]:.4g}: {len(reached)} of the training's {n_steps} steps."
        )
    elif strains[-1] > last + step:
        notes.append(f"What was observed beyond {control}={last:.4g}, where the training ends, is left out.")
    resampled = {name: np.interp(reached, strains, values) for name, values in columns.items()}
    resampled[control] = reached
    method = f"linear interpolation along {control}, from {len(strains)} rows to {len(reached)} steps of the training"
    return Resampled(resampled, method, notes)


def _check_increasing(path: Path, strains: Array, training_steps: Array, control: str, domain: TrainingDomain) -> None:
    """Refuse a control that does not increase: it has no one row for each step."""
    for owner, values in (("the observation", strains), ("the training", training_steps)):
        falling = np.flatnonzero(np.diff(values) <= 0)
        if not len(falling):
            continue
        least = _LEAST_BRANCH * float(np.abs(np.diff(training_steps)).max())
        if values is strains and reverses(strains, least):
            row = branch_ends(strains, least)[1] + 1
            unknown = (
                "" if control in domain.load_paths else ", as far as its files tell (`glrnn collect` exports anew)"
            )
            raise DataError(
                f"{path}: {control} of the observation does not increase after row {row}: the load reverses, but the "
                f"model was trained with loads that only increase{unknown}, and knows no unloading. Leave out the rows "
                f"after row {row}, or take a model whose training had reversals."
            )
        raise DataError(
            f"{path}: must be resampled to the steps of the training ({len(training_steps)} to "
            f"{control}={training_steps[-1]:.4g}), but {control} of {owner} does not increase after row "
            f"{falling[0] + 1}; give an observation at the very steps of the training."
        )


def _training_steps(domain: TrainingDomain, control: str) -> tuple[Array | None, list[str]]:
    """Return the load steps of the training, evenly spaced ones where only their range is known; and notes."""
    if control in domain.grid:
        return np.asarray(domain.grid[control], "float64"), []
    n_steps = domain.n_steps
    if control not in domain.input_ranges or n_steps < 2 or domain.n_inputs != len(domain.input_names):
        return None, []
    low, high = domain.input_ranges[control]
    note = f"The steps of the training are taken to be even: {n_steps} from {control}={low + 0:.4g} to {high:.4g}."
    return np.linspace(low, high, n_steps), [note]
