"""Paths of a load are told by their start, their steps and their reversals, however noisy a measured one is."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from glrnn_hpc.load_path import LoadPath, branch_ends, branches, is_one_path, load_paths, reverses
from tests.conftest import DATA

#: Turns round in the rows 3 and 5.
PATH = np.array([0.0, 1, 2, 3, 2, 1, 2, 3, 4])


def test_branches_end_where_the_path_turns_round():
    assert branch_ends(PATH) == [0, 3, 5, 8]
    assert branch_ends(-PATH) == [0, 3, 5, 8]
    assert branch_ends(np.arange(4.0)) == [0, 3]
    assert branch_ends(np.zeros(3)) == [0, 2]
    assert branch_ends(np.zeros(1)) == [0, 0]


def test_each_branch_has_its_rows_and_shares_its_turning_points():
    assert branches(PATH) == [slice(0, 4), slice(3, 6), slice(5, 9)]
    assert branches(np.array([0.0, 1, 1])) == [slice(0, 3)]


def test_a_way_back_within_the_tolerance_is_no_reversal_and_one_beyond_is():
    rng = np.random.default_rng(0)
    fine = np.interp(np.arange(0, 8, 0.05), np.arange(9), PATH)
    noisy = fine + rng.uniform(-0.2, 0.2, fine.size)
    assert len(branch_ends(noisy)) > 50
    begin, *turns, end = branch_ends(noisy, 0.5)
    assert begin == 0
    np.testing.assert_allclose(np.array(turns) * 0.05, [3, 5], atol=0.4)
    assert end >= fine.size - 8
    assert not reverses(np.array([0, 1, 0.5, 2]), 0.5)
    assert reverses(np.array([0, 1, 0.49, 2]), 0.5)


def test_start_and_step_of_a_training_are_told_where_all_sequences_have_the_same():
    other = np.array([0.0, 1, 0, -1, 0, 1, 2, 1, 2])
    paths = np.stack([PATH, other])
    inputs = np.stack([0.0012 * paths, 5 + np.abs(paths) ** 2, np.arange(18.0).reshape(2, 9)], axis=2)
    expected = [LoadPath(0.0, 0.0012, True), LoadPath(5.0, None, True), LoadPath(None, 1.0, False)]
    assert load_paths([inputs]) == expected
    assert load_paths([inputs[:1], inputs[1:]]) == expected
    assert load_paths([inputs.astype("float32")])[0] == expected[0]
    assert is_one_path(paths[:1])
    assert not is_one_path(paths)


def test_a_constant_feature_and_a_single_step_have_no_step():
    assert load_paths([np.full((2, 5, 1), 3.0)]) == [LoadPath(3.0, None, False)]
    assert load_paths([np.full((2, 1, 1), 3.0)]) == [LoadPath(3.0, None, False)]


@pytest.mark.parametrize(("file", "is_reversing"), [("triaxial.hdf5", False), ("cyclic.hdf5", True)])
def test_the_axial_strain_of_the_real_data_has_steps_of_one_length(file: str, is_reversing: bool):
    with h5py.File(DATA / file) as data:
        parts = [data[f"{pressure}/drained/inputs"][...] for pressure in ("0.2e6", "0.5e6", "1.0e6")]
    lateral, _, axial = load_paths(parts)
    assert axial == LoadPath(0.0, 0.0012, is_reversing)
    assert lateral.step is None
