"""Figures of a calibration: what is known of each parameter, and how the model answers with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.calibration.observation import Observation
from glrnn_hpc.calibration.posterior import INTERVAL, Posterior
from glrnn_hpc.collector.training_domain import Range

Array = NDArray[Any]

#: Okabe and Ito's colours, told apart by colour-blind readers too. https://jfly.uni-koeln.de/color/
_BLUE, _ORANGE = "#0072B2", "#D55E00"

_PARAM_UNITS = {"E": "log10 Pa", "mu": "degrees"}

_BINS = 24


def plot_posterior(posterior: Posterior, found: Mapping[str, Any], figure: Path) -> None:
    """Draw the distribution of each parameter on the diagonal and the samples of each pair below it.

    Parameters
    ----------
    posterior : Posterior
        Weighted samples.
    found : mapping
        `most_probable`, `interval` and `ranges` of the calibration.
    figure : Path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    names = posterior.names
    n = len(names)
    canvas = Figure(figsize=(1.0 + 1.9 * n, 1.2 + 1.75 * n), layout="constrained")
    grid = canvas.subplots(n, n, squeeze=False)
    views = [_view(posterior, column, found) for column in range(n)]
    sizes = 60 * posterior.weights / posterior.weights.max()
    for row in range(n):
        for column in range(n):
            axis = grid[row][column]
            if column > row:
                axis.remove()
                continue
            axis.set_xlim(*views[column])
            axis.tick_params(labelsize="x-small")
            best = found["most_probable"][names[column]]
            if column == row:
                _draw_marginal(axis, posterior, column, found, views[column])
            else:
                order = np.argsort(posterior.weights)
                axis.scatter(
                    posterior.params[order, column],
                    posterior.params[order, row],
                    s=sizes[order],
                    color=_BLUE,
                    alpha=0.5,
                    lw=0,
                )
                axis.plot(best, found["most_probable"][names[row]], "+", color=_ORANGE, ms=11, mew=2)
                axis.set_ylim(*views[row])
            if row == n - 1:
                axis.set_xlabel(_param_label(names[column]), fontsize="small")
            else:
                axis.set_xticklabels([])
            if column == 0 and row > 0:
                axis.set_ylabel(_param_label(names[row]), fontsize="small")
            elif column != row:
                axis.set_yticklabels([])
    handles, labels = grid[0][0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="upper right", fontsize="small", frameon=False)
    with layout.replacing(figure) as partial:
        canvas.savefig(partial, dpi=130)


def response_band(posterior: Posterior, responses: Array) -> Array:
    """Return between which values `INTERVAL` of the weighted responses lies, shape (2, n_observed, n_steps)."""
    order = np.argsort(responses, axis=0, kind="stable")
    ordered = np.take_along_axis(responses, order, axis=0)
    below = np.cumsum(posterior.weights[order], axis=0)
    edges = [
        (below < share).sum(axis=0).clip(max=len(responses) - 1) for share in (0.5 - INTERVAL / 2, 0.5 + INTERVAL / 2)
    ]
    return np.stack([np.take_along_axis(ordered, edge[None], axis=0)[0] for edge in edges])


def plot_response(seen: Observation, first: int, response: Array, band: Array, figure: Path) -> None:
    """Draw what was observed, the response of the most probable parameters, and the band of the posterior.

    Parameters
    ----------
    seen : Observation
        The experiment at the steps of the model.
    first : int
        The first step that the model answers.
    response : ndarray, shape (n_observed, n_steps)
        Of the most probable parameters.
    band : ndarray, shape (2, n_observed, n_steps)
        As `response_band` gives it.
    figure : Path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    n = len(seen.names)
    columns = min(n, 4)
    rows = -(-n // columns)
    canvas = Figure(figsize=(0.6 + 3.2 * columns, 0.7 + 2.5 * rows), layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False).ravel()
    strain = seen.steps
    for axis, name, measured, answered, low, high in zip(
        axes, seen.names, seen.values.T, response, *band, strict=False
    ):
        axis.fill_between(
            strain[first:], low, high, color=_ORANGE, alpha=0.25, lw=0, label=f"{INTERVAL:.0%} of the posterior"
        )
        axis.plot(strain, measured, color="0.35", lw=2.4, label="observed")
        axis.plot(strain[first:], answered, color=_ORANGE, lw=1.3, ls="--", label="most probable")
        axis.set_ylabel(f"{name} [{seen.experiment.units().get(name, '-')}]")
        axis.set_xlabel(_strain_label(seen))
    for axis in axes[n:]:
        axis.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=3, fontsize="small", frameon=False)
    with layout.replacing(figure) as partial:
        canvas.savefig(partial, dpi=130)


def _view(posterior: Posterior, column: int, found: Mapping[str, Any]) -> Range:
    """Return the part of the range where the posterior is, with room around it."""
    name = posterior.names[column]
    low, high = found["ranges"][name]
    best, spread = found["most_probable"][name], found["spread"][name]
    inside = found["interval"][name]
    return max(low, min(best, inside[0]) - 2 * spread), min(high, max(best, inside[1]) + 2 * spread)


def _draw_marginal(axis: Any, posterior: Posterior, column: int, found: Mapping[str, Any], view: Range) -> None:
    name = posterior.names[column]
    axis.hist(
        posterior.params[:, column], bins=_BINS, range=view, weights=posterior.weights, color=_BLUE,
        label="posterior",
    )  # fmt: skip
    low, high = found["interval"][name]
    axis.axvspan(low, high, color=_BLUE, alpha=0.15, lw=0, label=f"{INTERVAL:.0%} of it")
    axis.axvline(found["most_probable"][name], color=_ORANGE, lw=2, label="most probable")
    axis.set_yticks([])
    axis.set_title(f"{name} = {found['most_probable'][name]:.4g}  ({low:.4g} .. {high:.4g})", fontsize="small")


def _strain_label(seen: Observation) -> str:
    label = seen.experiment.input_label(seen.control)
    return label if label != seen.control else f"{seen.control} [-]"


def _param_label(name: str) -> str:
    return f"{name} [{_PARAM_UNITS.get(name, '-')}]"
