"""Figures of a sweep and of its best model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from glrnn_hpc import layout
from glrnn_hpc.data.hdf5 import read_schema
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.predict import LABEL_UNITS

#: Okabe and Ito's colours, told apart by colour-blind readers too. https://jfly.uni-koeln.de/color/
_COLOURS = ("#0072B2", "#D55E00", "#009E73")
_SHOWN = ("e", "p", "q")


def check_figure(figure: Path) -> None:
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
    """Draw predicted against simulated responses of one sequence per group.

    Parameters
    ----------
    predictions : Path
        File that `predict.predict_file` wrote; of each group the sequence with the median error is shown.
    figure : Path
        Where the figure goes; its suffix chooses the format.
    metrics : dict
        Of each label, its errors on all sequences; the RMSE stands in the title of its column.
    """
    from matplotlib.figure import Figure

    schema = read_schema(predictions)
    labels = [name for name in _SHOWN if name in schema.outputs] or list(schema.outputs[:3])
    n_rows = len(schema.groups)
    canvas = Figure(figsize=(3.6 * len(labels), 2.1 * n_rows + 0.6), layout="constrained")
    axes = canvas.subplots(n_rows, len(labels), squeeze=False, sharex=True)
    with h5py.File(predictions, "r") as file:
        for row, group in zip(axes, schema.groups, strict=True):
            predicted, simulated = file[group.name]["outputs"][:], file[group.name]["simulated"][:]
            shown = _median_sequence(predicted, simulated)
            strain, strain_name = _abscissa(file[group.name]["inputs"][shown], schema.inputs)
            for axis, label, colour in zip(row, labels, _COLOURS[: len(labels)], strict=True):
                column = schema.outputs.index(label)
                axis.plot(strain, simulated[shown, :, column], color="0.35", lw=2.4, label="simulated (DEM)")
                axis.plot(strain, predicted[shown, :, column], color=colour, lw=1.2, ls="--", label="predicted (LSTM)")
                axis.set_ylabel(f"{label} [{LABEL_UNITS.get(label, '-')}]")
            row[0].set_title(group.name, loc="left", fontsize="small", fontweight="bold")
            row[0].legend(fontsize="x-small", frameon=False)
            for axis in axes[-1]:
                axis.set_xlabel(strain_name)
    for axis, label in zip(axes[0], labels, strict=True):
        if label in metrics:
            axis.set_title(f"RMSE of all: {metrics[label]['rmse']:.3g}", loc="right", fontsize="x-small")
    with layout.replacing(figure) as partial:
        canvas.savefig(partial, dpi=130)


def _median_sequence(predicted: np.ndarray[Any, Any], simulated: np.ndarray[Any, Any]) -> int:
    scale = simulated.std(axis=(0, 1))
    errors = (((predicted - simulated) / np.where(scale > 0, scale, 1.0)) ** 2).mean(axis=(1, 2))
    return int(np.argsort(errors, kind="stable")[len(errors) // 2])


def _abscissa(inputs: np.ndarray[Any, Any], names: tuple[str, ...]) -> tuple[np.ndarray[Any, Any], str]:
    column = names.index("e_z") if "e_z" in names else len(names) - 1
    name = "axial strain e_z [-]" if names[column] == "e_z" else names[column]
    return inputs[:, column], name
