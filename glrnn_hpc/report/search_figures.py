"""Figures of a search: history, learning curves, importance of the parameters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from glrnn_hpc.report import plot_style
from glrnn_hpc.report.plot_style import CaptionedFigure, FigureNotApplicable
from glrnn_hpc.report.trials import Trial, best_finished_trial, finished_trials
from glrnn_hpc.search import hyperband
from glrnn_hpc.search.early_terminate import EarlyTerminate
from glrnn_hpc.search.goal import sign_of
from glrnn_hpc.search.importance import LEAST_TRIALS, importances
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import is_raw_metric

#: Parameters with a bar.
_MOST_BARS = 24

#: Least distance of the labels of two bands, as a part of the axis.
_BETWEEN_BANDS = 0.03


def draw_history(trials: Sequence[Trial], spec: SweepSpec) -> CaptionedFigure:
    """Draw the value of each trial and the best one so far.

    Raises
    ------
    FigureNotApplicable
        If no trial has a value yet.
    """
    shown = [trial for trial in trials if trial.value is not None]
    if not shown:
        raise FigureNotApplicable(f"no trial has a {spec.metric} yet")
    figure = plot_style.new_figure(4.4)
    axis = figure.subplots()
    done = finished_trials(list(trials))
    handles = []
    if done:
        sign = sign_of(spec.goal)
        numbers = [trial.number for trial in done]
        best = [sign * value for value in accumulate((sign * (trial.value or 0.0) for trial in done), min)]
        last = max(trial.number for trial in trials)
        handles += axis.step(
            [*numbers, last], [*best, best[-1]], where="post", color="0.25", lw=1.4, label="best so far", zorder=2
        )
    for state in plot_style.STATES:
        of_state = [trial for trial in trials if trial.state == state]
        with_value = [trial for trial in of_state if trial.value is not None]
        marker = plot_style.marker_of(state)
        label = f"{state} ({len(of_state)})"
        if with_value:
            x, y = [trial.number for trial in with_value], [trial.value or 0.0 for trial in with_value]
            axis.plot(x, y, ms=6, alpha=0.9, zorder=3, **marker)
        without = [trial.number for trial in of_state if trial.value is None]
        if without:
            # They have no value, and stand on the lower edge.
            edge: dict[str, Any] = {"transform": axis.get_xaxis_transform(), "clip_on": False}
            axis.plot(without, [0.02] * len(without), ms=6, **edge, **marker)
        if of_state:
            handles.append(Line2D([], [], label=label, **marker))
    if plot_style.is_log_scaled(trial.value or 0.0 for trial in shown):
        axis.set_yscale("log")
        plot_style.scale_log(axis.yaxis)
    axis.set_xlabel("trial [number]")
    axis.set_ylabel(f"{spec.metric} [{metric_unit(spec)}]")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    plot_style.legend_below(figure, handles)
    top = best_finished_trial(list(trials), spec.goal)
    alt = f"Value of {spec.metric} of {len(shown)} trials in the order of their numbers ({_counts(trials)})"
    alt += f"; the best, {top.value:.4g}, is trial {top.number}." if top else "; none has finished yet."
    caption = (
        "A trial that has not finished shows its best value so far; a trial without any value stands on the lower edge."
    )
    return CaptionedFigure(figure, alt, caption)


def draw_learning_curves(trials: Sequence[Trial], spec: SweepSpec) -> CaptionedFigure:
    """Draw the metric after each epoch, and the epochs after which hyperband compares trials.

    Raises
    ------
    FigureNotApplicable
        If no trial has done an epoch yet.
    """
    shown = [trial for trial in trials if any(map(math.isfinite, trial.history))]
    if not shown:
        raise FigureNotApplicable("no trial has done an epoch yet")
    figure = plot_style.new_figure(4.8)
    axis = figure.subplots()
    handles: list[Any] = []
    for state, (colour, _, _) in plot_style.STATES.items():
        curves = [trial.history for trial in shown if trial.state == state]
        if not curves:
            continue
        lines = [list(zip(range(1, len(curve) + 1), curve, strict=True)) for curve in curves]
        width, dashes = (0.9, "solid") if state == "finished" else (0.8, (0, (4, 2)))
        axis.add_collection(LineCollection(lines, colors=colour, linewidths=width, linestyles=dashes, alpha=0.55))
        ends = [line[-1] for line in lines]
        axis.plot([x for x, _ in ends], [y for _, y in ends], ms=5, zorder=4, **plot_style.marker_of(state))
        handles.append(
            Line2D([], [], label=f"{state} ({len(curves)})", **{**plot_style.marker_of(state), "ls": dashes})
        )
    top = best_finished_trial(list(trials), spec.goal)
    if top is not None and top.history:
        epochs = range(1, len(top.history) + 1)
        handles += axis.plot(epochs, top.history, color="black", lw=2.0, zorder=5, label=f"best: trial {top.number}")
    values = [value for trial in shown for value in trial.history if math.isfinite(value)]
    if plot_style.is_log_scaled(values):
        axis.set_yscale("log")
        plot_style.scale_log(axis.yaxis)
    last = max(len(trial.history) for trial in shown)
    axis.set_xlim(0.5, last + 0.5)
    axis.set_xlabel("epoch [number, from 1]")
    axis.set_ylabel(f"{spec.metric} [{metric_unit(spec)}]")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25, axis="y")
    alt = f"{spec.metric} after each epoch of {len(shown)} trials ({_counts(shown)})"
    if spec.early_terminate is None:
        caption = "The sweep has no early_terminate: no trial was compared with others before its end."
    else:
        handles += _draw_bands(axis, trials, spec, spec.early_terminate, last)
        reached = [band for band in spec.early_terminate.bands() if band <= last]
        alt += f"; hyperband compares after the epochs {', '.join(map(str, reached)) or 'beyond those shown'}"
        compared = "value" if spec.early_terminate.strict else "best value so far"
        caption = (
            f"A trial whose {compared} is worse than the cutoff at a band is stopped. The cutoff comes from the values "
            "of all trials at the band; it changes as trials come in."
        )
    plot_style.legend_below(figure, handles)
    return CaptionedFigure(figure, f"{alt}.", caption)


def _draw_bands(
    axis: Any, trials: Sequence[Trial], spec: SweepSpec, early_terminate: EarlyTerminate, last: int
) -> list[Line2D]:
    """Mark the bands of hyperband and its cutoffs as they are now; number the bands above where there is room."""
    bands = [band for band in early_terminate.bands() if band <= last]
    if not bands:
        return []
    for band in bands:
        axis.axvline(band, color="0.45", lw=0.9, ls=":", zorder=1)
    named: list[int] = []
    for band in bands:
        if not named or band - named[-1] >= _BETWEEN_BANDS * last:
            named.append(band)
    above = axis.secondary_xaxis("top")
    above.set_xticks(named, [str(band) for band in named])
    above.set_xlabel("hyperband compares after epoch", fontsize="small")
    above.tick_params(labelsize="small")
    handles = [Line2D([], [], color="0.45", lw=0.9, ls=":", label="band")]
    cutoffs = hyperband.cutoffs([trial.history for trial in trials if trial.history], early_terminate, spec.goal)
    if cutoffs:
        marker = {"color": plot_style.VERMILION, "marker": "_", "ms": 14, "mew": 2.2, "ls": "none"}
        handles += axis.plot(list(cutoffs), list(cutoffs.values()), zorder=6, label="cutoff by now", **marker)
    return handles


def draw_importance(trials: Sequence[Trial], spec: SweepSpec) -> CaptionedFigure:
    """Draw the importance of each parameter for the value of a trial.

    Raises
    ------
    FigureNotApplicable
        If too few trials have finished, or fewer than two parameters are searched, or differ between the trials.
    """
    done = finished_trials(list(trials))
    if len(spec.searched) < 2:
        raise FigureNotApplicable(
            f"the sweep searches {len(spec.searched)} parameter, and two are needed to compare them"
        )
    if len(done) < LEAST_TRIALS:
        raise FigureNotApplicable(f"{len(done)} trials have finished, and fewer than {LEAST_TRIALS} would tell chance")
    points, values = [trial.point for trial in done], [trial.value or 0.0 for trial in done]
    if sum(any(point[each.name] != points[0][each.name] for point in points) for each in spec.searched) < 2:
        raise FigureNotApplicable("fewer than two parameters had more than one value")
    shares_by_name = importances(spec.searched, points, values, spec.goal)
    ranked = [(name, share) for name, share in shares_by_name.items() if share > 0][:_MOST_BARS]
    if not ranked:
        raise FigureNotApplicable("no parameter tells the good trials from the others")
    names = [plot_style.shorten(name, 40) for name, _ in ranked]
    shares = [100 * share for _, share in ranked]
    figure = plot_style.new_figure(1.2 + 0.32 * len(ranked))
    axis = figure.subplots()
    bars = axis.barh(range(len(ranked)), shares, color=plot_style.BLUE, height=0.65)
    axis.bar_label(bars, [f"{share:.0f} %" for share in shares], padding=4, fontsize="small")
    axis.set_yticks(range(len(ranked)), names)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.12 * max(shares))
    axis.set_xlabel("importance [% of all parameters]")
    axis.grid(alpha=0.3, axis="x")
    axis.set_axisbelow(True)
    alt = ", ".join(f"{name} {share:.0f} %" for name, share in zip(names, shares, strict=True))
    caption = (
        f"Optuna's PED-ANOVA on {len(done)} finished trials: how much the values of the best differ from the values "
        "of all. Stopped trials do not count; with few trials the order of similar parameters is chance."
    )
    return CaptionedFigure(figure, f"Importance of the parameters: {alt}.", caption)


def metric_unit(spec: SweepSpec) -> str:
    """Return the unit of the metric: labels are standardised unless the sweep keeps them as they are."""
    is_standardised = spec.constants.get("standardize_outputs", True)
    power = "" if spec.metric.endswith("mae") else "²"
    if spec.constants.get("label_scaling") == "physical" and not is_raw_metric(spec.metric):
        return f"std{power} of the transformed labels" if is_standardised else "of the transformed labels"
    return f"std{power} of the labels" if is_standardised else f"unit{power} of the labels"


def _counts(trials: Sequence[Trial]) -> str:
    counts = Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {state}" for state in plot_style.STATES if counts[state])
