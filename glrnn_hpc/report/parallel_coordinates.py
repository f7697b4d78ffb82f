"""Parallel coordinates: one line per trial, through its parameters to its metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import patheffects
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from glrnn_hpc.report import plot_style
from glrnn_hpc.report.plot_style import CaptionedFigure, FigureNotApplicable
from glrnn_hpc.report.search_figures import metric_unit
from glrnn_hpc.report.trials import Trial, best_finished_trial, finished_trials
from glrnn_hpc.search.goal import sign_of
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.spec import SweepSpec

#: Labels on one axis.
_MOST_TICKS = 8

#: Parameters in one figure; each has an axis, as the metric has.
_MOST_AXES = 16

#: Best trials that are always drawn in full colour: so many lines can be told apart.
_N_CLEAR = 24

#: Exponent of the fading of the others; with 1 a thousand lines would be no darker than 24, and each one invisible.
_FADING = 0.8


@dataclass(frozen=True)
class Axis:
    """Vertical axis of a parameter or the metric.

    Attributes
    ----------
    name : str
        Name of the parameter.
    heights : dict of int to float
        Height of each trial on the axis, from 0 to 1, by the number of the trial.
    ticks : list of (float, str)
        Heights with their labels.
    """

    name: str
    heights: dict[int, float]
    ticks: list[tuple[float, str]]


def draw_parallel_coordinates(trials: Sequence[Trial], spec: SweepSpec) -> CaptionedFigure:
    """Draw the finished trials through all searched parameters, coloured by the metric; pruned ones in grey.

    The best ones are drawn last and in full colour. The more trials there are the fainter are the others, see
    `opacity_of_rest`.

    Raises
    ------
    FigureNotApplicable
        If no trial has finished, or nothing is searched.
    """
    done = finished_trials(list(trials))
    best = best_finished_trial(list(trials), spec.goal)
    if best is None:
        raise FigureNotApplicable("no trial has finished yet")
    if not spec.searched:
        raise FigureNotApplicable("the sweep searches no parameter")
    stopped = [trial for trial in trials if trial.state == "pruned" and trial.value is not None]
    shown = [*stopped, *done]
    parameters = spec.searched[:_MOST_AXES]
    axes = [parameter_axis(each, {trial.number: trial.point[each.name] for trial in shown}) for each in parameters]
    values = {trial.number: trial.value or 0.0 for trial in shown}
    is_log = plot_style.is_log_scaled(values.values())
    axes.append(_numeric_axis(spec.metric, values, is_log=is_log))
    figure = plot_style.new_figure(5.4, max(plot_style.WIDTH, 1.0 + 1.15 * len(axes)))
    canvas = figure.subplots()
    places = range(len(axes))

    def line(trial: Trial) -> list[tuple[float, float]]:
        return [(place, axis.heights[trial.number]) for place, axis in zip(places, axes, strict=True)]

    norm = _norm([trial.value or 0.0 for trial in done], is_log=is_log)
    # The best trials are dark, because yellow lines are faint on white.
    colours = mpl.colormaps["cividis" if sign_of(spec.goal) > 0 else "cividis_r"]
    worst_first = sorted(done, key=lambda trial: sign_of(spec.goal) * (trial.value or 0.0), reverse=True)
    grey = ("0.75", opacity_of_rest(len(stopped)))
    canvas.add_collection(LineCollection([line(trial) for trial in stopped], colors=[grey], linewidths=0.7, zorder=1))
    n_faint = max(0, len(done) - _N_CLEAR)
    n_clear = len(done) - n_faint
    opacities = [opacity_of_rest(len(done))] * n_faint + [1.0] * n_clear
    shades = [colours(norm(trial.value or 0.0), each) for trial, each in zip(worst_first, opacities, strict=True)]
    lines, widths = [line(trial) for trial in worst_first], [0.8] * n_faint + [1.3] * n_clear
    canvas.add_collection(LineCollection(lines, colors=shades, linewidths=widths, zorder=2))
    (bold,) = canvas.plot(*zip(*line(best), strict=True), color=plot_style.VERMILION, lw=2.4, zorder=3)
    bold.set_path_effects([patheffects.withStroke(linewidth=4, foreground="white")])
    _draw_axes(canvas, axes)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=canvas, pad=0.02, fraction=0.03)
    if is_log:
        plot_style.scale_log(bar.ax.yaxis)
    bar.set_label(f"{spec.metric} [{metric_unit(spec)}]")
    handles = [Line2D([], [], color=plot_style.VERMILION, lw=2.4, label=f"best: trial {best.number}")]
    text = f"finished ({len(done)})" + (f", all but the best {_N_CLEAR} faint" if n_faint else "")
    handles.append(Line2D([], [], color=colours(0.3), lw=1.3, label=text))
    if stopped:
        handles.append(Line2D([], [], color="0.75", lw=0.9, label=f"pruned ({len(stopped)}), by the best so far"))
    plot_style.legend_below(figure, handles)
    alt = f"{len(done)} finished trials through {', '.join(axis.name for axis in axes)}. "
    alt += (
        f"The best goes through {', '.join(f'{key} {plot_style.shorten(value)}' for key, value in best.point.items())}."
    )
    caption = "Axes are logarithmic where the distribution is; choices are evenly spaced."
    if len(spec.searched) > _MOST_AXES:
        caption += f" The first {_MOST_AXES} of {len(spec.searched)} parameters are shown."
    return CaptionedFigure(figure, alt, caption)


def opacity_of_rest(n_trials: int) -> float:
    """Return the opacity, 0 to 1, of the lines that are not among the best ones of `n_trials` trials."""
    return float((_N_CLEAR / max(n_trials, _N_CLEAR)) ** _FADING)


def parameter_axis(parameter: Parameter, values: dict[int, Any]) -> Axis:
    """Return the axis of a parameter for its values by the numbers of the trials."""
    if not parameter.values:
        return _numeric_axis(parameter.name, values, is_log=parameter.is_logarithmic)
    choices = list(parameter.values)
    heights = [(k + 0.5) / len(choices) for k in range(len(choices))]
    step = math.ceil(len(choices) / _MOST_TICKS)
    ticks = [(height, plot_style.shorten(choice)) for height, choice in zip(heights, choices, strict=True)]
    return Axis(parameter.name, {key: heights[choices.index(value)] for key, value in values.items()}, ticks[::step])


def _numeric_axis(name: str, values: dict[int, float], *, is_log: bool) -> Axis:
    low, high = min(values.values()), max(values.values())
    is_log = is_log and low > 0

    def scaled(value: float) -> float:
        return math.log10(value) if is_log else float(value)

    bottom, top = scaled(low), scaled(high)
    if bottom == top:
        return Axis(name, dict.fromkeys(values, 0.5), [(0.5, plot_style.shorten(low))])
    width = top - bottom
    is_integer = all(isinstance(value, int) for value in values.values())
    located = [value for value in _ticks(low, high, is_log=is_log) if not is_integer or value == int(value)]
    ticks = [((scaled(value) - bottom) / width, plot_style.shorten(value)) for value in located]
    return Axis(name, {key: (scaled(value) - bottom) / width for key, value in values.items()}, ticks)


def _ticks(low: float, high: float, *, is_log: bool) -> list[float]:
    """Return round numbers from `low` to `high`, or these two where fewer than two round ones lie between."""
    powers = [LogLocator(subs=subs, numticks=_MOST_TICKS) for subs in ((1,), (1, 2, 5))] if is_log else []
    for locator in [*powers, MaxNLocator(nbins=6)]:
        ticks = [float(value) for value in locator.tick_values(low, high) if low <= value <= high]
        if len(ticks) > 2:
            return ticks
    return [low, high]


def _norm(values: list[float], *, is_log: bool) -> Normalize:
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) * 0.01 or 1.0
        return Normalize(low - margin, high + margin)
    return LogNorm(low, high) if is_log else Normalize(low, high)


def _draw_axes(canvas: Any, axes: Sequence[Axis]) -> None:
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    for place, axis in enumerate(axes):
        canvas.axvline(place, color="0.2", lw=1.0, zorder=4)
        for height, text in axis.ticks:
            canvas.plot([place - 0.03, place + 0.03], [height, height], color="0.2", lw=1.0, zorder=4)
            label = canvas.text(place + 0.05, height, text, fontsize="x-small", va="center", zorder=5)
            label.set_path_effects(halo)
            label.set_in_layout(False)
    canvas.set_xticks(np.arange(len(axes)), [plot_style.wrap_name(axis.name) for axis in axes])
    canvas.tick_params(axis="x", labeltop=True, labelbottom=False, top=False, bottom=False, labelsize="small")
    canvas.set_yticks([])
    canvas.set_xlim(-0.15, len(axes) - 1 + 0.35)
    canvas.set_ylim(-0.04, 1.04)
    for side in canvas.spines.values():
        side.set_visible(False)
