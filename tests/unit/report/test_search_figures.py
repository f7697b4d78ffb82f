"""Figures of a search: history, learning curves, importance of the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glrnn_hpc.report import parallel_coordinates, plot_style, search_figures
from glrnn_hpc.report.plot_style import FigureNotApplicable
from glrnn_hpc.report.trials import Trial
from glrnn_hpc.search.early_terminate import EarlyTerminate
from glrnn_hpc.search.importance import importances
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.spec import SweepSpec
from tests.unit.report.sample_trials import PARAMETERS, assert_apart, boxes, spec_of, trials_of


def test_names_and_numbers_of_a_hundred_trials_through_twelve_parameters_do_not_overlap():
    spec = spec_of()
    drawing = parallel_coordinates.draw_parallel_coordinates(trials_of(spec, 100), spec)
    axis = drawing.figure.axes[0]
    names = boxes(drawing.figure, axis.get_xticklabels())
    assert len(names) == 13
    assert_apart(names)
    assert_apart(boxes(drawing.figure, list(axis.texts)))
    width, height = drawing.figure.get_size_inches() * drawing.figure.dpi
    assert all(box.x0 >= 0 and box.x1 <= width and box.y1 <= height for box in names)
    bars = search_figures.draw_importance(trials_of(spec, 100), spec).figure
    assert_apart(boxes(bars, bars.axes[0].get_yticklabels()))
    # The first is the most important one, on top.
    widths = [bar.get_width() for bar in bars.axes[0].patches]
    assert widths == sorted(widths, reverse=True)
    assert bars.axes[0].yaxis_inverted()
    assert not bars.axes[0].xaxis_inverted()


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_the_history_shows_the_best_so_far_and_each_state_by_its_own_marker(goal: str):
    spec = spec_of(["learning_rate", "use_ema"], goal)
    trials = trials_of(spec, 20)
    drawing = search_figures.draw_history(trials, spec)
    steps, *marks = drawing.figure.axes[0].get_lines()
    done = [trial.value for trial in trials if trial.state == "finished"]
    better = np.minimum if goal == "minimize" else np.maximum
    assert list(steps.get_ydata())[:-1] == list(better.accumulate(done))
    shapes = {(mark.get_color(), mark.get_marker()) for mark in marks}
    assert shapes == {plot_style.STATES[state][:2] for state in ("finished", "pruned", "failed")}
    assert len({colour for colour, _, _ in plot_style.STATES.values()}) == len(plot_style.STATES)
    assert len({marker for _, marker, _ in plot_style.STATES.values()}) == len(plot_style.STATES)
    extreme = min(done) if goal == "minimize" else max(done)
    assert f"the best, {extreme:.4g}" in drawing.alt
    # From a trial on, up to the last of all, which failed.
    assert steps.get_drawstyle() == "steps-post"
    assert list(steps.get_xdata()) == [*(trial.number for trial in trials if trial.state == "finished"), 19]


@pytest.mark.parametrize(
    ("metric", "constants", "unit"),
    [
        ("val_loss", {}, "std² of the labels"),
        ("val_mae", {"standardize_outputs": True}, "std of the labels"),
        ("val_loss", {"standardize_outputs": False}, "unit² of the labels"),
        ("val_mae", {"standardize_outputs": False}, "unit of the labels"),
    ],
)
def test_the_metric_is_shown_in_the_unit_of_what_was_trained(metric: str, constants: dict[str, Any], unit: str):
    keys = {"learning_rate": PARAMETERS["learning_rate"], **{key: {"value": value} for key, value in constants.items()}}
    parameters = tuple(Parameter.from_config(name, mapping) for name, mapping in keys.items())
    spec = SweepSpec("random", metric, "minimize", parameters)
    figure = search_figures.draw_history(trials_of(spec, 5), spec).figure
    assert figure.axes[0].get_ylabel() == f"{metric} [{unit}]"


def test_learning_curves_show_the_bands_and_their_cutoffs():
    spec = spec_of(["learning_rate"], early_terminate=EarlyTerminate(min_iter=2, eta=2))
    trials = [Trial(n, "finished", {}, 1.0 + n, (9.0, 5.0 + n, 1.0 + n)) for n in range(4)]
    drawing = search_figures.draw_learning_curves(trials, spec)
    upright = [line for line in drawing.figure.axes[0].get_lines() if list(line.get_xdata()) == [2, 2]]
    assert len(upright) == 1
    (cutoff,) = [line for line in drawing.figure.axes[0].get_lines() if line.get_marker() == "_"]
    assert (list(cutoff.get_xdata()), list(cutoff.get_ydata())) == ([2], [7.0])
    assert "hyperband compares after the epochs 2." in drawing.alt
    (curves_drawn,) = drawing.figure.axes[0].collections
    drawn = [[tuple(point) for point in segment] for segment in curves_drawn.get_segments()]
    assert drawn == [[(1, 9.0), (2, 5.0 + n), (3, 1.0 + n)] for n in range(4)]
    ends, best, *_ = drawing.figure.axes[0].get_lines()
    assert list(zip(*ends.get_data(), strict=True)) == [(3, 1.0 + n) for n in range(4)]
    assert list(zip(*best.get_data(), strict=True)) == drawn[0]
    beyond = search_figures.draw_learning_curves([Trial(0, "finished", {}, 1.0, (1.0,))], spec)
    assert "beyond those shown" in beyond.alt


def test_labels_of_crowded_bands_do_not_overlap():
    spec = spec_of(["learning_rate"], early_terminate=EarlyTerminate(min_iter=1, eta=1.1, strict=True))
    drawing = search_figures.draw_learning_curves([Trial(0, "finished", {}, 1.0, tuple(range(100, 0, -1)))], spec)
    (above,) = drawing.figure.axes[0].child_axes
    assert_apart(boxes(drawing.figure, above.get_xticklabels()))


def test_the_parameter_that_decides_is_the_most_important_one():
    spec = spec_of()
    trials = [trial for trial in trials_of(spec, 80) if trial.state == "finished"]
    points, values = [trial.point for trial in trials], [trial.value or 0.0 for trial in trials]
    for goal in ("minimize", "maximize"):
        found = importances(spec.searched, points, values, goal)
        assert next(iter(found)) == "learning_rate"
        assert set(found) == set(PARAMETERS)
        assert sum(found.values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="at least 10 finished trials are needed, there are 9"):
        importances(spec.searched, points[:9], values[:9], "minimize")
    by_choice = [float(point["experiment_type"] == "drained") for point in points]
    assert next(iter(importances(spec.searched, points, by_choice, "maximize"))) == "experiment_type"


def test_what_cannot_be_drawn_says_why():
    spec = spec_of(["learning_rate", "use_ema"])
    with pytest.raises(FigureNotApplicable, match="0 trials have finished, and fewer than 10 would tell chance"):
        search_figures.draw_importance([], spec)
    with pytest.raises(FigureNotApplicable, match="searches no parameter"):
        parallel_coordinates.draw_parallel_coordinates(trials_of(spec, 3), spec_of([]))
    for draw in (
        search_figures.draw_history,
        search_figures.draw_learning_curves,
        parallel_coordinates.draw_parallel_coordinates,
    ):
        with pytest.raises(FigureNotApplicable, match="no trial has"):
            draw([Trial(0, "failed", {}, None, (float("nan"),))], spec)


def test_equal_values_and_more_parameters_than_fit_are_drawn_too():
    names = [f"key_{number}" for number in range(20)]
    parameters = tuple(Parameter.from_config(name, {"min": 0.0, "max": 1.0}) for name in names)
    spec = SweepSpec("random", "mae", "minimize", parameters)
    trials = [Trial(number, "finished", dict.fromkeys(names, 0.5), 0.0, (0.0,)) for number in range(12)]
    assert (
        "The first 16 of 20 parameters are shown."
        in parallel_coordinates.draw_parallel_coordinates(trials, spec).caption
    )
    canvas = parallel_coordinates.draw_parallel_coordinates(trials, spec).figure.axes[0]
    assert {height for line in canvas.collections[1].get_segments() for _, height in line} == {0.5}


@pytest.mark.parametrize(
    ("n_values", "metric", "reason"),
    [
        ((1,) * 8, 0.5, "fewer than two parameters had more than one value"),
        ((1,) * 7 + (3,), 0.5, "fewer than two parameters had more than one value"),
        ((3,) * 8, 0.0, "no parameter tells the good trials from the others"),
    ],
)
def test_parameters_that_decide_nothing_have_no_importance(n_values: tuple[int, ...], metric: float, reason: str):
    names = [f"key_{number}" for number in range(8)]
    entries = [{"values": list(range(n))} for n in n_values]
    parameters = tuple(Parameter.from_config(name, entry) for name, entry in zip(names, entries, strict=True))
    spec = SweepSpec("random", "mae", "minimize", parameters)
    points = [{name: k % n for name, n in zip(names, n_values, strict=True)} for k in range(12)]
    trials = [Trial(k, "finished", point, metric * k, (metric * k,)) for k, point in enumerate(points)]
    with pytest.raises(FigureNotApplicable, match=reason):
        search_figures.draw_importance(trials, spec)


def test_a_parameter_with_one_value_has_no_part_of_the_importance():
    entries = {"fixed": {"values": [7]}, "decides": {"values": [0, 1, 2]}, "other": {"values": [5, 6]}}
    parameters = tuple(Parameter.from_config(name, entry) for name, entry in entries.items())
    points = [{"fixed": 7, "decides": k % 3, "other": 5 + k % 2} for k in range(24)]
    found = importances(parameters, points, [float(point["decides"]) for point in points], "minimize")
    assert list(found)[0] == "decides"
    assert found["fixed"] == 0.0
    assert sum(found.values()) == pytest.approx(1)
