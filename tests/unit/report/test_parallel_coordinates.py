"""Parallel coordinates: axes, lines, colours, and labels that do not overlap."""

from __future__ import annotations

import numpy as np
import pytest

from glrnn_hpc.report import parallel_coordinates, plot_style
from glrnn_hpc.report.trials import Trial
from tests.unit.report.sample_trials import spec_of, trials_of


def test_an_axis_is_logarithmic_where_the_distribution_is_and_choices_are_evenly_spaced():
    spec = spec_of(["learning_rate", "use_ema", "gradient_accumulation_steps", "pressure"])
    rate, ema, steps, pressure = spec.searched
    assert rate.is_logarithmic
    assert not steps.is_logarithmic
    placed = parallel_coordinates.parameter_axis(rate, {0: 1e-4, 1: 1e-3, 2: 1e-2})
    assert placed.heights == pytest.approx({0: 0.0, 1: 0.5, 2: 1.0})
    (height,) = [height for height, text in placed.ticks if text == "0.001"]
    assert height == pytest.approx(0.5)
    assert parallel_coordinates.parameter_axis(ema, {0: False, 1: True}).heights == {0: 0.75, 1: 0.25}
    assert parallel_coordinates.parameter_axis(steps, {0: 1, 1: 2, 2: 5}).heights == {0: 0.0, 1: 0.25, 2: 1.0}
    assert {text for _, text in parallel_coordinates.parameter_axis(steps, {0: 1, 1: 2}).ticks} == {"1", "2"}
    assert parallel_coordinates.parameter_axis(steps, {0: 3, 1: 3}).heights == {0: 0.5, 1: 0.5}
    # Rounded to 0, which has no place on a logarithmic axis.
    assert parallel_coordinates.parameter_axis(rate, {0: 0.0, 1: 0.001, 2: 0.004}).heights == {0: 0.0, 1: 0.25, 2: 1.0}
    texts = [text for _, text in parallel_coordinates.parameter_axis(pressure, {0: "All"}).ticks]
    assert texts == ["All", "0.2e6+0.5e6", "0.2e6+1.0e6"]


@pytest.mark.parametrize(("goal", "order"), [("minimize", [4, 1, 0, 3]), ("maximize", [3, 0, 1, 4])])
def test_the_better_a_trial_the_later_and_the_darker_its_line_is_drawn(goal: str, order: list[int]):
    spec = spec_of(["gradient_accumulation_steps"], goal)
    # A trial's parameter is its number + 1, so that its line begins at number / 4; trial 2 was stopped.
    values = [2.0, 3.0, 0.1, 1.0, 4.0]
    trials = [
        Trial(number, "pruned" if number == 2 else "finished", {"gradient_accumulation_steps": number + 1}, value, ())
        for number, value in enumerate(values)
    ]
    canvas = parallel_coordinates.draw_parallel_coordinates(trials, spec).figure.axes[0]
    stopped, done = canvas.collections
    assert [segment[0][1] for segment in stopped.get_segments()] == [0.5]
    assert [segment[0][1] * 4 for segment in done.get_segments()] == order
    brightness = done.get_colors()[:, :3].sum(axis=1)
    assert list(brightness) == sorted(brightness, reverse=True)
    assert len(set(brightness)) == len(order)
    # From 0.1 to 4, which is so much that the axis of the metric is logarithmic.
    heights = {number: np.log(values[number] / 0.1) / np.log(40) for number in order}
    assert [segment[-1][1] for segment in done.get_segments()] == pytest.approx([heights[n] for n in order])
    (bold,) = [line for line in canvas.get_lines() if line.get_color() == plot_style.VERMILION]
    assert bold.get_ydata()[0] * 4 == order[-1]
    assert stopped.get_zorder() < done.get_zorder() < bold.get_zorder()


def test_the_more_trials_there_are_the_fainter_all_but_the_best_are_drawn():
    spec = spec_of(["learning_rate", "use_ema"])
    faint = []
    for n_trials in (30, 300, 1300):
        trials = trials_of(spec, n_trials)
        figure = parallel_coordinates.draw_parallel_coordinates(trials, spec).figure
        stopped, done = figure.axes[0].collections
        values = sorted((trial.value or 0.0 for trial in trials if trial.state == "finished"), reverse=True)
        opacities, widths = done.get_colors()[:, 3], done.get_linewidths()
        n_faint = max(0, len(values) - 24)
        assert len(opacities) == len(values)
        assert set(opacities[n_faint:]) == {1.0}
        assert len(set(opacities[:n_faint])) == min(1, n_faint)
        assert set(widths[n_faint:]) == {1.3}
        assert all(width < 1.3 for width in widths[:n_faint])
        heights = np.array([segment[-1][1] for segment in done.get_segments()])
        assert np.all(np.diff(heights) < 0)
        (legend,) = figure.legends
        texts = [text.get_text() for text in legend.get_texts()]
        assert f"finished ({len(values)})" + (", all but the best 24 faint" if n_faint else "") in texts
        faint.append((opacities[0], stopped.get_colors()[0, 3]))
    assert faint[0] == (1.0, 1.0)
    assert all(several > many for several, many in zip(faint[1], faint[2], strict=True))
    # Below 1/255 one line would not change its pixels.
    assert min(faint[2]) > 0.02
    assert parallel_coordinates.opacity_of_rest(24) == 1.0
    assert parallel_coordinates.opacity_of_rest(25) < 1.0
