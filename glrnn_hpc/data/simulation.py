"""Read one raw simulation of YADE (.npy), without trusting its pickle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.data.unpickle import load_npy
from glrnn_hpc.errors import DataError

Array = NDArray[Any]

#: Responses that YADE gives in Pa and the file holds in MPa.
STRESSES = ("p", "q")


@dataclass(frozen=True)
class Simulation:
    """One raw file: its parameters (c,), load sequence (T, x), response (T, y) and the group it says it is of."""

    params: Array
    inputs: Array
    outputs: Array
    group: str

    @property
    def n_steps(self) -> int:
        """Number of records."""
        return len(self.inputs)


def read_simulation(
    path: Path, contact_keys: Sequence[str], input_keys: Sequence[str], output_keys: Sequence[str]
) -> Simulation:
    """Read one raw file; p and q become MPa.

    Raises
    ------
    DataError
        If the file is broken, lacks a key, or holds ragged sequences or values that are not finite.
    """
    content = load_npy(path)
    if content.shape != (2,) or not all(isinstance(part, dict) for part in content):
        raise DataError(f"{path}: two dicts, parameters and features, are expected.")
    constants, features = content
    for what, keys, part in (
        ("parameters", contact_keys, constants),
        ("features", (*input_keys, *output_keys), features),
    ):
        if missing := [key for key in keys if key not in part]:
            raise DataError(f"{path}: the {what} lack {', '.join(missing)}.")
    params = np.array([_numbers(path, key, constants[key], n_dims=0) for key in contact_keys])
    columns = {key: _numbers(path, key, features[key], n_dims=1) for key in (*input_keys, *output_keys)}
    lengths = {key: len(column) for key, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: the features have different lengths: {lengths}.")
    if 0 in lengths.values():
        raise DataError(f"{path}: holds no records.")
    inputs = np.stack([columns[key] for key in input_keys], axis=1)
    outputs = np.stack([columns[key] for key in output_keys], axis=1)
    for keys, values in ((contact_keys, params), (input_keys, inputs), (output_keys, outputs)):
        bad = ~np.isfinite(values.reshape(-1, len(keys))).all(axis=0)
        if bad.any():
            names = ", ".join(key for key, is_bad in zip(keys, bad, strict=True) if is_bad)
            raise DataError(f"{path}: {names} hold NaN or infinite values.")
    for column, key in enumerate(output_keys):
        if key in STRESSES:
            outputs[:, column] /= 1e6
    return Simulation(params, inputs, outputs, _group_of(path, constants))


def pressure_name(pressure_pa: float) -> str:
    """Return the name of a pressure group, such as 0.2e6; rounded, since 10**conf is not exact."""
    return f"{np.format_float_positional(round(pressure_pa / 1e6, 6), trim='0')}e6"


def _group_of(path: Path, constants: dict[str, Any]) -> str:
    if "conf" not in constants or "mode" not in constants:
        return ""
    conf, mode = constants["conf"], constants["mode"]
    try:
        pressure_pa = math.pow(10.0, float(conf))
    except (TypeError, ValueError, OverflowError):
        pressure_pa = math.nan
    if not math.isfinite(pressure_pa):
        raise DataError(f"{path}: conf={conf!r} is no log10 of a pressure in Pa.")
    if not isinstance(mode, str) or not mode or "/" in mode:
        raise DataError(f"{path}: mode={mode!r} is no experiment type, such as drained.")
    return f"{pressure_name(pressure_pa)}/{mode}"


def _numbers(path: Path, key: str, values: Any, n_dims: int) -> Array:
    try:
        numbers = np.array(values, dtype="float64")
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: {key} holds values that are no numbers, or is ragged: {error}.") from error
    if numbers.ndim != n_dims:
        wanted = "one number per record" if n_dims else "one number"
        raise DataError(f"{path}: {key} has shape {numbers.shape}; {wanted} is expected.")
    return numbers
