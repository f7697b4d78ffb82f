"""Figures of a calibration: the posterior of the parameters, and the response beside the observation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.calibration.observation import Observation
from glrnn_hpc.calibration.posterior import INTERVAL, Interval, Posterior
from glrnn_hpc.calibration.result import ParameterEstimate
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.load_path import branches

Array = NDArray[Any]

#: Okabe and Ito's colours, which colour-blind readers can distinguish. https://jfly.uni-koeln.de/color/
_BLUE, _ORANGE = "#0072B2", "#D55E00"

_BINS = 24


def plot_posterior(
    posterior: Posterior, estimates: Mapping[str, ParameterEstimate], units: Mapping[str, str], figure: Path
) -> None:
    """Draw the distribution of each parameter on the diagonal and the samples of each pair below it.

    Parameters
    ----------
    posterior : Posterior
        Weighted samples.
    estimates : mapping of str to ParameterEstimate
        Of all parameters.
    units : mapping of str to str
        Of the parameters that have one.
    figure : Path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    names = posterior.names
    n = len(names)
    axis_labels = [f"{name} [{units.get(name, '-')}]" for name in names]
    canvas = Figure(figsize=(1.0 + 1.9 * n, 1.2 + 1.75 * n), layout="constrained")
    grid = canvas.subplots(n, n, squeeze=False)
    views = [_view(estimates[name]) for name in names]
    sizes = 60 * posterior.weights / posterior.weights.max()
    for row in range(n):
        for column in range(n):
            axis = grid[row][column]
            if column > row:
                axis.remove()
                continue
            axis.set_xlim(*views[column])
            axis.tick_params(labelsize="x-small")
            best = estimates[names[column]].most_probable
            if column == row:
                _draw_marginal(axis, posterior, column, estimates[names[column]], views[column])
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
                axis.plot(best, estimates[names[row]].most_probable, "+", color=_ORANGE, ms=11, mew=2)
                axis.set_ylim(*views[row])
            if row == n - 1:
                axis.set_xlabel(axis_labels[column], fontsize="small")
            else:
                axis.set_xticklabels([])
            if column == 0 and row > 0:
                axis.set_ylabel(axis_labels[row], fontsize="small")
            elif column != row:
                axis.set_yticklabels([])
    handles, labels = grid[0][0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="upper right", fontsize="small", frameon=False)
    with layout.replacing(figure) as partial:
        canvas.savefig(partial, dpi=130)


def response_band(posterior: Posterior, responses: Array) -> Array:
    """Return the bounds of the central interval of the responses with probability `INTERVAL`.

    Parameters
    ----------
    posterior : Posterior
        Weights of the samples.
    responses : ndarray, shape (n, n_labels, n_steps)
        To these samples.

    Returns
    -------
    ndarray, shape (2, n_labels, n_steps)
    """
    order = np.argsort(responses, axis=0, kind="stable")
    ordered = np.take_along_axis(responses, order, axis=0)
    below = np.cumsum(posterior.weights[order], axis=0)
    edges = [
        (below < share).sum(axis=0).clip(max=len(responses) - 1) for share in (0.5 - INTERVAL / 2, 0.5 + INTERVAL / 2)
    ]
    return np.stack([np.take_along_axis(ordered, edge[None], axis=0)[0] for edge in edges])


def plot_response(
    observation: Observation, experiment: Experiment, first: int, response: Array, band: Array, figure: Path
) -> None:
    """Draw the observation, the response of the most probable parameters, and the band of the posterior.

    Where the load reverses, lines and band follow its path, branch by branch.

    Parameters
    ----------
    observation : Observation
        At the steps of the model.
    experiment : Experiment
        Of the model, for units and axis labels.
    first : int
        The first step that the model predicts.
    response : ndarray, shape (n_labels, n_steps)
        Of the most probable parameters.
    band : ndarray, shape (2, n_labels, n_steps)
        As `response_band` gives it.
    figure : Path
        PNG file to write.
    """
    from matplotlib.figure import Figure

    n = len(observation.labels)
    columns = min(n, 4)
    rows = -(-n // columns)
    canvas = Figure(figsize=(0.6 + 3.2 * columns, 0.7 + 2.5 * rows), layout="constrained")
    axes = canvas.subplots(rows, columns, squeeze=False).ravel()
    strain, control = observation.steps, observation.control
    strain_label = experiment.input_label(control)
    for axis, name, measured, predicted, low, high in zip(
        axes, observation.labels, observation.values.T, response, *band, strict=False
    ):
        for branch, part in enumerate(branches(strain[first:])):
            axis.fill_between(
                strain[first:][part],
                low[part],
                high[part],
                color=_ORANGE,
                alpha=0.25,
                lw=0,
                label=None if branch else f"{INTERVAL:.0%} of the posterior",
            )
        axis.plot(strain, measured, color="0.35", lw=2.4, label="observed")
        axis.plot(strain[first:], predicted, color=_ORANGE, lw=1.3, ls="--", label="most probable")
        axis.set_ylabel(f"{name} [{experiment.units().get(name, '-')}]")
        axis.set_xlabel(strain_label if strain_label != control else f"{control} [-]")
    for axis in axes[n:]:
        axis.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=3, fontsize="small", frameon=False)
    with layout.replacing(figure) as partial:
        canvas.savefig(partial, dpi=130)


def _view(estimate: ParameterEstimate) -> Interval:
    """Return the limits of an axis: the part of the search range where the posterior is, with a margin."""
    best, margin = estimate.most_probable, 2 * estimate.spread
    low, high = estimate.search_range
    return (
        max(low, min(best, estimate.interval[0]) - margin),
        min(high, max(best, estimate.interval[1]) + margin),
    )


def _draw_marginal(axis: Any, posterior: Posterior, column: int, estimate: ParameterEstimate, view: Interval) -> None:
    axis.hist(
        posterior.params[:, column], bins=_BINS, range=view, weights=posterior.weights, color=_BLUE,
        label="posterior",
    )  # fmt: skip
    low, high = estimate.interval
    axis.axvspan(low, high, color=_BLUE, alpha=0.15, lw=0, label=f"{INTERVAL:.0%} of it")
    axis.axvline(estimate.most_probable, color=_ORANGE, lw=2, label="most probable")
    axis.set_yticks([])
    name = posterior.names[column]
    axis.set_title(f"{name} = {estimate.most_probable:.4g}  ({low:.4g} .. {high:.4g})", fontsize="small")
