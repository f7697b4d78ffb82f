"""HDF5 file of simulations: schema, choice of groups, reading and writing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.config import did_you_mean
from glrnn_hpc.data.column_checks import check_names
from glrnn_hpc.data.hdf5_access import lock_error, open_file
from glrnn_hpc.data.hdf5_storage import check_storage, missing_target
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.experiments.triaxial import TRIAXIAL

DATASETS = ("contact_params", "inputs", "outputs")
_UNITS = "outputs_units"
_N_DIMENSIONS = {"contact_params": 2, "inputs": 3, "outputs": 3}

Array = NDArray[Any]
GroupChoice = str | float | Sequence[str | float]


@dataclass(frozen=True)
class GroupShape:
    """One group `pressure/experiment_type` of a file and the sizes of its data sets."""

    name: str
    pressure: str
    experiment_type: str
    n_samples: int
    n_steps: int
    n_inputs: int
    n_params: int
    n_outputs: int


@dataclass(frozen=True)
class Schema:
    """Names of a file's columns, its groups in the order of their names, and the units of its responses."""

    path: Path
    contact_params: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    groups: tuple[GroupShape, ...]
    inputs_by_type: dict[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def inputs_of(self, group: GroupShape) -> tuple[str, ...]:
        """Return the names of a group's inputs: a file of GrainLearning's may hold others for drained tests."""
        names = self.inputs_by_type.get(group.experiment_type, self.inputs)
        return names if len(names) == group.n_inputs else _numbered("inputs", group.n_inputs)


def read_schema(path: str | Path, experiment: Experiment = TRIAXIAL) -> Schema:
    """Read names and shapes, no data.

    Parameters
    ----------
    path : path
        HDF5 file.
    experiment : Experiment
        Its columns are taken if the file does not name them, as those of GrainLearning do not.

    Raises
    ------
    DataError
        If the file is missing, broken or no HDF5, or a group lacks a data set or has one of a wrong shape.
    """
    path = Path(path)
    with open_file(path) as file:
        groups = []
        for pressure in sorted(file):
            if missing := missing_target(file, pressure):
                raise DataError(f"{path}: {pressure} is {missing}.")
            if not isinstance(file[pressure], h5py.Group):
                raise DataError(f"{path}: {pressure} is a data set; groups pressure/experiment_type are expected.")
            for experiment_type in sorted(file[pressure]):
                groups.append(_shape_of(path, file, pressure, experiment_type))
        if not groups:
            raise DataError(f"{path}: holds no group pressure/experiment_type.")
        counts = {
            "contact_params": [group.n_params for group in groups],
            "inputs": [group.n_inputs for group in groups],
            "outputs": [group.n_outputs for group in groups],
        }
        names = {kind: _column_names(path, file, kind, experiment.column_names(kind), counts[kind]) for kind in counts}
        by_type = {
            group.experiment_type: _stored_names(path, file, f"inputs_{group.experiment_type}")
            for group in groups
            if f"inputs_{group.experiment_type}" in file.attrs
        }
        units = experiment.units()
        if _UNITS in file.attrs:
            stored = zip(names["outputs"], texts_of(file.attrs[_UNITS]), strict=False)
            units = {name: unit for name, unit in stored if unit}
    return Schema(path=path, groups=tuple(groups), inputs_by_type=by_type, units=units, **names)


def select_groups(
    schema: Schema, pressure: GroupChoice = "All", experiment_type: GroupChoice = "All"
) -> tuple[GroupShape, ...]:
    """Return the groups that are meant, in the order of their names.

    Parameters
    ----------
    schema : Schema
        Of the file.
    pressure, experiment_type : str, float or list
        `All`, one or several; a pressure matches by its name first, then by its value in Pa.

    Raises
    ------
    DataError
        If one of them is not in the file.
    """
    pressures = _matches(schema, "pressure", pressure)
    types = _matches(schema, "experiment_type", experiment_type)
    chosen = tuple(group for group in schema.groups if group.pressure in pressures and group.experiment_type in types)
    if not chosen:
        raise DataError(
            f"{schema.path}: no group has pressure={pressure!r} and experiment_type={experiment_type!r}; "
            f"there are {', '.join(group.name for group in schema.groups)}."
        )
    return chosen


def texts_of(stored: Any) -> tuple[str, ...]:
    """Return names as text; Fortran and MATLAB fill them up with blanks, C with zero bytes."""
    texts = (name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in np.atleast_1d(stored))
    return tuple(text.strip(" \t\r\n\0") for text in texts)


def check_values(schema: Schema, groups: Sequence[GroupShape]) -> frozenset[Path]:
    """Check that all values of groups are stored, and can be read; return the other files that they lie in.

    Raises
    ------
    DataError
        If a file or a filter is missing, or values were never written; see `hdf5_storage.check_storage`.
    """
    return check_storage(schema.path, [f"{group.name}/{dataset}" for group in groups for dataset in DATASETS])


def check_same_shapes(schema: Schema, groups: Sequence[GroupShape]) -> None:
    """Check that groups can be merged; their load features may differ, see `merged_groups`.

    Raises
    ------
    DataError
        If two of them differ in parameters, outputs or steps; the message names both.
    """
    for what in ("n_params", "n_outputs", "n_steps"):
        for other in groups[1:]:
            if getattr(groups[0], what) != getattr(other, what):
                raise DataError(
                    f"{schema.path}: {groups[0].name} has {what.removeprefix('n_')} {getattr(groups[0], what)}, but "
                    f"{other.name} has {getattr(other, what)}; groups that are merged must agree. Select fewer groups."
                )


def write_file(
    path: str | Path,
    groups: Mapping[str, tuple[Array, Array, Array]],
    *,
    contact_params: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
    unused_constant: Sequence[str] = (),
    unused_sequence: Sequence[str] = (),
    dtype: str = "float32",
    units: Mapping[str, str] | None = None,
    extra: Mapping[str, Mapping[str, Array]] | None = None,
) -> None:
    """Write a file; it replaces an older one only when it is complete.

    Parameters
    ----------
    path : path
        Where to write.
    groups : mapping of str to tuple
        Group name to (params, inputs, outputs), shapes (n, c), (n, T, x), (n, T, y).
    contact_params, inputs, outputs, unused_constant, unused_sequence : sequence of str
        Names of the columns, stored as attributes of the file.
    dtype : str
        float32 or float64.
    units : mapping of str to str, optional
        Of the outputs; stored as an attribute.
    extra : mapping, optional
        Of a group, more data sets by name.

    Raises
    ------
    DataError
        If `dtype` is another one, or the file cannot be written there.
    """
    path = Path(path)
    if dtype not in ("float32", "float64"):
        raise DataError(f"{path}: dtype={dtype!r}; choose float32 or float64.")
    attributes = {
        "contact_params": contact_params,
        "inputs": inputs,
        "outputs": outputs,
        "unused_keys_constant": unused_constant,
        "unused_keys_sequence": unused_sequence,
    }
    if units is not None:
        attributes[_UNITS] = [units.get(name, "") for name in outputs]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with layout.replacing(path) as partial, h5py.File(partial, "w", track_order=False) as file:
            for name, columns in attributes.items():
                file.attrs.create(name, list(columns), shape=(len(columns),), dtype=h5py.string_dtype())
            for name in sorted(groups):
                group = file.create_group(name)
                for dataset, values in zip(DATASETS, groups[name], strict=True):
                    _create(group, dataset, np.asarray(values, dtype=dtype))
                for dataset, values in ((extra or {}).get(name) or {}).items():
                    _create(group, dataset, np.asarray(values))
    except OSError as error:
        raise lock_error(path, error) or DataError(f"{path}: cannot be written: {error}.") from error


def _create(group: h5py.Group, name: str, values: Array) -> None:
    # A chunk holds whole samples of about 256 kB: a rank reads a contiguous block of samples.
    per_sample = max(1, int(np.prod(values.shape[1:])) * values.itemsize)
    chunk = (max(1, min(values.shape[0], 2**18 // per_sample)), *values.shape[1:])
    is_empty = values.size == 0
    group.create_dataset(
        name,
        data=values,
        chunks=None if is_empty else chunk,
        compression=None if is_empty else "gzip",
        shuffle=not is_empty,
        track_times=False,
    )


def _shape_of(path: Path, file: h5py.File, pressure: str, experiment_type: str) -> GroupShape:
    name = f"{pressure}/{experiment_type}"
    if missing := missing_target(file[pressure], experiment_type):
        raise DataError(f"{path}: {name} is {missing}.")
    group = file.get(name)
    shapes: dict[str, tuple[int, ...]] = {}
    for dataset in DATASETS:
        entry = group.get(dataset) if isinstance(group, h5py.Group) else None
        if isinstance(group, h5py.Group) and (missing := missing_target(group, dataset)):
            raise DataError(f"{path}: {name}/{dataset} is {missing}.")
        if not isinstance(entry, h5py.Dataset):
            has = ", ".join(key for key in group if key != dataset) if isinstance(group, h5py.Group) else "no data sets"
            raise DataError(f"{path}: {name} has no `{dataset}`; it has {has or 'nothing'}.")
        shape = entry.shape or ()
        n_dimensions = _N_DIMENSIONS[dataset]
        if len(shape) != n_dimensions:
            raise DataError(f"{path}: {name}/{dataset} has shape {shape}; {n_dimensions} dimensions are expected.")
        shapes[dataset] = shape
    counts = {dataset: shape[0] for dataset, shape in shapes.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"{path}: {name} has different numbers of samples: {counts}.")
    if shapes["inputs"][1] != shapes["outputs"][1]:
        raise DataError(
            f"{path}: {name} has {shapes['inputs'][1]} steps of inputs, but {shapes['outputs'][1]} of outputs."
        )
    n_samples, n_steps, n_inputs = shapes["inputs"]
    if n_samples and not n_steps:
        raise DataError(f"{path}: {name} has {n_samples} samples without any steps; parse or write it again.")
    return GroupShape(
        name, pressure, experiment_type, n_samples, n_steps, n_inputs, shapes["contact_params"][1], shapes["outputs"][2]
    )


def _column_names(
    path: Path, file: h5py.File, kind: str, defaults: tuple[str, ...], counts: list[int]
) -> tuple[str, ...]:
    count = max(counts)
    if kind in file.attrs:
        names = _stored_names(path, file, kind)
        if len(names) != count and len(set(counts)) == 1:
            raise DataError(f"{path}: attribute {kind} names {len(names)} columns, the data have {count}.")
        return names
    return defaults if len(defaults) == count else _numbered(kind, count)


def _stored_names(path: Path, file: h5py.File, attribute: str) -> tuple[str, ...]:
    names = texts_of(file.attrs[attribute])
    check_names(path, f"attribute {attribute}", names)
    return names


def _numbered(kind: str, count: int) -> tuple[str, ...]:
    return tuple(f"{kind.rstrip('s')}_{column}" for column in range(count))


def _matches(schema: Schema, kind: str, wanted: GroupChoice) -> set[str]:
    present = sorted({getattr(group, kind) for group in schema.groups})
    if isinstance(wanted, str) and wanted.casefold() == "all":
        return set(present)
    matched = set()
    # Not `Sequence`: a name is a sequence too. All else is one choice, scalars of NumPy too.
    choices: Sequence[Any] = wanted if isinstance(wanted, list | tuple) else [wanted]
    for choice in choices:
        if isinstance(choice, str) and choice.casefold() == "all":
            return set(present)
        names = {name for name in present if name == choice} or {name for name in present if _is_same(name, choice)}
        if not names:
            hint = did_you_mean(choice, present)
            raise DataError(f"{schema.path}: no {kind} {choice!r}; there are {', '.join(present)}.{hint}")
        matched |= names
    return matched


def _is_same(name: str, choice: str | float) -> bool:
    if isinstance(choice, str) and name.casefold() == choice.casefold():
        return True
    try:
        return math.isclose(float(name), float(choice), rel_tol=1e-6)
    except (TypeError, ValueError):
        return False
