"""The real data under reversing loads are what their README says, and follow from their raw files."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.data import yade
from glrnn_hpc.data.inspect import inspect
from glrnn_hpc.data.unpickle import load_npy
from glrnn_hpc.preprocessor.splits import split_ids
from tests.conftest import DATA

CYCLIC, RAW = DATA / "cyclic.hdf5", DATA / "raw_cyclic"
GROUPS = [f"{pressure}/{kind}" for pressure in ("0.2e6", "0.5e6", "1.0e6") for kind in ("drained", "undrained")]
STEP = 0.0012


def arrays(group: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return parameters, inputs and outputs of a group."""
    with h5py.File(CYCLIC) as file:
        found = tuple(file[f"{group}/{name}"][...] for name in ("contact_params", "inputs", "outputs"))
    return found[0], found[1], found[2]


def n_reversals(axial: NDArray[Any]) -> NDArray[Any]:
    """Return the number of reversals of each path, shape (n,)."""
    signs = np.sign(np.diff(axial, axis=1))
    return (signs[:, 1:] != signs[:, :-1]).sum(axis=1)


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> yade.ParseReport:
    return yade.convert_all_to_hdf5(None, None, RAW, tmp_path_factory.mktemp("parsed") / "sample.hdf5")


def test_the_sample_holds_three_whole_tests_of_each_group_and_five_that_liquefied(parsed: yade.ParseReport) -> None:
    n_short = {"0.2e6/undrained": 2, "0.5e6/undrained": 1, "1.0e6/undrained": 2}
    assert parsed.is_complete
    assert parsed.sequence_length == 121
    assert parsed.groups == {
        name: yade.GroupReport(files=3 + n_short.get(name, 0), good=3, short=n_short.get(name, 0)) for name in GROUPS
    }


def test_the_whole_set_has_54_tests_of_121_steps_in_each_group_and_nothing_is_wrong_with_it() -> None:
    description = inspect(CYCLIC)
    assert description.problems == []
    assert [(group.name, group.n_samples, group.n_steps) for group in description.groups] == [
        (name, 54, 121) for name in GROUPS
    ]


def test_the_whole_set_holds_what_the_parser_makes_of_the_sample(parsed: yade.ParseReport) -> None:
    with h5py.File(parsed.output) as sample:
        for group in GROUPS:
            _, inputs, outputs = arrays(group)
            kept = [path for path in sorted((RAW / group).glob("*.npy")) if len(load_npy(path)[1]["p"]) == 121]
            for row, path in enumerate(kept):
                params = sample[f"{group}/contact_params"][row]
                (position,) = np.flatnonzero((arrays(group)[0] == params).all(axis=1))
                np.testing.assert_array_equal(inputs[position], sample[f"{group}/inputs"][row], err_msg=str(path))
                np.testing.assert_array_equal(outputs[position], sample[f"{group}/outputs"][row], err_msg=str(path))


@pytest.mark.parametrize("group", GROUPS)
def test_the_axial_strain_turns_two_to_six_times_in_steps_of_one_length(group: str) -> None:
    axial = arrays(group)[1][:, :, 2].astype("float64")
    np.testing.assert_allclose(np.abs(np.diff(axial, axis=1)), STEP, rtol=1e-4)
    assert (axial[:, 0] == 0).all()
    assert (axial[:, 1] > 0).all()
    assert set(n_reversals(axial)) == {2, 3, 4, 5, 6}
    assert -0.0192 - 1e-6 <= axial.min() < 0 < axial.max() <= 0.0792 + 1e-6
    assert len(np.unique(axial, axis=0)) == 54


@pytest.mark.parametrize("group", GROUPS)
def test_the_deviatoric_stress_becomes_negative_and_the_volume_is_that_of_the_type_of_test(group: str) -> None:
    _, inputs, outputs = arrays(group)
    void_ratio, q = outputs[:, :, 0].astype("float64"), outputs[:, :, 2]
    assert 0.125 < (q < 0).mean() < 0.205
    volume_strain = inputs.astype("float64").sum(axis=2)
    assert (np.abs(volume_strain).max() < 1e-7) == group.endswith("undrained")
    expected = (1 + void_ratio[:, :1]) * np.exp(-volume_strain) - 1
    np.testing.assert_allclose(void_ratio, expected, atol=2e-6)


def test_the_ranges_of_the_readme_are_those_of_the_data() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DATA / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(("| 0.", "| 1.0e6"))
    ]
    assert [row[0] for row in rows] == GROUPS
    for row in rows:
        outputs = arrays(row[0])[2]
        for column, text in enumerate(row[4:]):
            low, high = map(float, text.split(".."))
            np.testing.assert_allclose(
                [outputs[:, :, column].min(), outputs[:, :, column].max()], [low, high], rtol=5e-3
            )


def test_the_observation_is_a_test_that_no_training_on_all_groups_sees() -> None:
    table = np.loadtxt(DATA / "observation_cyclic.dat")
    params, inputs, outputs = arrays("0.2e6/drained")
    np.testing.assert_allclose(table, np.column_stack([inputs[50, :, 2], outputs[50, :, :3]]), rtol=1e-5, atol=1e-9)
    assert 50 in split_ids(324, 0.7, 0.15, SPLIT_SEED)["test"]
    np.testing.assert_allclose(params[50], [9.056, 0.107, 0.814, 0.594, 30.2], atol=0.02)
    signs = np.sign(np.diff(table[:, 0]))
    assert (np.flatnonzero(signs[1:] != signs[:-1]) + 1).tolist() == [15, 32, 69, 87]
