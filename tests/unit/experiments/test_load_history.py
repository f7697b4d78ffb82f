"""The history of a load: its reversals and extremes at each step, from what went before."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from glrnn_hpc.experiments.load_history import N_TURNS, history_features, load_history
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.load_path import branch_ends
from tests.conftest import DATA

#: Turns round at the steps 3, 5 and 9.
PATH = np.array([[1.0, 2, 3, 4, 3, 2, 3, 4, 5, 6, 5]])


def test_a_path_with_known_turning_points_has_the_history_that_is_counted_by_hand():
    history = {name: values[0].tolist() for name, values in load_history(PATH).items()}
    assert history == {
        "direction": [0, 1, 1, 1, -1, -1, 1, 1, 1, 1, -1],
        "max": [1, 2, 3, 4, 4, 4, 4, 4, 5, 6, 6],
        "min": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        "path": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        "reversals": [0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3],
        "turn_1": [1, 1, 1, 1, 4, 4, 2, 2, 2, 2, 6],
        "since_1": [0, 1, 2, 3, 1, 2, 1, 2, 3, 4, 1],
        "turn_2": [1, 1, 1, 1, 1, 1, 4, 4, 4, 4, 2],
        "since_2": [0, 1, 2, 3, 4, 5, 3, 4, 5, 6, 5],
        "turn_3": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4],
        "since_3": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7],
    }


def test_the_history_of_an_extension_is_that_of_the_compression_with_the_other_sign():
    history, mirrored = load_history(PATH), load_history(-PATH)
    for name in ("direction", "turn_1", "turn_2", "turn_3"):
        np.testing.assert_array_equal(mirrored[name], -history[name], err_msg=name)
    for name in ("path", "reversals", "since_1", "since_2", "since_3"):
        np.testing.assert_array_equal(mirrored[name], history[name], err_msg=name)
    np.testing.assert_array_equal(mirrored["max"], -history["min"])


def test_the_first_steps_of_a_sequence_have_the_history_that_they_have_in_the_whole():
    paths = np.cumsum(np.random.default_rng(1).normal(size=(7, 40)), axis=1)
    whole = load_history(paths)
    for n_steps in (1, 2, 11, 39):
        for name, values in load_history(paths[:, :n_steps]).items():
            np.testing.assert_array_equal(values, whole[name][:, :n_steps], err_msg=f"{name} of {n_steps} steps")


def test_the_real_paths_turn_where_their_branches_end():
    with h5py.File(DATA / "cyclic.hdf5") as file:
        paths = np.concatenate([file[f"{each}/inputs"][:9, :, 2].astype("float64") for each in ("0.2e6/drained",)])
    history = load_history(paths)
    for row, path in enumerate(paths):
        turns = branch_ends(path)[1:-1]
        assert history["reversals"][row, -1] == len(turns) >= 2
        steps = np.flatnonzero(np.diff(history["reversals"][row]))
        np.testing.assert_array_equal(steps, turns)  # a reversal shows at the first step after the turning point
        last = [path[turn] for turn in turns[::-1][:N_TURNS]]
        np.testing.assert_array_equal([history[f"turn_{k + 1}"][row, -1] for k in range(len(last))], last)
        since = np.abs(np.diff(path))[turns[-1] :].sum()
        np.testing.assert_allclose(history["since_1"][row, -1], since, rtol=1e-12)


def test_a_load_that_stands_still_keeps_its_direction_and_rounding_is_no_reversal():
    history = load_history(np.array([[0.0, 0, 1, 1, 1 - 1e-6, 1 + 1e-6, 2, 2 - 1e-6, 0]]))
    assert history["direction"][0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, -1]
    assert history["reversals"][0].tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1]
    assert history["turn_1"][0].tolist() == [0] * 8 + [2]


def test_the_features_are_named_after_what_they_are_the_history_of():
    features = history_features("e_r")
    assert features.needs == ("e_r",)
    assert set(features.names()) == {f"e_r_{name}" for name in load_history(PATH)}
    given = features.values({"e_r": PATH})
    np.testing.assert_array_equal(given["e_r_turn_1"], load_history(PATH)["turn_1"])


@pytest.mark.parametrize(
    ("name", "label"), [("e_z_turn_1", "value at reversal 1 before now e_z_turn_1 [-]"), ("e_x", "e_x")]
)
def test_a_figure_over_a_derived_feature_tells_what_it_is(name: str, label: str):
    assert TRIAXIAL.input_label(name) == label
