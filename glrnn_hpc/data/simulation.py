"""Raw simulation of YADE (.npy), read without trusting its pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.data.unpickle import load_npy
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.base import Column, Experiment

Array = NDArray[Any]


#: NumPy would make numbers of them without a word, or with a message of its own.
_NO_NUMBERS = {"c": "complex numbers", "m": "time spans", "M": "times", "V": "records of several fields"}


@dataclass(frozen=True)
class RawKeys:
    """Names of the parameters, load features and responses that are read from raw files."""

    contact_params: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def check(self) -> None:
        """Refuse empty lists and names that are given twice.

        Raises
        ------
        DataError
            With the argument of `convert_all_to_hdf5` that holds the list.
        """
        lists = {"contact_keys": self.contact_params, "input_keys": self.inputs, "output_keys": self.outputs}
        for argument, names in lists.items():
            if not names or len(set(names)) < len(names):
                given = ", ".join(names) or "nothing"
                raise DataError(f"{argument}={given}; one or more names, each once, are needed.")


@dataclass(frozen=True)
class Simulation:
    """One raw file.

    Attributes
    ----------
    params : ndarray, shape (n_params,)
        Contact parameters.
    inputs : ndarray, shape (n_steps, n_inputs)
        Load sequence.
    outputs : ndarray, shape (n_steps, n_outputs)
        Response, in the units of data files.
    group : str or None
        What the file tells of its group, ``pressure/experiment_type``.
    """

    params: Array
    inputs: Array
    outputs: Array
    group: str | None

    @property
    def n_steps(self) -> int:
        """Number of records."""
        return len(self.inputs)


def read_simulation(path: Path, keys: RawKeys, experiment: Experiment) -> Simulation:
    """Read one raw file; values are brought to the units of the experiment's columns.

    Raises
    ------
    DataError
        If the file is broken, lacks a key, holds ragged sequences or values that are not finite, or tells a group that
        the experiment does not know.
    """
    content = load_npy(path)
    if content.shape != (2,) or not all(isinstance(part, dict) for part in content):
        found = ", ".join(type(part).__name__ for part in content.ravel()[:3])
        raise DataError(
            f"{path}: two dicts, parameters and features, are expected; it holds an array of shape {content.shape}"
            f"{f' of {found}' if found else ''}."
        )
    constants, features = content
    for what, names, part in (
        ("parameters", keys.contact_params, constants),
        ("features", (*keys.inputs, *keys.outputs), features),
    ):
        if missing := [key for key in names if key not in part]:
            raise DataError(f"{path}: the {what} lack {', '.join(missing)}.")
    params = np.array([_numbers(path, key, constants[key], n_dims=0) for key in keys.contact_params])
    columns = {key: _numbers(path, key, features[key], n_dims=1) for key in (*keys.inputs, *keys.outputs)}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: the features have different lengths: {lengths}.")
    if 0 in lengths.values():
        raise DataError(f"{path}: holds no records.")
    inputs = np.stack([columns[key] for key in keys.inputs], axis=1)
    outputs = np.stack([columns[key] for key in keys.outputs], axis=1)
    for names, values, of_experiment in (
        (keys.contact_params, params, experiment.contact_params),
        (keys.inputs, inputs, experiment.inputs),
        (keys.outputs, outputs, experiment.outputs),
    ):
        is_bad = ~np.isfinite(values.reshape(-1, len(names))).all(axis=0)
        if is_bad.any():
            bad = ", ".join(key for key, is_one in zip(names, is_bad, strict=True) if is_one)
            raise DataError(f"{path}: {bad} hold NaN or infinite values.")
        values /= _divisors(names, of_experiment)
    return Simulation(params, inputs, outputs, _group_of(path, constants, experiment))


def _divisors(names: Sequence[str], columns: Sequence[Column]) -> Array:
    divisors = {column.name: column.raw_divisor for column in columns}
    return np.array([divisors.get(name, 1.0) for name in names])


def _group_of(path: Path, constants: Mapping[str, Any], experiment: Experiment) -> str | None:
    try:
        group = experiment.raw_group(constants)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if group is not None and (group.count("/") != 1 or group.startswith("/") or group.endswith("/")):
        raise DataError(f"{path}: {group!r} is no name of a group; two parts with a / between them are needed.")
    return group


def _numbers(path: Path, key: str, values: Any, n_dims: int) -> Array:
    if np.ma.is_masked(values):  # type: ignore[no-untyped-call]
        raise DataError(f"{path}: {key} holds masked values; leave these records out, or fill them.")
    try:
        given = np.asarray(values)
        if given.dtype.kind in _NO_NUMBERS:
            raise DataError(f"{path}: {key} holds {_NO_NUMBERS[given.dtype.kind]}; real numbers are expected.")
        numbers = given.astype("float64")
    except DataError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: {key} holds values that are no numbers, or is ragged: {error}.") from error
    if numbers.ndim != n_dims:
        wanted = "one number per record" if n_dims else "one number"
        raise DataError(f"{path}: {key} has shape {numbers.shape}; {wanted} is expected.")
    return numbers
