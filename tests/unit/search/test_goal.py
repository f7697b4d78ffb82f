"""Goal of a search: which of two values is better."""

from __future__ import annotations

import math

from glrnn_hpc.search import goal


def test_the_lower_value_is_the_better_one_when_minimising_and_the_higher_when_maximising():
    values = [2.0, -1.0, 3.0]
    assert (goal.best_of(values, "minimize"), goal.worst_of(values, "minimize")) == (-1.0, 3.0)
    assert (goal.best_of(values, "maximize"), goal.worst_of(values, "maximize")) == (3.0, -1.0)
    assert [goal.sign_of("minimize") * value for value in values] == values
    assert [goal.sign_of("maximize") * value for value in values] == [-2.0, 1.0, -3.0]


def test_no_values_have_no_best_one():
    assert math.isnan(goal.best_of([], "minimize"))
    assert math.isnan(goal.worst_of([], "maximize"))


def test_a_target_is_reached_by_a_value_that_is_as_good_or_better():
    assert goal.is_reached(0.1, 0.1, "minimize")
    assert goal.is_reached(0.05, 0.1, "minimize")
    assert not goal.is_reached(0.2, 0.1, "minimize")
    assert goal.is_reached(0.2, 0.1, "maximize")
    assert not goal.is_reached(0.05, 0.1, "maximize")
