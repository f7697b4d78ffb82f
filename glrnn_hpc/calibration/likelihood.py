"""Likelihood of an observation: how probable its distance from a response is, given the errors of both."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.surrogate.error_covariance import BlockErrors, block_means, noise_variances
from glrnn_hpc.surrogate.intervals import LabelSpace

Array = NDArray[Any]

#: Errors of rounding, in parts of the largest value: no measurement and no network in float32 is more exact.
_ROUNDING = 1e-6


class Likelihood(Protocol):
    """Normal likelihood of an observation."""

    def standardise(self, responses: Array, *, of_observation: bool = False) -> Array:
        """Return residuals that are independent and of variance 1, (n, k).

        Parameters
        ----------
        responses : ndarray, shape (n, n_labels, n_steps)
            In the units of the labels.
        of_observation : bool
            Whether only the error of the observation counts, as if the surrogate had none.
        """

    def log(self, responses: Array) -> Array:
        """Return the logarithms (n,) of the likelihood, up to a constant."""


@dataclass(frozen=True)
class IndependentLikelihood:
    """Likelihood of a surrogate of which at most one error for each label is known; labels are independent.

    Attributes
    ----------
    observed : ndarray, shape (n_labels, n_steps)
        In the units of the labels.
    scales : ndarray, shape (n_labels,)
        Divisors of the summed squared residuals, of `error_scales`.
    noise_scales : ndarray, shape (n_labels,)
        The same of a surrogate without errors.
    """

    observed: Array
    scales: Array
    noise_scales: Array

    def standardise(self, responses: Array, *, of_observation: bool = False) -> Array:
        """Return residuals of variance 1; see `Likelihood`."""
        scales = self.noise_scales if of_observation else self.scales
        return ((self.observed - responses) / np.sqrt(scales)[:, None]).reshape(len(responses), -1)

    def log(self, responses: Array) -> Array:
        """Return the logarithms of the likelihood; see `Likelihood`."""
        squares = ((responses - self.observed) ** 2).sum(axis=2)
        log: Array = -0.5 * (squares / self.scales).sum(axis=1)
        return log


class CorrelatedLikelihood:
    """Likelihood of a surrogate whose errors have a known covariance over steps and labels.

    The residuals are taken in transformed units and averaged over blocks of steps. Their covariance is that of the
    surrogate on sequences that it was not trained with, which holds the noise of such simulations, and the noise of the
    observation beyond that.

    Parameters
    ----------
    space : LabelSpace
        Transformed units of the compared labels.
    params : ndarray, shape (1, n_params)
        Parameters that the transforms refer to.
    lows : ndarray, shape (n_labels,)
        Transformed values below which a logarithm is not believed.
    first : int
        Step of the first value of the observation.
    observed : ndarray, shape (n_labels, n_steps)
        In the units of the labels.
    errors : BlockErrors
        Errors of the surrogate in these labels.
    """

    def __init__(
        self, space: LabelSpace, params: Array, lows: Array, first: int, observed: Array, errors: BlockErrors
    ) -> None:
        self._space, self._params, self._lows = space, params, lows
        self._edges = errors.edges - first
        curves = self._transform(observed[None])
        self._observed = block_means(curves, self._edges)
        noise = noise_variances(curves)[0]
        widths = np.diff(self._edges)[:, None]
        rounding = (_ROUNDING * np.maximum(np.abs(curves[0]).max(axis=0), 1.0)) ** 2
        beyond_training = np.maximum(noise - errors.noise, 0.0) / widths
        self._root = np.linalg.cholesky(errors.covariance + np.diag((rounding + beyond_training).ravel()))
        self._noise = np.sqrt((rounding + noise / widths).ravel())

    def standardise(self, responses: Array, *, of_observation: bool = False) -> Array:
        """Return residuals of variance 1; see `Likelihood`."""
        means = block_means(self._transform(responses), self._edges)
        residuals = (self._observed - means).reshape(len(responses), -1)
        if of_observation:
            return residuals / self._noise
        standardised: Array = solve_triangular(self._root, residuals.T, lower=True).T
        return standardised

    def log(self, responses: Array) -> Array:
        """Return the logarithms of the likelihood; see `Likelihood`."""
        log: Array = -0.5 * (self.standardise(responses) ** 2).sum(axis=1)
        return log

    def _transform(self, values: Array) -> Array:
        """Return curves (n, n_steps, n_labels) in transformed units of values (n, n_labels, n_steps)."""
        return self._space.forward(np.swapaxes(values, 1, 2), self._params, self._lows)


def implied_labels(
    experiment: Experiment, experiment_type: str | None, known: Collection[str], compared: Collection[str]
) -> list[str]:
    """Return the compared labels that a relation of the experiment gives from others and from what is known.

    They tell nothing of the sought parameters beyond these.

    Parameters
    ----------
    experiment : Experiment
        Declares the relations.
    experiment_type : str or None
        Type of the observation; None if it is not known.
    known : collection of str
        Load features and parameters that are known.
    compared : collection of str
        Labels that are compared.
    """
    implied: list[str] = []
    for relation in experiment.exact_relations():
        if relation.experiment_type not in (None, experiment_type) or relation.label not in compared:
            continue
        others = {name for name in compared if name not in implied and name != relation.label}
        if relation.label not in implied and {*known, *others} >= set(relation.needs):
            implied.append(relation.label)
    return implied


def reference_params(param_names: Collection[str], known: Mapping[str, float], ranges: Mapping[str, Any]) -> Array:
    """Return one set of parameters, (1, n_params), that transforms refer to; of a sought one, the middle of its range.

    A transform that moved with the samples would weight them by its derivative.
    """
    values = [float(np.mean(ranges[name])) if name in ranges else known[name] for name in param_names]
    return np.array([values])


def error_scales(residuals: Array, surrogate_errors: Array) -> Array:
    """Return the divisors of the summed squared residuals in the log likelihood, ``-sum(residuals**2) / (2 * scale)``.

    The error of the surrogate keeps its sign along the whole sequence: all steps together count as one measurement of
    it. The remaining residuals are noise: the steps of one correlation length count as one measurement.

    Parameters
    ----------
    residuals : ndarray, shape (n_labels, n_steps)
        Observation minus response of the most probable parameters.
    surrogate_errors : ndarray, shape (n_labels,)
        RMSE of the surrogate; 0 where it is not known.

    Returns
    -------
    ndarray, shape (n_labels,)
    """
    n_steps = residuals.shape[1]
    variance = (residuals**2).mean(axis=1)
    lengths = np.array([correlation_length(row) for row in residuals])
    smallest = np.finfo("float32").eps ** 2 * np.maximum(variance.max(), 1e-30)
    return np.maximum(n_steps * surrogate_errors**2 + lengths * variance, smallest)


def correlation_length(residual: Array) -> float:
    """Return the number of steps that count as one measurement: 1 for white noise, at most the number of steps.

    It is the sum of the autocorrelation up to the first lag at which it is not positive.
    """
    power = float(residual @ residual)
    if power == 0:
        return 1.0
    n = len(residual)
    correlation = np.correlate(residual, residual, "full")[n:] / power
    negative = np.flatnonzero(correlation <= 0)
    lags = correlation[: negative[0] if len(negative) else len(correlation)]
    return float(min(1 + 2 * lags.sum(), n))
