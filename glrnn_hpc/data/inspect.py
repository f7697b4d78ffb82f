"""Look at a data file: groups, shapes, attributes, ranges, and what may be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.data.hdf5 import GroupShape, Schema, open_file, read_schema

#: A stress above this is more likely in Pa than in MPa.
_LIKELY_PA = 1e3


def inspect(path: str | Path) -> dict[str, Any]:
    """Describe a data file.

    Returns
    -------
    dict
        `path`; `attributes`; `groups`, each with `name`, `n_samples`, `n_steps` and `ranges` (of each column `min`,
        `mean` and `max`); `problems`, one sentence each.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    schema = read_schema(path)
    names = {"contact_params": schema.contact_params, "inputs": schema.inputs, "outputs": schema.outputs}
    problems = _different_shapes(schema)
    groups = []
    with open_file(schema.path) as file:
        attributes = {key: [str(item) for item in np.atleast_1d(value)] for key, value in file.attrs.items()}
        for shape in schema.groups:
            ranges = {}
            for dataset, columns in names.items():
                values = file[shape.name][dataset][...].astype("float64")
                ranges[dataset] = _ranges(values, columns)
                problems += _wrong_values(shape.name, values, columns)
            problems += _wrong_names(shape)
            groups.append(
                {"name": shape.name, "n_samples": shape.n_samples, "n_steps": shape.n_steps, "ranges": ranges}
            )
    for name in names:
        if name not in attributes:
            problems.append(f"the attribute {name} is missing; {', '.join(names[name])} are assumed")
    return {"path": str(path), "attributes": attributes, "groups": groups, "problems": problems}


def render(found: dict[str, Any]) -> str:
    """Return what `inspect` found as text."""
    lines = [found["path"], *(f"  {key}: {', '.join(names)}" for key, names in found["attributes"].items())]
    for group in found["groups"]:
        lines.append(f"{group['name']}: {group['n_samples']} samples of {group['n_steps']} steps")
        for dataset, columns in group["ranges"].items():
            for name, values in columns.items():
                span = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
                lines.append(f"  {dataset:<15}{name:<10}{span}")
    lines += [f"problem: {problem}" for problem in found["problems"]] or ["no problems"]
    return "\n".join(lines)


def _ranges(values: NDArray[Any], columns: tuple[str, ...]) -> dict[str, dict[str, float]]:
    flat = values.reshape(-1, values.shape[-1])
    if len(flat) == 0:
        return {}
    return {
        name: {"min": float(column.min()), "mean": float(column.mean()), "max": float(column.max())}
        for name, column in zip(columns, flat.T, strict=False)
    }


def _wrong_values(group: str, values: NDArray[Any], columns: tuple[str, ...]) -> list[str]:
    found = []
    for name, column in zip(columns, values.reshape(-1, values.shape[-1]).T, strict=False):
        if not np.isfinite(column).all():
            found.append(f"{group}: {name} holds NaN or infinite values")
        elif len(column) > 1 and column.min() == column.max():
            found.append(f"{group}: {name} is constant ({column[0]:g})")
        elif name in ("p", "q") and np.abs(column).max() > _LIKELY_PA:
            found.append(f"{group}: {name} reaches {np.abs(column).max():.3g}, which looks like Pa; MPa is expected")
    return found


def _wrong_names(shape: GroupShape) -> list[str]:
    found = []
    if shape.n_samples == 0:
        found.append(f"{shape.name}: holds no sample")
    try:
        float(shape.pressure)
    except ValueError:
        found.append(f"{shape.name}: {shape.pressure} is no pressure in Pa; add_pressure must be False")
    if shape.experiment_type not in ("drained", "undrained"):
        found.append(f"{shape.name}: {shape.experiment_type} is neither drained nor undrained")
    return found


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
