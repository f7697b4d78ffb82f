"""Intervals of predictions: what they hold of fresh data, and that no bound is a value that a label cannot have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glrnn_hpc.experiments.labels import LabelTransform
from glrnn_hpc.surrogate.intervals import LEVEL, Intervals, LabelSpace, coverage, fit_intervals, intervals_of_record

TRANSFORMS = (
    LabelTransform("e", "log", reference="e0", offset=1.0),
    LabelTransform("p", "log", reference="pressure"),
    LabelTransform("q", "asinh", reference="pressure"),
)
SPACE = LabelSpace(("e", "p", "q", "a_c"), ("pressure", "e0"), TRANSFORMS)
WEIGHTS = np.array([0.5, 0.3, 0.2])


def params(n: int, rng: np.random.Generator) -> np.ndarray:
    return np.stack([rng.choice([0.2, 0.5, 1.0], n), rng.uniform(0.5, 0.7, n)], axis=1)


def sequences(n: int, seed: int, n_steps: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return members (3, n, T, 4), truth (n, T, 4) and parameters.

    In transformed units the errors grow with the step, and the members disagree where they err.
    """
    rng = np.random.default_rng(seed)
    of_sequences = params(n, rng)
    y = rng.normal(size=(n, 1, 4)) * [0.05, 1.0, 1.0, 0.5] + np.linspace(0, 0.5, n_steps)[None, :, None]
    scale = 0.05 * np.exp(0.5 * rng.normal(size=(n, 1, 1))) * np.linspace(0.5, 2.0, n_steps)[None, :, None]
    shared = y + scale * rng.normal(size=y.shape)
    members = np.stack([shared + scale * rng.normal(size=y.shape) for _ in range(3)])
    return SPACE.inverse(members, of_sequences), SPACE.inverse(y, of_sequences), of_sequences


def test_the_transforms_of_all_labels_are_undone():
    of_sequences = params(6, np.random.default_rng(0))
    labels = np.random.default_rng(1).uniform(0.1, 5, (2, 6, 7, 4))
    transformed = SPACE.forward(labels, of_sequences)
    np.testing.assert_allclose(transformed[1, 2, 3, 1], np.log(labels[1, 2, 3, 1] / of_sequences[2, 0]))
    np.testing.assert_array_equal(transformed[..., 3], labels[..., 3])
    np.testing.assert_allclose(SPACE.inverse(transformed, of_sequences), labels)


def test_a_reference_that_the_model_does_not_have_is_left_out():
    space = LabelSpace(("p",), (), (LabelTransform("p", "log", reference="pressure"),))
    np.testing.assert_allclose(space.forward(np.full((1, 2, 1), 3.0), np.zeros((1, 0))), np.log(3))


def test_fresh_sequences_lie_in_the_intervals_as_often_as_they_promise():
    members, truth, of_sequences = sequences(150, seed=0)
    intervals = fit_intervals(SPACE, members, WEIGHTS, truth, of_sequences)
    held = coverage(*_bounds(intervals, members, of_sequences), truth)
    np.testing.assert_allclose(held, LEVEL * 151 / 150, atol=0.02)
    members, truth, of_sequences = sequences(400, seed=1)
    held = coverage(*_bounds(intervals, members, of_sequences), truth)
    assert ((held > 0.86) & (held < 0.94)).all(), held


def test_where_the_members_disagree_the_intervals_are_wider():
    members, truth, of_sequences = sequences(100, seed=2)
    intervals = fit_intervals(SPACE, members, WEIGHTS, truth, of_sequences)
    one = members[:, :1]
    apart = one.mean(axis=0) + 10 * (one - one.mean(axis=0))
    near, far = (intervals.around(each, WEIGHTS, of_sequences[:1]).std for each in (one, apart))
    assert (far.mean(axis=(0, 1)) > 1.5 * near.mean(axis=(0, 1))).all()


def test_a_single_model_has_intervals_of_its_errors():
    members, truth, of_sequences = sequences(200, seed=3)
    intervals = fit_intervals(SPACE, members[:1], np.ones(1), truth, of_sequences)
    members, truth, of_sequences = sequences(400, seed=4)
    band = intervals.around(members[:1], np.ones(1), of_sequences)
    held = coverage(band.lower, band.upper, truth)
    assert ((held > 0.86) & (held < 0.94)).all(), held
    # Errors grow with the step, and so do the intervals.
    assert (band.std[:, -1, 3] > band.std[:, 0, 3]).all()


def test_the_standard_deviation_is_that_of_a_normal_error_with_this_interval():
    rng = np.random.default_rng(5)
    space = LabelSpace(("a_c",), ())
    truth = rng.normal(size=(500, 20, 1))
    none = np.zeros((500, 0))
    intervals = fit_intervals(space, np.zeros((1, 500, 20, 1)), np.ones(1), truth, none)
    np.testing.assert_allclose(intervals.around(np.zeros((1, 500, 20, 1)), np.ones(1), none).std, 1.0, atol=0.1)


def test_no_bound_is_a_value_that_the_label_cannot_have_whatever_members_say():
    members, truth, of_sequences = sequences(60, seed=6)
    intervals = fit_intervals(SPACE, members, WEIGHTS, truth, of_sequences)
    impossible = members.copy()
    impossible[0, ..., 1] = -5.0  # a member in raw units that gives a negative mean stress
    impossible[1, ..., 0] = -2.0  # and one that gives a void ratio below -1
    impossible[:, :5, :, 1] = 0.0
    band = intervals.around(impossible, WEIGHTS, of_sequences)
    for values in (band.std, band.lower, band.upper):
        assert np.isfinite(values).all()
    assert (band.lower[..., 1] > 0).all()
    assert (band.lower[..., 0] > -1).all()
    assert (band.lower <= band.upper).all()
    assert (band.lower[..., 2] < 0).any()  # q may have any sign


def test_members_that_know_nothing_of_each_other_have_wide_intervals_that_are_numbers():
    members, truth, of_sequences = sequences(60, seed=11)
    intervals = fit_intervals(SPACE, members, WEIGHTS, truth, of_sequences)
    strange = members.copy()
    strange[0, ..., 1:3] = 1e30
    strange[1, ..., 1:3] = 1e-30
    band = replace(intervals, factors=intervals.factors * 100).around(strange, WEIGHTS, of_sequences)
    assert np.isfinite(band.upper[..., 1:3]).all()
    assert (band.lower[..., 1] > 0).all()


def test_a_prediction_beyond_all_that_was_seen_lies_in_its_interval():
    members, truth, of_sequences = sequences(60, seed=7)
    intervals = fit_intervals(SPACE, members, WEIGHTS, truth, of_sequences)
    far = np.abs(members) * 1e3
    band = intervals.around(far, WEIGHTS, of_sequences)
    mean = np.tensordot(WEIGHTS, far, axes=1)
    assert (band.lower <= mean).all()
    assert (mean <= band.upper * (1 + 1e-6)).all()


def test_a_label_that_is_met_exactly_lies_in_intervals_of_no_width_but_rounding():
    members, truth, of_sequences = sequences(30, seed=8)
    members[..., 0] = truth[..., 0]  # a logarithm, which is computed and undone
    members[..., 3] = truth[..., 3] = 2.0
    members, truth = members.astype("float32"), truth.astype("float32")
    intervals = fit_intervals(SPACE, members, WEIGHTS, truth, of_sequences)
    band = intervals.around(members, WEIGHTS, of_sequences)
    for label in (0, 3):
        np.testing.assert_allclose(band.std[..., label], 0.0, atol=2e-6)
        assert coverage(band.lower, band.upper, truth)[label] == 1.0


def test_truth_outside_of_the_domain_of_a_transform_does_not_spoil_the_intervals():
    members, truth, of_sequences = sequences(100, seed=9)
    truth[0, :3, 1] = 0.0  # no logarithm
    intervals = fit_intervals(SPACE, members, WEIGHTS, truth, of_sequences)
    band = intervals.around(members, WEIGHTS, of_sequences)
    assert np.isfinite(band.upper).all()
    assert coverage(band.lower, band.upper, truth)[1] > 0.88


def test_written_intervals_are_the_same_and_go_on_beyond_the_last_step():
    members, truth, of_sequences = sequences(40, seed=10)
    intervals = fit_intervals(SPACE, members, WEIGHTS, truth, of_sequences)
    again = intervals_of_record(intervals.as_record(), SPACE.param_names)
    for one, other in zip(
        _bounds(intervals, members, of_sequences), _bounds(again, members, of_sequences), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    longer = np.concatenate([members, members[:, :, -1:]], axis=2)
    band = again.around(longer, WEIGHTS, of_sequences)
    np.testing.assert_array_equal(band.upper[:, -1], band.upper[:, -2])


@pytest.mark.parametrize("n", [1, 5])
def test_few_sequences_give_intervals_as_wide_as_the_errors_that_they_know(n: int):
    space, none = LabelSpace(("a_c",), ()), np.zeros((n, 0))
    truth = np.linspace(1, 2, n).reshape(n, 1, 1)
    intervals = fit_intervals(space, np.zeros((1, n, 1, 1)), np.ones(1), truth, none)
    band = intervals.around(np.zeros((1, n, 1, 1)), np.ones(1), none)
    assert coverage(band.lower, band.upper, truth)[0] == 1.0


def _bounds(intervals: Intervals, members: np.ndarray, of_sequences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    band = intervals.around(members, WEIGHTS, of_sequences)
    return band.lower, band.upper
