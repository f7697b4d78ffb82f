"""A look at a data file tells what is in it and what may be wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.data.inspect import ColumnRange, inspect, render
from glrnn_hpc.errors import DataError

REAL = Path(__file__).parents[2] / "data" / "triaxial.hdf5"
NAMES: dict[str, Any] = {"contact_params": ["E", "v"], "inputs": ["e_x", "e_y", "e_z"], "outputs": ["e", "p", "q"]}
Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def _arrays(n_samples: int = 3, n_steps: int = 4, n_outputs: int = 3) -> Arrays:
    """Every column of every data set counts its rows: 0, 1, 2, ..."""
    n_rows = n_samples * n_steps
    rows = np.arange(float(n_rows)).reshape(n_samples, n_steps, 1)
    return (
        np.arange(float(n_samples))[:, None].repeat(2, axis=1),
        rows.repeat(3, axis=2),
        rows.repeat(n_outputs, axis=2),
    )


def _problems(path: Path, groups: dict[str, Arrays]) -> list[str]:
    write_file(path, groups, **NAMES)
    description = inspect(path)
    json.dumps(description.as_dict(), allow_nan=False)
    assert render(description).count("problem: ") == len(description.problems)
    return description.problems


def test_groups_shapes_and_ranges_of_each_column_are_told(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    write_file(path, {"1.0e6/drained": _arrays(), "0.2e6/drained": _arrays()}, **NAMES)
    found = json.loads(json.dumps(inspect(path).as_dict()))
    assert found["path"] == str(path)
    assert {key: found["attributes"][key] for key in NAMES} == NAMES
    assert [group["name"] for group in found["groups"]] == ["0.2e6/drained", "1.0e6/drained"]
    group = found["groups"][0]
    assert (group["n_samples"], group["n_steps"]) == (3, 4)
    assert group["shapes"] == {"contact_params": [3, 2], "inputs": [3, 4, 3], "outputs": [3, 4, 3]}
    assert group["ranges"]["contact_params"]["v"] == {"min": 0, "mean": 1, "max": 2}
    assert group["ranges"]["outputs"]["p"] == {"min": 0, "mean": 5.5, "max": 11}
    assert found["problems"] == []


def test_the_real_data_have_no_problems() -> None:
    description = inspect(REAL)
    assert description.problems == []
    assert sum(group.n_samples for group in description.groups) == 491
    text = render(description)
    assert "0.5e6/undrained: 82 samples of 101 steps" in text
    assert text.endswith("no problems")


def test_nan_is_a_problem_and_the_ranges_are_those_of_the_finite_values(tmp_path: Path) -> None:
    params, inputs, outputs = _arrays()
    outputs[0, 0, 0] = np.nan
    outputs[:, :, 2] = np.inf
    problems = _problems(tmp_path / "data.hdf5", {"0.2e6/drained": (params, inputs, outputs)})
    assert problems == [
        "0.2e6/drained: e holds 1 NaN or infinite values of 12",
        "0.2e6/drained: q holds 12 NaN or infinite values of 12",
    ]
    ranges = inspect(tmp_path / "data.hdf5").groups[0].ranges["outputs"]
    assert ranges["e"] == ColumnRange(1, 6, 11)
    assert ranges["q"] == ColumnRange(None, None, None)


def test_a_constant_column_is_a_problem(tmp_path: Path) -> None:
    params, inputs, outputs = _arrays()
    params[:, 1] = 0.25
    problems = _problems(tmp_path / "data.hdf5", {"0.2e6/drained": (params, inputs, outputs)})
    assert problems == ["0.2e6/drained: v is constant (0.25)"]


@pytest.mark.parametrize(("name", "column"), [("p", 1), ("q", 2)])
@pytest.mark.parametrize("sign", [1, -1])
def test_stresses_in_pa_are_a_problem(tmp_path: Path, name: str, column: int, sign: int) -> None:
    params, inputs, outputs = _arrays()
    outputs[:, :, column] *= sign * 1e5
    problems = _problems(tmp_path / "data.hdf5", {"0.2e6/drained": (params, inputs, outputs)})
    assert problems == [f"0.2e6/drained: {name} reaches 1.1e+06, which looks like Pa; MPa is expected"]


def test_other_lengths_in_another_group_are_a_problem(tmp_path: Path) -> None:
    groups = {"0.2e6/drained": _arrays(), "0.5e6/drained": _arrays(n_steps=6)}
    problems = _problems(tmp_path / "data.hdf5", groups)
    assert problems == ["0.2e6/drained has 4 steps, 0.5e6/drained has 6; they cannot be merged"]


def test_other_feature_counts_in_another_group_are_a_problem(tmp_path: Path) -> None:
    groups = {"0.2e6/drained": _arrays(), "0.5e6/drained": _arrays(n_outputs=2)}
    problems = _problems(tmp_path / "data.hdf5", groups)
    assert problems == ["0.2e6/drained has 3 outputs, 0.5e6/drained has 2; they cannot be merged"]


@pytest.mark.parametrize("pressure", ["high", "nan"])
def test_a_pressure_that_is_no_number_is_a_problem(tmp_path: Path, pressure: str) -> None:
    problems = _problems(tmp_path / "data.hdf5", {f"{pressure}/drained": _arrays()})
    assert len(problems) == 1
    assert f"{pressure} is no pressure in Pa" in problems[0]


def test_an_empty_group_is_a_problem(tmp_path: Path) -> None:
    assert _problems(tmp_path / "data.hdf5", {"0.2e6/drained": _arrays(n_samples=0)}) == [
        "0.2e6/drained: holds no sample"
    ]


def test_missing_attributes_are_told_with_the_names_that_are_assumed(tmp_path: Path) -> None:
    write_file(tmp_path / "data.hdf5", {"0.2e6/drained": _arrays()}, **NAMES)
    with h5py.File(tmp_path / "data.hdf5", "a") as file:
        del file.attrs["inputs"]
    assert inspect(tmp_path / "data.hdf5").problems == ["the attribute inputs is missing; e_x, e_y, e_z are assumed"]


def test_values_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    write_file(tmp_path / "data.hdf5", {"0.2e6/drained": _arrays()}, **NAMES)
    with h5py.File(tmp_path / "data.hdf5", "a") as file:
        del file["0.2e6/drained/contact_params"]
        file["0.2e6/drained/contact_params"] = np.full((3, 2), b"soft")
    with pytest.raises(DataError, match=r"0\.2e6/drained/contact_params cannot be read as numbers"):
        inspect(tmp_path / "data.hdf5")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.hdf5: there is no such file"):
        inspect(tmp_path / "none.hdf5")
