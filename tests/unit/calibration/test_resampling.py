"""An observation whose load reverses is brought to the steps of a training, along its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glrnn_hpc.calibration.observation import read_observation
from glrnn_hpc.calibration.resampling import Resampled, resample
from glrnn_hpc.collector.training_domain import TrainingDomain
from glrnn_hpc.errors import DataError
from glrnn_hpc.load_path import LoadPath, branch_ends
from tests.conftest import DATA

STEP = 0.01
REVERSING = {"e_z": LoadPath(0.0, STEP, True)}
FILE = Path("observation.dat")


def model(**other: Any) -> TrainingDomain:
    """Return what is known of a model that was trained on 25 steps of 0.01, each sequence with its own reversals."""
    known: dict[str, Any] = {
        "window_size": 3,
        "n_steps": 25,
        "input_names": ["e_z"],
        "label_names": ["e", "p", "q"],
        "input_ranges": {"e_z": (-0.03, 0.09)},
        "load_paths": REVERSING,
        **other,
    }
    return TrainingDomain(Path("model"), n_inputs=len(known["input_names"]), n_params=5, n_labels=3, **known)


def walk(*turns: float, rows_per_step: int = 20) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the strain along a path from 0 through these values [steps], and the length of the path so far [steps]."""
    corners = np.array([0.0, *turns])
    lengths = np.concatenate([[0], np.cumsum(np.abs(np.diff(corners)))])
    # The corners are among the rows.
    along = np.unique(np.concatenate([np.arange(0, lengths[-1], 1 / rows_per_step), lengths]).round(9))
    return STEP * np.interp(along, lengths, corners), along


def resampled(strains: NDArray[Any], domain: TrainingDomain | None = None, **columns: Any) -> Resampled:
    return resample(FILE, {"e_z": strains, **columns}, "e_z", domain or model())


def test_turning_points_on_whole_steps_stay_where_they_are_and_values_follow_the_path():
    strains, along = walk(6, -2, 3)
    found = resampled(strains, path=along)
    expected = STEP * np.array([*range(7), *range(5, -3, -1), *range(-1, 4)])
    np.testing.assert_allclose(found.columns["e_z"], expected, atol=1e-12)
    np.testing.assert_allclose(found.columns["path"], np.arange(20), atol=1e-9)
    assert found.method == (
        f"linear interpolation along the path of e_z, branch by branch, from {len(strains)} rows to 20 steps of the "
        "training"
    )
    turns = [row + 1 for row in branch_ends(strains)[1:-1]]
    assert found.notes == [
        f"e_z turns round in the rows {turns[0]}, {turns[1]} of the observation; ways back of less than 0.005, half a "
        "load step, are taken for noise.",
        "The observation ends after 20 of the training's 25 steps.",
    ]


def test_turning_points_between_steps_become_the_nearest_ones_with_the_values_that_were_measured_there():
    strains, along = walk(6.4, -1.7, 2.9)
    found = resampled(strains, path=along)
    levels = np.rint(found.columns["e_z"] / STEP)
    np.testing.assert_allclose(np.abs(np.diff(levels)), 1)
    assert [levels[row] for row in branch_ends(levels)] == [0, 6, -2, 2]
    # The lengths of the branches are 6.4, 8.1 and 4.6 steps, the last of which ends within a step.
    first, second, third = 6.4 / 6 * np.arange(7), 6.4 + 8.1 / 8 * np.arange(1, 9), 14.5 + np.arange(1, 5)
    np.testing.assert_allclose(found.columns["path"], [*first, *second, *third], atol=1e-9)
    assert "The turning points are moved by up to 0.004 to whole load steps." in found.notes


def test_noise_of_the_measured_strain_makes_no_reversals():
    strains, along = walk(6, -2, 3, rows_per_step=100)
    noisy = strains + np.random.default_rng(1).uniform(-0.2, 0.2, strains.size) * STEP
    noisy[0] = 0
    assert (np.diff(noisy) < 0).sum() > 500
    found, smooth = resampled(noisy, path=along), resampled(strains, path=along)
    np.testing.assert_allclose(found.columns["e_z"][:20], smooth.columns["e_z"][:20], atol=1e-12)
    np.testing.assert_allclose(found.columns["path"][:20], smooth.columns["path"], atol=0.5)


def test_a_branch_that_is_shorter_than_a_step_is_left_out():
    strains, along = walk(6.1, 5.4, 8, 2)
    found = resampled(strains, path=along)
    levels = np.rint(found.columns["e_z"] / STEP)
    assert [levels[row] for row in branch_ends(levels)] == [0, 6, 5, 8, 2]
    strains, along = walk(6.45, 5.6, 8, 2)
    found = resampled(strains, path=along)
    levels = np.rint(found.columns["e_z"] / STEP)
    assert [levels[row] for row in branch_ends(levels)] == [0, 8, 2]
    assert "Branches that are less than a load step long are left out: 1." in found.notes


def test_rows_at_the_very_steps_are_taken_as_they_are():
    strains, along = walk(6, -2, 3, rows_per_step=1)
    found = resampled(strains, path=along)
    assert found.method == "none: the observation has the steps of the training"
    np.testing.assert_array_equal(found.columns["path"], along)


def test_a_load_that_only_grows_is_taken_by_a_model_of_reversals_too():
    strains, along = walk(8.3)
    found = resampled(strains, path=along)
    np.testing.assert_allclose(found.columns["e_z"], STEP * np.arange(9), atol=1e-12)
    np.testing.assert_allclose(found.columns["path"], np.arange(9), atol=1e-9)


def test_what_follows_the_range_or_the_length_of_the_training_is_left_out():
    strains, along = walk(14, 5)
    found = resampled(strains, path=along)
    np.testing.assert_allclose(found.columns["path"], np.arange(11), atol=1e-9)
    assert (
        "e_z leaves the range of the training, -0.03..0.09: what was observed from step 11 on is left out."
        in found.notes
    )
    strains, along = walk(8, -3, 8, 0)
    found = resampled(strains, path=along)
    assert len(found.columns["path"]) == 25
    assert "What was observed after 25 steps, where the sequences of the training end, is left out." in found.notes


def test_a_first_row_beside_the_beginning_stands_for_it_and_a_late_one_is_refused():
    strains, along = walk(6, 2)
    found = resampled(strains[8:], path=along[8:])
    assert "The first row, at e_z=0.004, stands for the beginning at 0." in found.notes
    np.testing.assert_allclose(found.columns["path"][[0, 1, 10]], [0.4, 1, 10], atol=1e-9)
    with pytest.raises(DataError, match=r"observation.dat: begins at e_z=0.0125; the model needs the load from 0 on"):
        resampled(strains[25:], path=along[25:])


def test_a_reversal_is_refused_by_a_model_of_loads_that_only_increase():
    monotonic = model(load_paths={"e_z": LoadPath(0.0, STEP, False)}, grid={"e_z": (STEP * np.arange(9)).tolist()})
    strains, _ = walk(6, 2, rows_per_step=2)
    with pytest.raises(DataError, match="e_z of the observation does not increase after row 13: the load reverses"):
        resampled(strains, monotonic)
    with pytest.raises(DataError, match="only increase, and knows no unloading.*take a model whose training had"):
        resampled(strains, monotonic)
    with pytest.raises(DataError, match="as far as its files tell"):
        resampled(strains, model(load_paths={}))
    noisy = np.array([0, 0.01, 0.021, 0.02, 0.03, 0.04])
    with pytest.raises(DataError, match="e_z of the observation does not increase after row 3; give an observation at"):
        resampled(noisy, monotonic)


def test_the_own_steps_are_taken_where_a_training_reverses_in_steps_of_different_lengths():
    strains, along = walk(6, -2, 3)
    found = resampled(strains, model(load_paths={"e_z": LoadPath(0.0, None, True)}), path=along)
    np.testing.assert_array_equal(found.columns["path"], along)
    assert "paths of e_z that reverse in steps of different lengths" in found.notes[0]


def test_a_training_with_one_path_takes_no_other_one():
    one = model(grid={"e_z": (STEP * np.array([*range(7), *range(5, -3, -1)])).tolist()}, n_steps=15)
    strains, along = walk(6, -2)
    np.testing.assert_allclose(resampled(strains, one, path=along).columns["path"], np.arange(15), atol=1e-9)
    strains, along = walk(5, -2)
    with pytest.raises(DataError, match="e_z is 0.04 at step 6, but the training has one path of e_z only, with 0.06"):
        resampled(strains, one)


def test_the_observation_of_the_real_data_is_found_again_in_rows_that_are_five_times_as_dense(tmp_path: Path):
    table = np.loadtxt(DATA / "observation_cyclic.dat")
    rows = np.arange(0, 120.001, 0.2)
    dense = np.column_stack([np.interp(rows, np.arange(121), values) for values in table.T])
    np.savetxt(tmp_path / "a.dat", dense, header="e_z e p q")
    domain = model(
        n_steps=121,
        window_size=10,
        input_names=["e_x", "e_y", "e_z"],
        input_ranges={"e_z": (-0.0192, 0.0792)},
        load_paths={"e_z": LoadPath(0.0, 0.0012, True)},
        label_ranges={"e": (0.4, 0.9), "p": (0.1, 13.0), "q": (-5.0, 27.0)},
    )
    drained = read_observation(tmp_path / "a.dat", domain, type_code=1.0)
    np.testing.assert_allclose(drained.steps, table[:, 0], atol=1e-6)
    np.testing.assert_allclose(drained.values, table[:, 1:], rtol=1e-4, atol=1e-4)
    volume_strain = -np.log((1 + table[:, 1]) / (1 + table[0, 1]))
    np.testing.assert_allclose(drained.load.sum(axis=1), volume_strain, atol=1e-5)
    undrained = read_observation(tmp_path / "a.dat", domain, labels=["q"], type_code=0.0)
    np.testing.assert_allclose(undrained.load[:, :2], -np.column_stack([table[:, 0]] * 2) / 2, atol=1e-6)
    assert drained.values[:, 2].min() < -0.1
