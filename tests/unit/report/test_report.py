"""The figures and the page of a report, drawn from what tests know by heart."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from glrnn_hpc import layout
from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.report import html, parallel_coordinates, plot_style, prediction_figures, rank_timeline, search_figures
from glrnn_hpc.report.plot_style import NothingToDraw
from glrnn_hpc.report.trials import Trial, best_trial_of
from glrnn_hpc.search.early_terminate import EarlyTerminate
from glrnn_hpc.search.importance import importances
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.cost import cost_of
from glrnn_hpc.worker import timeline

PARAMETERS = {
    "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    "pressure": {"values": ["All", ["0.2e6", "0.5e6"], ["0.2e6", "1.0e6"]]},
    "use_ema": {"values": [True, False]},
    "gradient_accumulation_steps": {"min": 1, "max": 8},
    "ema_overwrite_frequency": {"min": 1, "max": 1000},
    "a_long_name_of_a_preprocessors_key": {"distribution": "normal", "mu": 1e6, "sigma": 1e5},
    "dense_units": {"distribution": "q_log_uniform_values", "q": 8, "min": 8, "max": 512},
    "experiment_type": {"values": ["drained", "undrained", "All"]},
    "weight_decay": {"distribution": "inv_log_uniform_values", "min": 1e-8, "max": 1e-2},
    "loss_scale_factor": {"min": 0.001, "max": 0.002},
    "add_experiment_type": {"values": [True, False]},
    "many_choices": {"values": list(range(40))},
}


def spec_of(names: list[str] | None = None, goal: Any = "minimize", **other: Any) -> SweepSpec:
    chosen = PARAMETERS if names is None else {name: PARAMETERS[name] for name in names}
    parameters = tuple(Parameter.from_config(name, mapping) for name, mapping in chosen.items())
    return SweepSpec("random", "val_loss", goal, parameters, **other)


def trials_of(spec: SweepSpec, n_trials: int) -> list[Trial]:
    """Return trials whose value is their learning rate, every tenth one failed and every fourth one stopped."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(n_trials):
        point = {each.name: each.ppf(float(rng.uniform(0.01, 0.99))) for each in spec.searched}
        state = "failed" if number % 10 == 9 else "pruned" if number % 4 == 3 else "finished"
        value = None if state == "failed" else float(point["learning_rate"])
        history = () if value is None else (4 * value, 2 * value, value)[: 2 if state == "pruned" else 3]
        found.append(Trial(number, state, point, value, history))
    return found


def boxes(figure: Figure, labels: list[Any]) -> list[Any]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return [label.get_window_extent(renderer) for label in labels if label.get_text()]


def assert_apart(found: list[Any]) -> None:
    assert len(found) > 1
    assert [pair for pair in combinations(found, 2) if pair[0].overlaps(pair[1])] == []


def test_names_and_numbers_of_a_hundred_trials_through_twelve_parameters_do_not_overlap():
    spec = spec_of()
    drawing = parallel_coordinates.draw_parallel(trials_of(spec, 100), spec)
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


def test_an_axis_is_logarithmic_where_the_distribution_is_and_choices_are_evenly_spaced():
    spec = spec_of(["learning_rate", "use_ema", "gradient_accumulation_steps", "pressure"])
    rate, ema, steps, pressure = spec.searched
    assert rate.is_logarithmic
    assert not steps.is_logarithmic
    placed = parallel_coordinates.parameter_axis(rate, {0: 1e-4, 1: 1e-3, 2: 1e-2})
    assert placed.places == pytest.approx({0: 0.0, 1: 0.5, 2: 1.0})
    (height,) = [height for height, text in placed.ticks if text == "0.001"]
    assert height == pytest.approx(0.5)
    assert parallel_coordinates.parameter_axis(ema, {0: False, 1: True}).places == {0: 0.75, 1: 0.25}
    assert parallel_coordinates.parameter_axis(steps, {0: 1, 1: 2, 2: 5}).places == {0: 0.0, 1: 0.25, 2: 1.0}
    assert {text for _, text in parallel_coordinates.parameter_axis(steps, {0: 1, 1: 2}).ticks} == {"1", "2"}
    assert parallel_coordinates.parameter_axis(steps, {0: 3, 1: 3}).places == {0: 0.5, 1: 0.5}
    # Rounded to 0, which has no place on a logarithmic axis.
    assert parallel_coordinates.parameter_axis(rate, {0: 0.0, 1: 0.001, 2: 0.004}).places == {0: 0.0, 1: 0.25, 2: 1.0}
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
    canvas = parallel_coordinates.draw_parallel(trials, spec).figure.axes[0]
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
        figure = parallel_coordinates.draw_parallel(trials, spec).figure
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


def test_of_equal_trials_the_first_is_the_best():
    equal = [Trial(number, "finished", {}, 1.0, ()) for number in (2, 1, 3)]
    for goal in ("minimize", "maximize"):
        best = best_trial_of(equal, goal)
        assert best is not None
        assert best.number == 1
    assert best_trial_of([Trial(0, "pruned", {}, 0.0, ())], "minimize") is None


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
    with pytest.raises(NothingToDraw, match="0 trials have finished, and fewer than 10 would tell chance"):
        search_figures.draw_importance([], spec)
    with pytest.raises(NothingToDraw, match="searches no parameter"):
        parallel_coordinates.draw_parallel(trials_of(spec, 3), spec_of([]))
    for draw in (search_figures.draw_history, search_figures.draw_learning_curves, parallel_coordinates.draw_parallel):
        with pytest.raises(NothingToDraw, match="no trial has"):
            draw([Trial(0, "failed", {}, None, (float("nan"),))], spec)


def test_equal_values_and_more_parameters_than_fit_are_drawn_too():
    names = [f"key_{number}" for number in range(20)]
    parameters = tuple(Parameter.from_config(name, {"min": 0.0, "max": 1.0}) for name in names)
    spec = SweepSpec("random", "mae", "minimize", parameters)
    trials = [Trial(number, "finished", dict.fromkeys(names, 0.5), 0.0, (0.0,)) for number in range(12)]
    assert "The first 16 of 20 parameters are shown." in parallel_coordinates.draw_parallel(trials, spec).caption
    canvas = parallel_coordinates.draw_parallel(trials, spec).figure.axes[0]
    assert {height for line in canvas.collections[1].get_segments() for _, height in line} == {0.5}
    # Where no parameter makes a difference, none is more important.
    assert "key_7 5 %" in search_figures.draw_importance(trials, spec).alt


def written(folder: layout.SweepFolder, job: str, lines: list[dict[str, Any]], rest: str = "") -> None:
    worker = folder.worker(job)
    worker.root.mkdir(parents=True)
    worker.utilisation.write_text("".join(json.dumps(line) + "\n" for line in lines) + rest)


def test_the_timeline_shows_what_each_rank_did_when(tmp_path: Path):
    folder = layout.SweepFolder(tmp_path)
    spans = [["gap", 20.0], ["fit", 60.0], ["idle", 20.0]]
    new = {"rank": 1, "ended": 1100.0, "seconds": {"gap": 20.0, "fit": 60.0, "idle": 20.0}, "spans": spans}
    # Of a version that wrote no spans, and began later.
    old = {"rank": 0, "ended": 1100.0, "seconds": {"import": 10.0, "evaluate": 40.0}}
    written(folder, "b", [old], rest='{"rank": 0, "ended"')
    written(folder, "a", [new])
    rows = rank_timeline.read_spans(folder)
    kinds = list(rank_timeline.KINDS)
    assert list(rows) == ["a:1", "b:0"]
    assert [(kinds[place], begin, end) for place, begin, end in rows["a:1"]] == [
        ("gap", 1000.0, 1020.0),
        ("fit", 1020.0, 1080.0),
        ("idle", 1080.0, 1100.0),
    ]
    assert [(kinds[place], begin, end) for place, begin, end in rows["b:0"]] == [
        ("import", 1050.0, 1060.0),
        ("evaluate", 1060.0, 1100.0),
    ]
    drawing = rank_timeline.draw_ranks(folder)
    (shown,) = drawing.figure.axes[0].images
    seen = [[[*kinds, ""][int(place)] for place in row[:: row.size // 10]][:10] for row in shown.get_array()]
    assert seen[0] == ["gap"] * 2 + ["fit"] * 6 + ["idle"] * 2
    assert seen[1] == [""] * 5 + ["import"] + ["evaluate"] * 4
    assert drawing.figure.axes[0].get_xlabel() == "time since the first rank began [s]"
    assert "2 ranks" in drawing.alt
    assert "fit 40.0 %" in drawing.alt


def test_a_moment_shows_what_fills_most_of_it(tmp_path: Path):
    folder = layout.SweepFolder(tmp_path)
    # Of 1200 moments of 10 s each a fit takes 2 s, and then it is idle.
    spans = [["fit", 2.0], ["idle", 8.0]] * 1200
    first = {"rank": 0, "ended": 12000.0, "seconds": {"fit": 2400.0, "idle": 9600.0}, "spans": spans}
    written(folder, "a", [{**first, "rank": 1, "spans": [["fit", 12000.0]]}, first])
    assert list(rank_timeline.read_spans(folder)) == ["a:0", "a:1"]
    axis = rank_timeline.draw_ranks(folder).figure.axes[0]
    (shown,) = axis.images
    seen = [{list(rank_timeline.KINDS)[int(place)] for place in np.unique(row)} for row in shown.get_array()]
    assert seen == [{"idle"}, {"fit"}]
    # The first rank on top, the hours from the left.
    assert shown.get_extent() == pytest.approx([0, 12000 / 3600, 1.5, -0.5])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a:0", "a:1"]


def test_all_that_a_rank_can_do_has_a_colour_of_its_own():
    assert set(rank_timeline.KINDS) == set(timeline.KINDS)
    assert len(set(rank_timeline.KINDS.values())) == len(rank_timeline.KINDS)


def test_a_timeline_of_many_ranks_stays_a_page(tmp_path: Path):
    folder = layout.SweepFolder(tmp_path)
    lines = [{"rank": rank, "ended": 9e4 + rank, "seconds": {"fit": 8e4}} for rank in range(300)]
    written(folder, "job", lines)
    figure = rank_timeline.draw_ranks(folder).figure
    assert figure.get_figheight() < 10
    assert figure.axes[0].get_ylabel() == "300 ranks"
    assert figure.axes[0].get_xlabel() == "time since the first rank began [h]"
    with pytest.raises(NothingToDraw, match="no rank has written"):
        rank_timeline.draw_ranks(layout.SweepFolder(tmp_path / "nothing"))


def predictions(path: Path, n_groups: int = 1, n_samples: int = 21, label: str = "p") -> Path:
    """Write predictions that are 2 everywhere; simulation k is k, so that its error is k - 2; twice k in `own`."""
    inputs = np.linspace(0, 1, 5)[None, :, None].repeat(n_samples, axis=0)
    simulated = np.arange(float(n_samples))[:, None, None].repeat(5, axis=1).repeat(2, axis=2)
    simulated[:, :, 1] *= 2
    names = [f"{number}.0e6/drained" for number in range(n_groups)]
    arrays = (np.zeros((n_samples, 1)), inputs, np.full_like(simulated, 2.0))
    extra = {name: {"simulated": simulated, "samples": np.arange(n_samples)} for name in names}
    groups = dict.fromkeys(names, arrays)
    write_file(path, groups, contact_params=["E"], inputs=["load"], outputs=[label, "own"], extra=extra)
    return path


METRICS = {name: {"mae": 1.0, "rmse": 1.5, "r2": 0.5} for name in ("p", "own")}


def test_the_band_around_a_prediction_is_that_of_the_errors(tmp_path: Path):
    simulated = np.arange(21.0)[:, None, None].repeat(5, axis=1)
    band = prediction_figures.error_band(np.full_like(simulated, 2.0), simulated)
    assert band is not None
    np.testing.assert_allclose(band[:, :, 0], np.array([1.0, 10.0, 19.0])[:, None].repeat(5, axis=1) - 2)
    assert prediction_figures.error_band(simulated[:2], simulated[:2]) is None
    drawing = prediction_figures.draw_predictions(predictions(tmp_path / "p.hdf5"), METRICS)
    axis = drawing.figure.axes[0]
    (band_drawn,) = axis.collections
    heights = band_drawn.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((1.0, 19.0))
    assert axis.get_ylabel() == "p [MPa]"
    assert len(drawing.figure.axes) == 1  # of e, p and q those that there are
    assert axis.get_xlabel() == "load"
    assert "p 1.5" in drawing.alt


def test_of_a_group_the_sequence_with_the_median_error_is_shown_over_its_axial_strain(tmp_path: Path):
    # One standard deviation of each label is 0.1, 100 and nothing; errors in these units, their mean squares are
    # 1600, 9, 1, 12.25 and 8.09 thirds: the second is the median. Neither absolute errors, nor those in original units,
    # nor in units of what was predicted have the same one, nor have those of a single step.
    scale = np.array([0.1, 100.0, 1.0])
    errors = scale * [[0.0, 40.0, 0.0], [3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.5, 0.0], [0.5, 2.8, 0.0]]
    at_steps = np.array([[0, 2, 0, 0], [1, 1, 1, 1], [0, 0, 2, 0], [0, 0, 0, 2], [2, 0, 0, 0]])
    steps = np.array([[-1.0, -1.0, 5.0], [1.0, 1.0, 5.0], [-1.0, -1.0, 5.0], [1.0, 1.0, 5.0]])
    simulated = np.broadcast_to(scale * steps, (5, 4, 3))
    predicted = simulated + errors[:, None, :] * at_steps[:, :, None]
    # An input is 100 sequences + 10 columns + steps.
    inputs = np.add.outer(np.add.outer(100 * np.arange(5), np.arange(4)), 10 * np.arange(3)).astype("float64")
    extra = {"0.2e6/drained": {"simulated": simulated, "samples": np.arange(5)}}
    for names, column, title in (
        (["e_x", "e_z", "e_y"], 1, "axial strain e_z [-]"),
        (["stress", "time", "angle"], 2, "angle"),
    ):
        groups = {"0.2e6/drained": (np.zeros((5, 1)), inputs, predicted)}
        file = tmp_path / f"{title}.hdf5"
        write_file(file, groups, contact_params=["E"], inputs=names, outputs=["e", "p", "q"], extra=extra)
        drawing = prediction_figures.draw_predictions(file, {})
        assert drawing.figure.axes[0].get_title(loc="left") == "0.2e6/drained (5 sequences)"
        for label, axis in enumerate(drawing.figure.axes):
            _, as_simulated, as_predicted = axis.get_lines()
            np.testing.assert_allclose(as_simulated.get_ydata(), simulated[1, :, label], rtol=1e-6)
            np.testing.assert_allclose(as_predicted.get_ydata(), predicted[1, :, label], rtol=1e-6)
            for line in axis.get_lines():
                assert list(line.get_xdata()) == [100 + 10 * column + step for step in range(4)]
            assert axis.get_xlabel() == title


def test_groups_without_enough_sequences_have_no_band_and_a_page_no_more_than_twelve(tmp_path: Path):
    drawing = prediction_figures.draw_predictions(predictions(tmp_path / "p.hdf5", 14, 2), METRICS)
    assert len(drawing.figure.axes) == 12
    assert not any(axis.collections for axis in drawing.figure.axes)
    assert "The first 12 of 14 groups are shown." in drawing.caption


def test_errors_are_shown_per_label_in_its_unit(tmp_path: Path):
    drawing = prediction_figures.draw_errors(predictions(tmp_path / "p.hdf5"), METRICS)
    labels = [axis.get_xlabel() for axis in drawing.figure.axes if axis.get_visible()]
    assert labels == ["error of p [MPa]", "error of own [-]"]
    # predicted - simulated is 2, 1 … -18.
    assert "p [MPa] median -8, 5 to 95 % -17 to 1" in drawing.alt
    assert "105 steps" in drawing.caption
    first, second, *_ = drawing.figure.axes
    zero, median = first.get_lines()
    assert (set(zero.get_xdata()), set(median.get_xdata())) == ({0}, {-8})
    *bars, span = first.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((-17, 1))
    assert (len(bars), sum(bar.get_height() > 0 for bar in bars)) == (50, 21)
    assert sum(bar.get_height() * bar.get_width() for bar in bars) == pytest.approx(1)
    assert first.get_title() == "RMSE 1.5, R² 0.500"
    # 2, 0 … -38.
    *bars, span = second.patches
    assert second.get_xlim() == pytest.approx((-38, 2))
    assert bars[0].get_height() == bars[-1].get_height() > 0
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((-36, 0))
    assert prediction_figures.draw_errors(predictions(tmp_path / "q.hdf5", n_samples=1), METRICS).alt


def test_a_label_may_be_called_as_no_formula_may_and_be_long(tmp_path: Path):
    label = r"$\frac{a$" + 300 * "x"
    file = predictions(tmp_path / "p.hdf5", label=label)
    metrics = {label: METRICS["p"], "own": METRICS["own"]}
    prediction_figures.plot_predictions(file, tmp_path / "p.png", metrics)
    assert (tmp_path / "p.png").stat().st_size > 0
    with plot_style.plain_texts():
        drawing = prediction_figures.draw_errors(file, metrics)
        texts = [axis.xaxis.label for axis in drawing.figure.axes if axis.get_visible()]
        assert_apart(boxes(drawing.figure, texts))
    assert texts[0].get_text() == "error of $\\frac{a$xxxxxxxxxx… [-]"


def test_values_are_shortened_and_names_broken_where_they_are_long():
    assert [plot_style.short(value) for value in (True, 3, -0.0, 0.123456, "a" * 20, ["x", 1], None)] == [
        "True",
        "3",
        "0",
        "0.1235",
        "a" * 13 + "…",
        "x+1",
        "None",
    ]
    assert plot_style.wrapped("gradient_accumulation_steps") == "gradient_\naccumulation_\nsteps"
    assert plot_style.wrapped("learning_rate") == "learning_rate"
    assert not plot_style.is_log_scaled([])
    assert not plot_style.is_log_scaled([0.0, 100.0])
    assert plot_style.is_log_scaled([1.0, 100.0])


def test_the_cost_of_a_sweep_counts_the_ranks_of_each_trial(tmp_path: Path):
    names = {"learning_rate": PARAMETERS["learning_rate"], "ranks_per_trial": {"value": 2}}
    content = {"method": "random", "parameters": {"raw_data": {"value": "a.hdf5"}, **names}}
    study = SweepStudy(creation.create(tmp_path / "sweep", load_sweep(content), 4, LaunchPlan()))
    created = study.change_state(lambda state: replace(state, created=1000.0)).created
    rows = [("pruned", 10, 1000.0, 1800.0), ("finished", 20, 1500.0, 3600.0), ("pruned", 2, 3000.0, 900.0)]
    table = [
        {"number": number, "state": state, "epochs": epochs, "started": started, "seconds": seconds}
        for number, (state, epochs, started, seconds) in enumerate([*rows, ("pruned", 2, 2000.0, 900.0)])
    ]
    table.append({"number": 4, "state": "waiting", "epochs": 0, "started": None, "seconds": None})
    told = cost_of(study, {"state": "finished", "table": table, "seconds": {"fit": 14400.0, "idle": 3600.0}})
    # Two ranks in each of two hours; the last result is that of the second trial, which ended at 5100 s.
    assert (told["rank_hours"], told["allocated_rank_hours"], told["wall_seconds"]) == (4.0, 5.0, 5100.0 - created)
    assert list(told["prunings"].items()) == [("2", 2), ("10", 1)]


def test_what_users_wrote_is_no_html():
    text = html.page("<b>", html.facts({"a": "<i>"}), [html.Section("one", "A & B", html.note("<p>"))], "<")
    for wrong in ("<b>", "<i>", "A & B", "<p><p>"):
        assert wrong not in text
    assert "default-src 'none'" in text
    table = html.table("t", ["x", "y"], [["<u>", "<u>"], ["1", "2"]], texts=[1], best=1)
    assert '<tr><th scope="row">&lt;u&gt;</th><td class="text">&lt;u&gt;</td></tr>' in table
    assert '<tr class="best"><th scope="row">1</th><td class="text">2</td></tr>' in table
    assert "<td>2</td>" in html.table("t", ["x", "y"], [["1", "2"]])
    image = html.picture(b"\x89PNG", "history", '"><u>', "<u>", 700.4)
    assert 'alt="&quot;&gt;&lt;u&gt;" style="min-width:700px"' in image
    assert "base64,iVBORw==" in image
    assert "<u>" not in image
    assert html.left_out("<s>", is_fault=True) == '<p class="left-out fault">Left out: &lt;s&gt;</p>'


def test_provenance_is_flattened_to_rows_that_can_be_read():
    content = {
        "trial": 3,
        "git": None,
        "refused": [],
        "groups": ["a", "b"],
        "point": {"lr": 0.001},
        "errors": {"val": {"p": {"mae": 0.1, "r2": None}}, "n": 2},
        "labels": [{"name": "p", "unit": "MPa"}, {"n": 12345678}],
    }
    assert html.flattened(content) == [
        ("trial", "3"),
        ("git", "-"),
        ("refused", "none"),
        ("groups", "a, b"),
        ("point.lr", "0.001"),
        ("errors.val.p", "mae 0.1, r2 -"),
        ("errors.n", "2"),
        ("labels.p", "unit MPa"),
        ("labels.1", "n 12345678"),
    ]
