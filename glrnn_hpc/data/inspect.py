"""Description of a data file: groups, shapes, attributes, ranges, and what may be wrong with it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.data.column_checks import is_usable, type_problem, value_problem
from glrnn_hpc.data.hdf5 import GroupShape, Schema, check_values, read_schema, texts_of
from glrnn_hpc.data.hdf5_access import open_file
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.records.json_types import JsonObject

#: A stress above this is more likely in Pa than in MPa.
_LIKELY_PA = 1e3


@dataclass(frozen=True)
class ColumnRange:
    """Least, mean and greatest finite value of a column; None if it has no finite value."""

    min: float | None
    mean: float | None
    max: float | None


@dataclass(frozen=True)
class GroupDescription:
    """One group of a data file.

    Attributes
    ----------
    name : str
        ``pressure/experiment_type``.
    n_samples, n_steps : int
        Sizes.
    shapes : dict of str to list of int
        Shape of each data set.
    ranges : dict of str to dict of str to ColumnRange
        Range of each column, by data set and name.
    """

    name: str
    n_samples: int
    n_steps: int
    shapes: dict[str, list[int]]
    ranges: dict[str, dict[str, ColumnRange]]


@dataclass(frozen=True)
class FileDescription:
    """Description of a data file.

    Attributes
    ----------
    path : Path
        The file.
    attributes : dict of str to list of str
        Attributes of the file.
    groups : list of GroupDescription
        In the order of their names.
    problems : list of str
        What may be wrong, one sentence each.
    """

    path: Path
    attributes: dict[str, list[str]]
    groups: list[GroupDescription]
    problems: list[str]

    def as_dict(self) -> JsonObject:
        """Return the object that `glrnn inspect --json` prints."""
        return {**asdict(self), "path": str(self.path)}


def inspect(path: str | Path, experiment: Experiment = TRIAXIAL) -> FileDescription:
    """Describe a data file.

    Parameters
    ----------
    path : path
        HDF5 file.
    experiment : Experiment
        Tells units, types and names of groups.

    Raises
    ------
    DataError
        If the file cannot be read, or a part of its values is missing.
    """
    schema = read_schema(path, experiment)
    check_values(schema, schema.groups)
    names = {"contact_params": schema.contact_params, "inputs": schema.inputs, "outputs": schema.outputs}
    stresses = {name for name, unit in experiment.units().items() if unit == "MPa"}
    problems = _different_shapes(schema)
    groups = []
    with open_file(schema.path) as file:
        attributes = {key: list(texts_of(value)) for key, value in file.attrs.items()}
        for shape in schema.groups:
            shapes, ranges = {}, {}
            empty = np.ones(shape.n_samples, bool)
            for dataset, columns in {**names, "inputs": schema.inputs_of(shape)}.items():
                entry = file[shape.name][dataset]
                if problem := type_problem(entry):
                    raise DataError(f"{path}: {shape.name}/{dataset} {problem}.")
                values = entry[...].astype("float64")
                shapes[dataset] = list(values.shape)
                empty &= (values == 0).all(axis=tuple(range(1, values.ndim)))
                ranges[dataset] = _ranges(values, columns)
                problems += _wrong_values(shape.name, values, columns, stresses)
            problems += _empty_sequences(shape.name, empty)
            problems += _wrong_names(shape, experiment)
            groups.append(GroupDescription(shape.name, shape.n_samples, shape.n_steps, shapes, ranges))
    for name in names:
        if name not in attributes and not (name == "inputs" and schema.inputs_by_type):
            problems.append(f"the attribute {name} is missing; {', '.join(names[name])} are assumed")
    return FileDescription(schema.path, attributes, groups, problems)


def render(description: FileDescription) -> str:
    """Return a description as text."""
    lines = [str(description.path)]
    lines += [f"  {key}: {', '.join(names)}" for key, names in description.attributes.items()]
    for group in description.groups:
        lines.append(f"{group.name}: {group.n_samples} samples of {group.n_steps} steps")
        for dataset, columns in group.ranges.items():
            for name, values in columns.items():
                span = "  ".join(
                    f"{key} {'-' if value is None else f'{value:.4g}'}" for key, value in asdict(values).items()
                )
                lines.append(f"  {dataset:<15}{name:<10}{span}")
    lines += [f"problem: {problem}" for problem in description.problems] or ["no problems"]
    return "\n".join(lines)


def _ranges(values: NDArray[Any], columns: tuple[str, ...]) -> dict[str, ColumnRange]:
    ranges: dict[str, ColumnRange] = {}
    for name, column in zip(columns, _columns(values), strict=False):
        # JSON has no NaN: the ranges are those of the usable values, the others are a problem of their own.
        finite = column[is_usable(column)]
        if finite.size:
            ranges[name] = ColumnRange(float(finite.min()), float(finite.mean()), float(finite.max()))
        else:
            ranges[name] = ColumnRange(None, None, None)
    return ranges


def _columns(values: NDArray[Any]) -> NDArray[Any]:
    # The number of rows by hand: reshape(-1, 0) of a data set without columns is ambiguous.
    return values.reshape(math.prod(values.shape[:-1]), values.shape[-1]).T


def _wrong_values(group: str, values: NDArray[Any], columns: tuple[str, ...], stresses: set[str]) -> list[str]:
    problems = []
    for name, column in zip(columns, _columns(values), strict=False):
        if problem := value_problem(column):
            problems.append(f"{group}: {name} {problem}")
        finite = column[is_usable(column)]
        if finite.size > 1 and finite.min() == finite.max():
            problems.append(f"{group}: {name} is constant ({finite[0]:g})")
        if name in stresses and finite.size and np.abs(finite).max() > _LIKELY_PA:
            problems.append(f"{group}: {name} reaches {np.abs(finite).max():.3g}, which looks like Pa; MPa is expected")
    return problems


def _empty_sequences(group: str, empty: NDArray[np.bool_]) -> list[str]:
    if not empty.any():
        return []
    return [
        f"{group}: {empty.sum()} of {empty.size} sequences are zero in all parameters, inputs and outputs: were they "
        "never written?"
    ]


def _wrong_names(shape: GroupShape, experiment: Experiment) -> list[str]:
    problems = []
    if shape.n_samples == 0:
        problems.append(f"{shape.name}: holds no sample")
    of_name = experiment.group_problems(shape.pressure, shape.experiment_type)
    return problems + [f"{shape.name}: {problem}" for problem in of_name]


def _different_shapes(schema: Schema) -> list[str]:
    first, problems = schema.groups[0], []
    for other in schema.groups[1:]:
        for what in ("n_steps", "n_inputs", "n_params", "n_outputs"):
            if getattr(first, what) != getattr(other, what):
                problems.append(
                    f"{first.name} has {getattr(first, what)} {what.removeprefix('n_')}, {other.name} has "
                    f"{getattr(other, what)}; they cannot be merged"
                )
    return problems
