"""Each distribution against its definition, written here a second time with scipy.stats."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.search.grid import grid_axis
from glrnn_hpc.search.space import Parameter, grid_point, grid_points, grid_size

U = [1e-6, 0.01, 0.2, 0.37, 0.5, 0.61, 0.9, 0.99, 1 - 1e-6]


def parameter(mapping: Any, name: str = "learning_rate") -> Parameter:
    return Parameter.from_config(name, mapping)


def rounded(values: Any, q: float) -> Any:
    return np.round(np.asarray(values) / q) * q


CONTINUOUS = {
    "uniform": ({"min": -1.5, "max": 4}, lambda u: stats.uniform.ppf(u, -1.5, 5.5)),
    "log_uniform": ({"min": -7, "max": 1}, lambda u: np.exp(stats.uniform.ppf(u, -7, 8))),
    "log_uniform_values": ({"min": 1e-4, "max": 0.1}, lambda u: stats.loguniform.ppf(u, 1e-4, 0.1)),
    # log(1/x) is uniform, and x grows with u.
    "inv_log_uniform": ({"min": -2, "max": 3}, lambda u: 1 / np.exp(stats.uniform.ppf(1 - np.asarray(u), -2, 5))),
    "inv_log_uniform_values": (
        {"min": 1e-3, "max": 10},
        lambda u: 1 / np.exp(stats.uniform.ppf(1 - np.asarray(u), math.log(1 / 10), math.log(10 / 1e-3))),
    ),
    "normal": ({"mu": 3, "sigma": 0.5}, lambda u: stats.norm.ppf(u, 3, 0.5)),
    "log_normal": ({"mu": -5, "sigma": 1.5}, lambda u: stats.lognorm.ppf(u, s=1.5, scale=math.exp(-5))),
    "beta": ({"a": 2, "b": 5}, lambda u: stats.beta.ppf(u, 2, 5)),
}


@pytest.mark.parametrize("distribution", CONTINUOUS)
def test_the_inverse_cdf_of_a_continuous_distribution(distribution: str):
    settings, expected = CONTINUOUS[distribution]
    found = parameter({"distribution": distribution, **settings})
    np.testing.assert_allclose([found.ppf(u) for u in U], expected(U), rtol=1e-9)
    assert found.is_continuous


@pytest.mark.parametrize("q", [1, 2, 0.1, 0.25])
@pytest.mark.parametrize("base", ["uniform", "log_uniform", "log_uniform_values", "normal", "log_normal", "beta"])
def test_a_quantised_one_is_round_of_x_by_q_times_q(base: str, q: float):
    settings, expected = CONTINUOUS[base]
    found = parameter({"distribution": f"q_{base}", **settings, "q": q})
    values = [found.ppf(u) for u in U]
    np.testing.assert_allclose(values, rounded(expected(U), q), rtol=1e-11, atol=1e-12)
    assert all(isinstance(value, int if isinstance(q, int) else float) for value in values)
    assert not found.is_continuous


def test_quantised_values_are_the_numbers_that_people_write():
    found = parameter({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1})
    assert sorted({found.ppf(u) for u in np.linspace(0, 1, 200)}) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]


def test_a_q_below_the_resolution_of_the_values_changes_none_of_them():
    found = parameter({"distribution": "q_uniform", "min": 1, "max": 1e300, "q": 1e-300})
    assert [found.ppf(u) for u in (0, 0.25, 1)] == [1, pytest.approx(2.5e299), 1e300]


def test_defaults_are_those_of_wandb():
    assert parameter({"distribution": "normal"}).ppf(0.975) == pytest.approx(1.959964, abs=1e-6)
    assert parameter({"distribution": "log_normal"}).ppf(0.5) == pytest.approx(1.0)
    assert parameter({"distribution": "q_normal"}).ppf(0.975) == 2
    assert parameter({"distribution": "q_uniform", "min": 0.2, "max": 7.7}).ppf(0.5) == 4


def test_the_distribution_is_inferred_from_the_keys():
    kinds = {
        "constant": [7, "text", [1, 2], None, {"value": 3}],
        "categorical": [{"values": [1, 2]}, {"values": [1, 2], "probabilities": [0.25, 0.75]}],
        "int_uniform": [{"min": 1, "max": 5}],
        "uniform": [{"min": 1.0, "max": 5}, {"min": 0, "max": 0.5}],
    }
    for kind, mappings in kinds.items():
        assert [parameter(mapping).distribution for mapping in mappings] == [kind] * len(mappings)
    named = {"distribution": "categorical_w_probabilities", "values": [1, 2], "probabilities": [0.5, 0.5]}
    assert parameter(named).distribution == "categorical"


def test_integers_and_choices_are_equally_likely_and_both_bounds_come_out():
    integers = parameter({"min": 4, "max": 7})
    assert [integers.ppf(u) for u in (0, 0.25, 0.2500001, 0.5, 0.75, 0.7500001, 1)] == [4, 4, 5, 5, 6, 7, 7]
    draws = np.random.default_rng(1).random(1000)
    np.testing.assert_array_equal([integers.ppf(u) for u in draws], stats.randint.ppf(draws, 4, 8))
    choices = parameter({"values": ["a", "b", "c"]})
    assert [choices.ppf(u) for u in (0, 0.33, 0.34, 0.66, 0.67, 1)] == ["a", "a", "b", "b", "c", "c"]


def test_probabilities_weigh_the_choices_and_zero_never_comes_out():
    choices = parameter({"values": ["a", "b", "c", "d"], "probabilities": [0, 0.2, 0.8, 0.0]})
    assert [choices.ppf(u) for u in (0, 0.1, 0.2, 0.21, 0.99, 1)] == ["b", "b", "b", "c", "c", "c"]
    draws = [choices.ppf(u) for u in np.random.default_rng(1).random(4000)]
    assert draws.count("b") / 4000 == pytest.approx(0.2, abs=0.03)


def test_bounds_are_never_left_by_rounding():
    for low, high in ((1e-4, 1e-2), (0.3, 0.7), (1e-7, 3e-7)):
        found = parameter({"distribution": "log_uniform_values", "min": low, "max": high})
        assert (found.ppf(0.0), found.ppf(1.0)) == (pytest.approx(low), pytest.approx(high))
        assert low <= found.ppf(0.0) < found.ppf(1.0) <= high


def test_a_probability_outside_zero_and_one_is_refused():
    for u in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"a probability in \[0, 1\] is needed"):
            parameter({"min": 1, "max": 5}).ppf(u)


def test_a_grid_is_the_product_in_a_fixed_order():
    axes = [
        parameter({"values": [3, 5]}, "window_size"),
        parameter({"min": 1, "max": 2}, "lstm_units"),
        parameter({"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}, "train_frac"),
    ]
    points = grid_points(axes)
    assert len(points) == grid_size(axes) == 8
    assert points[:3] == [
        {"window_size": 3, "lstm_units": 1, "train_frac": 0.1},
        {"window_size": 3, "lstm_units": 1, "train_frac": 0.2},
        {"window_size": 3, "lstm_units": 2, "train_frac": 0.1},
    ]
    assert points[-1] == grid_point(axes, 7) == {"window_size": 5, "lstm_units": 2, "train_frac": 0.2}
    values = {parameter({"distribution": "q_uniform", "min": 0.1, "max": 0.3, "q": 0.1}).ppf(u) for u in U}
    assert values == {0.1, 0.2, 0.3}


@pytest.mark.parametrize(
    ("low", "high", "q", "expected"),
    [
        (0, 10, 5, [0, 5]),
        (1, 10, 4, [1, 5, 9]),
        (0.05, 0.3, 0.1, [0.05, 0.15, 0.25]),
        (0, 1, 0.1, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (8, 12.5, 2, [8, 10, 12]),
    ],
)
def test_a_grid_over_q_uniform_steps_from_min_and_leaves_max_out_as_in_wandb(
    low: Any, high: Any, q: Any, expected: Any
):
    mapping = {"distribution": "q_uniform", "min": low, "max": high, "q": q}
    assert grid_axis(parameter(mapping)) == expected
    assert all(isinstance(value, int) for value in expected) == isinstance(grid_axis(parameter(mapping))[-1], int)


def test_a_grid_over_values_with_probabilities_is_refused():
    with pytest.raises(ConfigError, match=r"parameters\.lstm_units\.probabilities: a grid runs every value once"):
        grid_points([parameter({"values": [1, 2], "probabilities": [0.2, 0.8]}, "lstm_units")])


def test_beta_without_a_and_b_is_uniform():
    assert parameter({"distribution": "beta"}).ppf(0.3) == pytest.approx(0.3)
    assert parameter({"distribution": "q_beta", "q": 0.25}).ppf(0.3) == 0.25


@pytest.mark.parametrize(
    ("distribution", "kind"),
    [("uniform", "continuous"), ("log_uniform_values", "continuous"), ("q_log_uniform", "not one")],
)
def test_a_grid_over_what_is_no_finite_set_is_refused_with_the_key(distribution: str, kind: str):
    with pytest.raises(
        ConfigError, match=rf"parameters\.learning_rate: a grid needs a finite set, {distribution} is {kind}"
    ):
        grid_points([parameter({"distribution": distribution, "min": 0.1, "max": 0.2})])


@pytest.mark.parametrize(
    "mapping",
    [
        {"value": [1, 2]},
        {"values": [1, "a", None]},
        {"values": [1, 2], "probabilities": [0.25, 0.75]},
        {"min": 1, "max": 5},
        *({"distribution": name, **settings} for name, (settings, _) in CONTINUOUS.items()),
        {"distribution": "q_beta", "a": 1, "b": 2, "q": 0.5},
        {"distribution": "q_log_normal", "mu": 1},
    ],
)
def test_an_entry_reads_back_as_it_was_written(mapping: dict[str, Any]):
    found = parameter(mapping)
    assert parameter(found.as_config()) == found
