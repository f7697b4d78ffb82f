"""Checks of the columns of a data file: names, types and values. What a training refuses, `glrnn inspect` lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.errors import DataError

Array = NDArray[Any]

#: NumPy's names of types say little to those who did not choose them.
_TYPES = {"b": "boolean", "c": "complex", "S": "text", "U": "text", "O": "text or objects", "V": "a record of fields"}


def check_names(path: Path, what: str, names: Sequence[str]) -> None:
    """Check that each column has a name of its own.

    Raises
    ------
    DataError
        If a name is empty or stands twice; `what` says where.
    """
    wrong = [name for name in dict.fromkeys(names) if not name or names.count(name) > 1]
    if wrong:
        listed = ", ".join(repr(name) for name in names)
        first = "an empty name" if not wrong[0] else f"{wrong[0]!r} twice"
        raise DataError(f"{path}: {what} holds {first}: {listed}; give each column a name of its own.")


def type_problem(dataset: h5py.Dataset) -> str | None:
    """Return what is wrong with the type of a data set, None if its values are real numbers."""
    if dataset.dtype.kind in "fiu":
        return None
    kind = f" ({_TYPES[dataset.dtype.kind]})" if dataset.dtype.kind in _TYPES else ""
    return f"cannot be read as numbers: it is of type {dataset.dtype}{kind}; write it as float32 or float64"


def is_usable(values: Array) -> NDArray[np.bool_]:
    """Return where values are finite in float32, the precision of the training."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.isfinite(values.astype("float32", copy=False))


def value_problem(column: Array) -> str | None:
    """Return what is wrong with the values of a column, None if a training can use all of them."""
    usable = is_usable(column)
    if usable.all():
        return None
    n_finite, n_usable = int(np.isfinite(column).sum()), int(usable.sum())
    found = []
    if n_finite < column.size:
        found.append(f"{column.size - n_finite} NaN or infinite values")
    if n_usable < n_finite:
        limit = np.finfo("float32").max
        found.append(f"{n_finite - n_usable} values beyond {limit:.2g}, the limit of float32,")
    return f"holds {' and '.join(found)} of {column.size}"
