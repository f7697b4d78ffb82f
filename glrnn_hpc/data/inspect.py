"""Description of a data file: groups, shapes, attributes, ranges, and what may be wrong with it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.data.hdf5 import GroupShape, Schema, open_file, read_schema
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.experiments.triaxial import TRIAXIAL

#: A stress above this is more likely in Pa than in MPa.
_LIKELY_PA = 1e3


def inspect(path: str | Path, experiment: Experiment = TRIAXIAL) -> dict[str, Any]:
    """Describe a data file.

    Parameters
    ----------
    path : path
        HDF5 file.
    experiment : Experiment
        Tells units, types and names of groups.

    Returns
    -------
    dict
        `path`; `attributes`; `groups`, each with `name`, `n_samples`, `n_steps`, `shapes` (by data set) and
        `ranges` (by data set and column: `min`, `mean`, `max` of the finite values, None if there is none);
        `problems`, one sentence each.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    schema = read_schema(path, experiment)
    names = {"contact_params": schema.contact_params, "inputs": schema.inputs, "outputs": schema.outputs}
    stresses = {name for name, unit in experiment.units().items() if unit == "MPa"}
    problems = _different_shapes(schema)
    groups = []
    with open_file(schema.path) as file:
        attributes = {key: [_text(item) for item in np.atleast_1d(value)] for key, value in file.attrs.items()}
        for shape in schema.groups:
            shapes, ranges = {}, {}
            for dataset, columns in {**names, "inputs": schema.inputs_of(shape)}.items():
                try:
                    values = file[shape.name][dataset][...].astype("float64")
                except (OSError, TypeError, ValueError) as error:
                    raise DataError(f"{path}: {shape.name}/{dataset} cannot be read as numbers: {error}") from error
                shapes[dataset] = list(values.shape)
                ranges[dataset] = _ranges(values, columns)
                problems += _wrong_values(shape.name, values, columns, stresses)
            problems += _wrong_names(shape, experiment)
            groups.append(
                {
                    "name": shape.name,
                    "n_samples": shape.n_samples,
                    "n_steps": shape.n_steps,
                    "shapes": shapes,
                    "ranges": ranges,
                }
            )
    for name in names:
        if name not in attributes and not (name == "inputs" and schema.inputs_by_type):
            problems.append(f"the attribute {name} is missing; {', '.join(names[name])} are assumed")
    return {"path": str(path), "attributes": attributes, "groups": groups, "problems": problems}


def render(found: dict[str, Any]) -> str:
    """Return what `inspect` found as text."""
    lines = [found["path"], *(f"  {key}: {', '.join(names)}" for key, names in found["attributes"].items())]
    for group in found["groups"]:
        lines.append(f"{group['name']}: {group['n_samples']} samples of {group['n_steps']} steps")
        for dataset, columns in group["ranges"].items():
            for name, values in columns.items():
                span = "  ".join(f"{key} {'-' if value is None else f'{value:.4g}'}" for key, value in values.items())
                lines.append(f"  {dataset:<15}{name:<10}{span}")
    lines += [f"problem: {problem}" for problem in found["problems"]] or ["no problems"]
    return "\n".join(lines)


def _text(item: Any) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)


def _ranges(values: NDArray[Any], columns: tuple[str, ...]) -> dict[str, dict[str, float | None]]:
    ranges: dict[str, dict[str, float | None]] = {}
    for name, column in zip(columns, _columns(values), strict=False):
        # JSON has no NaN: the ranges are those of the finite values, the others are a problem of their own.
        finite = column[np.isfinite(column)]
        if finite.size:
            ranges[name] = {"min": float(finite.min()), "mean": float(finite.mean()), "max": float(finite.max())}
        else:
            ranges[name] = {"min": None, "mean": None, "max": None}
    return ranges


def _columns(values: NDArray[Any]) -> NDArray[Any]:
    # The number of rows by hand: reshape(-1, 0) of a data set without columns is ambiguous.
    return values.reshape(math.prod(values.shape[:-1]), values.shape[-1]).T


def _wrong_values(group: str, values: NDArray[Any], columns: tuple[str, ...], stresses: set[str]) -> list[str]:
    found = []
    for name, column in zip(columns, _columns(values), strict=False):
        finite = column[np.isfinite(column)]
        if finite.size < column.size:
            n_bad = column.size - finite.size
            found.append(f"{group}: {name} holds {n_bad} NaN or infinite values of {column.size}")
        if finite.size > 1 and finite.min() == finite.max():
            found.append(f"{group}: {name} is constant ({finite[0]:g})")
        if name in stresses and finite.size and np.abs(finite).max() > _LIKELY_PA:
            found.append(f"{group}: {name} reaches {np.abs(finite).max():.3g}, which looks like Pa; MPa is expected")
    return found


def _wrong_names(shape: GroupShape, experiment: Experiment) -> list[str]:
    found = []
    if shape.n_samples == 0:
        found.append(f"{shape.name}: holds no sample")
    of_name = experiment.group_problems(shape.pressure, shape.experiment_type)
    return found + [f"{shape.name}: {problem}" for problem in of_name]


def _different_shapes(schema: Schema) -> list[str]:
    first, found = schema.groups[0], []
    for other in schema.groups[1:]:
        for what in ("n_steps", "n_inputs", "n_params", "n_outputs"):
            if getattr(first, what) != getattr(other, what):
                found.append(
                    f"{first.name} has {getattr(first, what)} {what.removeprefix('n_')}, {other.name} has "
                    f"{getattr(other, what)}; they cannot be merged"
                )
    return found
