"""What a training refuses of columns, an inspection refuses or lists too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.data.hdf5 import read_schema
from glrnn_hpc.data.inspect import inspect
from glrnn_hpc.data.shared import read_data
from glrnn_hpc.errors import DataError

OUTPUTS = "0.2e6/drained/outputs"


@pytest.mark.parametrize("attribute", ["contact_params", "inputs", "outputs", "inputs_drained"])
@pytest.mark.parametrize(
    ("first", "problem"), [("", "an empty name"), ("  ", "an empty name"), ("b", "'b' twice"), ("b ", "'b' twice")]
)
def test_a_column_without_a_name_of_its_own_is_refused(
    steps_file: Path, attribute: str, first: str, problem: str
) -> None:
    n_columns = {"contact_params": 2, "outputs": 2}.get(attribute, 3)
    with h5py.File(steps_file, "a") as file:
        file.attrs[attribute] = [first, "b", "c"][:n_columns]
    for read in (read_schema, read_data, inspect):
        with pytest.raises(DataError, match=f"steps.hdf5: attribute {attribute} holds {problem}: .*a name of its own"):
            read(steps_file)


@pytest.mark.parametrize("names", [[b"e  ", b"p  "], [b"e\0\0", b"p\0\0"], ["e\n", " p"]])
def test_names_are_taken_without_what_fills_them_up(steps_file: Path, names: list[Any]) -> None:
    with h5py.File(steps_file, "a") as file:
        file.attrs["outputs"] = np.array(names, "S3") if isinstance(names[0], bytes) else names
    assert read_schema(steps_file).outputs == ("e", "p")
    assert list(inspect(steps_file).groups[0].ranges["outputs"]) == ["e", "p"]
    assert inspect(steps_file).attributes["outputs"] == ["e", "p"]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("bool", "boolean"), ("complex64", "complex"), ("S4", "text"), ([("e", "f4"), ("p", "f4")], "a record of fields")],
)
def test_values_that_are_no_real_numbers_are_refused_by_training_and_inspection(
    steps_file: Path, dtype: Any, kind: str
) -> None:
    with h5py.File(steps_file, "a") as file:
        shape = file[OUTPUTS].shape
        del file[OUTPUTS]
        file[OUTPUTS] = np.zeros(shape, dtype)
    for read in (read_data, inspect):
        with pytest.raises(DataError, match=rf"outputs cannot be read as numbers.*\({kind}\); write it as float32"):
            read(steps_file)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([1e39, -1e300], "e holds 2 values beyond 3.4e+38, the limit of float32, of 240"),
        ([np.nan, -np.inf], "e holds 2 NaN or infinite values of 240"),
        ([np.nan, 1e39], "e holds 1 NaN or infinite values and 1 values beyond 3.4e+38, the limit of float32, of 240"),
    ],
)
def test_values_beyond_float32_are_found_by_training_and_inspection(
    steps_file: Path, values: list[float], problem: str
) -> None:
    with h5py.File(steps_file, "a") as file:
        wide = file[OUTPUTS][...].astype("float64")
        del file[OUTPUTS]
        wide[7, 3:5, 0] = values
        file[OUTPUTS] = wide
    description = inspect(steps_file)
    assert description.problems[0] == f"0.2e6/drained: {problem}"
    assert description.groups[0].ranges["outputs"]["e"].max == 11
    with pytest.raises(DataError, match=r"or such beyond the limits of float32, the first one in e of sample 7"):
        read_data(steps_file)
