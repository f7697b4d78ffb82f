"""Figures of predictions: predicted against simulated responses, and the distribution of the errors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.data.hdf5 import Schema, read_schema
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.base import Group
from glrnn_hpc.experiments.labels import LabelTransform
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.load_path import branches, is_one_path, reverses
from glrnn_hpc.report import plot_style
from glrnn_hpc.report.error_bands import LEAST_SEQUENCES, QUANTILES, band_around, transforms_by_label
from glrnn_hpc.report.plot_style import CaptionedFigure

Array = NDArray[Any]

_COLOURS = (plot_style.BLUE, plot_style.VERMILION, plot_style.GREEN)
_SHOWN = ("e", "p", "q")

#: Parts of a value: values that differ by less are one, and are drawn in the middle of so much to both sides.
_ROUNDING, _SHOWN_AROUND = 1e-4, 0.05

#: Number of groups in one figure, and of labels with a histogram.
_MOST_ROWS, _MOST_LABELS = 12, 24

#: Characters of a name beside an axis.
_NAME_LENGTH = 20

#: Quantiles between which a histogram shows errors: a few distant ones would squeeze all others into one bar.
_EDGES = (0.005, 0.995)


def check_figure_path(figure: Path) -> None:
    """Check that a figure can be written under this name.

    Raises
    ------
    ConfigError
        If its suffix names no format, or its folder does not exist.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    formats = FigureCanvasBase.get_supported_filetypes()
    if figure.suffix.lstrip(".").lower() not in formats:
        raise ConfigError(f"--figure {figure}: the suffix must be one of {', '.join(sorted(formats))}.")
    if not figure.parent.is_dir():
        raise ConfigError(f"--figure {figure}: there is no folder {figure.parent}.")


def plot_predictions(predictions: Path, figure: Path, metrics: dict[str, dict[str, float]]) -> None:
    """Draw predicted against simulated responses of one sequence per group into a file.

    Parameters
    ----------
    predictions : Path
        File that `predict.predict_file` wrote; the sequence with the median error of each group is shown.
    figure : Path
        File of the figure; its suffix chooses the format.
    metrics : dict
        Errors of each label on all sequences; the RMSE stands above the column of the label.
    """
    with plot_style.without_formulas(), layout.replacing(figure) as partial:
        drawing = draw_predictions(predictions, metrics)
        drawing.figure.savefig(partial, dpi=130)


def draw_predictions(predictions: Path, metrics: dict[str, dict[str, float]]) -> CaptionedFigure:
    """Draw the sequence with the median error of each group, predicted and simulated, with a band of the errors of all.

    Where the file holds intervals of the predictions, the band is the interval of the sequence that is drawn.

    Parameters
    ----------
    predictions, metrics
        As for `plot_predictions`.
    """
    schema = read_schema(predictions)
    labels = [name for name in _SHOWN if name in schema.outputs] or list(schema.outputs[:3])
    groups = schema.groups[:_MOST_ROWS]
    canvas = Figure(figsize=(3.6 * max(2, len(labels)), 2.1 * len(groups) + 1.0), layout="constrained")
    axes = canvas.subplots(len(groups), len(labels), squeeze=False, sharex=True)
    n_bands = n_own_paths = n_intervals = 0
    with h5py.File(predictions, "r") as file:
        for row, group in zip(axes, groups, strict=True):
            predicted, simulated = file[group.name]["outputs"][:], file[group.name]["simulated"][:]
            shown = _median_sequence(predicted, simulated)
            control, strain_name = _abscissa(schema.inputs)
            paths = file[group.name]["inputs"][:, :, control]
            strain = paths[shown]
            transforms = _transforms_of(predictions, group.pressure, group.experiment_type)
            # An error at a step of one path says nothing of that step on another one.
            intervals = _intervals_of(file[group.name], shown)
            n_intervals += intervals is not None
            is_banded = is_one_path(paths) and len(predicted) >= LEAST_SEQUENCES and intervals is None
            n_bands += is_banded
            n_own_paths += not is_one_path(paths)
            for axis, label, colour in zip(row, labels, _COLOURS[: len(labels)], strict=True):
                column = schema.outputs.index(label)
                centre = predicted[shown, :, column]
                bounds = None if intervals is None else intervals[:, :, column]
                transform = transforms.get(label, (None, None))
                errors = predicted[..., column], simulated[..., column]
                if is_banded and (band := band_around(centre, *errors, *transform)) is not None:
                    low, middle, high = band
                    bounds = np.stack([low, high])
                    axis.plot(strain, middle, color=colour, lw=0.9, ls=":")
                if bounds is not None:
                    for rows in branches(strain):
                        axis.fill_between(strain[rows], *bounds[:, rows], color=colour, alpha=0.22, lw=0)
                # A loop is thin, and a wide line would fill it.
                width = 1.6 if reverses(strain) else 2.4
                axis.plot(strain, simulated[shown, :, column], color="0.35", lw=width)
                axis.plot(strain, centre, color=colour, lw=1.3, ls="--")
                axis.set_ylabel(_with_unit(label, schema.units))
                _show_constant(axis)
                axis.yaxis.set_major_locator(MaxNLocator(5))
            title = f"{plot_style.shorten(group.name, 2 * _NAME_LENGTH)} ({len(predicted)} sequences)"
            row[0].set_title(title, loc="left", fontsize="small", fontweight="bold")
    for axis in axes[-1]:
        axis.set_xlabel(strain_name)
    for axis, label in zip(axes[0], labels, strict=True):
        if label in metrics:
            rmse = f"{metrics[label]['rmse']:.3g} {schema.units.get(label, '')}".rstrip()
            text = f"RMSE of {plot_style.shorten(label, _NAME_LENGTH)}, all groups: {rmse}"
            # Above the titles of the groups, which may be as long as their column is wide.
            axis.annotate(text, (1, 1), (0, 18), "axes fraction", "offset points", ha="right", fontsize="x-small")
    plot_style.legend_below(canvas, _legend(is_banded=n_bands > 0, has_intervals=n_intervals > 0))
    alt = f"Predicted and simulated {', '.join(labels)} over {strain_name} for the groups "
    alt += ", ".join(group.name for group in groups) + "; RMSE of all sequences: "
    alt += ", ".join(f"{label} {metrics[label]['rmse']:.3g}" for label in labels if label in metrics) + "."
    caption = "Of each group the sequence with the median error."
    if n_intervals:
        caption += " Band: the 90 % interval that the ensemble gives for this sequence."
    elif n_own_paths < len(groups):
        caption += (
            " Band and dotted line: this prediction with the 5 to 95 % and the median of the errors over the group's "
            f"sequences, where there are {LEAST_SEQUENCES} or more; relative errors of labels that are always positive."
        )
    if n_own_paths and not n_intervals:
        caption += (
            " The lines follow the load path of this sequence. Where each sequence has a path of its own there is no "
            "band: errors at the same step are not comparable."
        )
    if len(schema.groups) > _MOST_ROWS:
        caption += f" The first {_MOST_ROWS} of {len(schema.groups)} groups are shown."
    return CaptionedFigure(canvas, alt, caption)


def draw_errors(predictions: Path, metrics: dict[str, dict[str, float]]) -> CaptionedFigure:
    """Draw the distribution of the errors of each label over all sequences and steps, in the unit of the label.

    Parameters
    ----------
    predictions, metrics
        As for `plot_predictions`.
    """
    schema = read_schema(predictions)
    errors = _all_errors(predictions, schema)
    labels = schema.outputs[:_MOST_LABELS]
    n_columns = min(4, len(labels))
    n_rows = math.ceil(len(labels) / n_columns)
    canvas = Figure(figsize=(max(6.0, 2.6 * n_columns), 2.3 * n_rows + 0.7), layout="constrained")
    axes = canvas.subplots(n_rows, n_columns, squeeze=False, gridspec_kw={"hspace": 0.03}).ravel()
    for column, label in enumerate(labels):
        axis = axes[column]
        low, median, high = np.quantile(errors[:, column], QUANTILES)
        first, last = np.quantile(errors[:, column], _EDGES)
        if first == last:
            first, last = first - 1e-6, last + 1e-6
        axis.hist(errors[:, column], bins=np.linspace(first, last, 51), color=plot_style.SKY, density=True)
        axis.axvline(0, color="black", lw=1.0)
        axis.axvline(median, color=plot_style.VERMILION, lw=1.4, ls="--")
        axis.axvspan(low, high, color=plot_style.ORANGE, alpha=0.18, lw=0, zorder=0)
        axis.set_xlim(first, last)
        axis.set_yticks([])
        axis.xaxis.set_major_locator(MaxNLocator(3))
        axis.tick_params(axis="x", labelsize="small")
        axis.set_xlabel(f"error of {_with_unit(label, schema.units)}", fontsize="small")
        axis.set_title(f"RMSE {metrics[label]['rmse']:.3g}, R² {metrics[label]['r2']:.3f}", fontsize="small")
    for axis in axes[len(labels) :]:
        axis.set_visible(False)
    handles: list[Any] = [Patch(color=plot_style.SKY, label="density"), Line2D([], [], color="black", lw=1, label="0")]
    handles.append(Line2D([], [], color=plot_style.VERMILION, lw=1.4, ls="--", label="median"))
    handles.append(Patch(color=plot_style.ORANGE, alpha=0.18, label="5-95 %"))
    plot_style.legend_below(canvas, handles)
    alt = "Errors (predicted - simulated) over all test sequences and steps: "
    alt += (
        "; ".join(
            _error_summary(errors[:, column], _with_unit(label, schema.units)) for column, label in enumerate(labels)
        )
        + "."
    )
    caption = f"predicted - simulated at {len(errors)} steps of the test sequences; 0.5 % lie beyond either edge."
    return CaptionedFigure(canvas, alt, caption)


def _transforms_of(
    predictions: Path, pressure: str, experiment_type: str
) -> dict[str, tuple[LabelTransform | None, float | None]]:
    """Return the transforms of the labels of a group, with the parameters that its name tells."""
    group = Group(predictions, pressure, experiment_type, (), np.empty((0, 0, 0)))
    references = {}
    for parameter in TRIAXIAL.extra_parameters():
        with contextlib.suppress(DataError):  # a name that tells no pressure; a parameter of the responses
            references[parameter.name] = float(np.asarray(parameter.values(group)))
    return dict(transforms_by_label(TRIAXIAL.label_transforms(), references))


def _all_errors(predictions: Path, schema: Schema) -> Array:
    with h5py.File(predictions, "r") as file:
        groups = [file[group.name] for group in schema.groups]
        parts = [group["outputs"][:].astype("float64") - group["simulated"][:] for group in groups]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def _error_summary(errors: Array, label: str) -> str:
    low, median, high = np.quantile(errors, QUANTILES)
    return f"{label} median {median:.2g}, 5 to 95 % {low:.2g} to {high:.2g}"


def _with_unit(label: str, units: Mapping[str, str]) -> str:
    return f"{plot_style.shorten(label, _NAME_LENGTH)} [{units.get(label, '-')}]"


def _intervals_of(group: h5py.Group, shown: int) -> Array | None:
    """Return the bounds of the interval of one sequence, (2, n_steps, n_labels); None where the file has none."""
    if "lower" not in group or "upper" not in group:
        return None
    return np.stack([group["lower"][shown], group["upper"][shown]])


def _legend(is_banded: bool, has_intervals: bool = False) -> list[Any]:
    lines: list[Any] = [
        Line2D([], [], color="0.35", lw=2.4, label="simulated (DEM)"),
        Line2D([], [], color=plot_style.BLUE, lw=1.3, ls="--", label="predicted (LSTM)"),
    ]
    band: list[Any] = [
        Patch(color=plot_style.BLUE, alpha=0.22, label="5-95 % of the errors"),
        Line2D([], [], color=plot_style.BLUE, lw=0.9, ls=":", label="median of the errors"),
    ]
    if has_intervals:
        return [*lines, Patch(color=plot_style.BLUE, alpha=0.22, label="90 % interval")]
    return lines + band if is_banded else lines


def _median_sequence(predicted: Array, simulated: Array) -> int:
    scale = simulated.std(axis=(0, 1))
    errors = (((predicted - simulated) / np.where(scale > 0, scale, 1.0)) ** 2).mean(axis=(1, 2))
    return int(np.argsort(errors, kind="stable")[len(errors) // 2])


def _show_constant(axis: Axes) -> None:
    """Widen an axis whose values differ by rounding alone, such as the void ratio of an undrained test."""
    low, high = axis.get_ylim()
    middle = (low + high) / 2
    if high - low < _ROUNDING * abs(middle):
        axis.set_ylim(middle - _SHOWN_AROUND * abs(middle), middle + _SHOWN_AROUND * abs(middle))


def _abscissa(names: tuple[str, ...]) -> tuple[int, str]:
    """Return the column of the inputs that the figure is drawn over, and the text on its axis."""
    column = names.index(TRIAXIAL.control) if TRIAXIAL.control in names else len(names) - 1
    return column, TRIAXIAL.input_label(names[column])
