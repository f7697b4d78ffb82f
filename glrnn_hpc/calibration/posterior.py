"""How far the parameters are known: the posterior over all samples of a calibration, with the errors as they are.

GrainLearning chooses the uncertainty of the data, sigma, anew in each iteration, so that a wanted part of the samples
counts, and narrows the samples around the best. Its last ensemble is therefore as narrow as the number of iterations
makes it. The spread that is reported here does not depend on that: all samples of all iterations are weighted by a
likelihood whose errors are those that were found, and by the density that they were drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, qmc

Array = NDArray[Any]

#: From parameters (n, n_params) to the logarithms (n,) of a density.
Density = Callable[[Array], Array]

#: Effective samples that tell a spread well enough, and how often they are drawn anew at most.
_ENOUGH, _ROUNDS = 100.0, 6

#: Draws for each sample that is wanted: those beyond the ranges are left out.
_TRIES = 50

#: The narrowest that new samples are drawn, in parts of the ranges.
_NARROWEST = 1e-3

#: The interval that is reported holds this part of the posterior.
INTERVAL = 0.9


@dataclass(frozen=True)
class Posterior:
    """Samples of parameters with weights.

    Attributes
    ----------
    params : ndarray, shape (n, n_params)
        In the order of `names`.
    weights : ndarray, shape (n,)
        Their sum is 1.
    names : tuple of str
        Of the parameters.
    """

    params: Array
    weights: Array
    names: tuple[str, ...]

    @property
    def n_effective(self) -> float:
        """How many samples of equal weight would tell as much."""
        return float(1 / (self.weights**2).sum())

    def mean(self) -> dict[str, float]:
        return dict(zip(self.names, (self.weights @ self.params).tolist(), strict=True))

    def deviation(self) -> dict[str, float]:
        """Return the standard deviations."""
        return self.spread(self.weights @ self.params)

    def spread(self, around: Array) -> dict[str, float]:
        """Return the root mean square distances from some parameters (n_params,): no less than the deviations."""
        squares = self.weights @ (self.params - around) ** 2
        return dict(zip(self.names, np.sqrt(squares).tolist(), strict=True))

    def interval(self) -> dict[str, list[float]]:
        """Return of each parameter where `INTERVAL` of the posterior lies, as much left out below as above."""
        return {name: self.quantiles(column, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]) for column, name in self._each()}

    def quantiles(self, column: int, at: list[float]) -> list[float]:
        """Return weighted quantiles of one parameter."""
        order = np.argsort(self.params[:, column], kind="stable")
        centres = np.cumsum(self.weights[order]) - self.weights[order] / 2
        return np.interp(at, centres, self.params[order, column]).tolist()

    def _each(self) -> Any:
        return enumerate(self.names)


def error_scales(residuals: Array, surrogate_errors: Array) -> Array:
    """Return by what the summed squares of residuals are divided, so that half of it is minus a log likelihood.

    Parameters
    ----------
    residuals : ndarray, shape (n_labels, n_steps)
        Observation minus response of the most probable parameters.
    surrogate_errors : ndarray, shape (n_labels,)
        RMSE of the surrogate; 0 where it is not known.

    Returns
    -------
    ndarray, shape (n_labels,)
        The surrogate errs by as much along the whole sequence: its error counts as one of all steps together. What is
        left of the residuals is noise, of which the steps of one correlation length tell one thing.
    """
    n_steps = residuals.shape[1]
    variance = (residuals**2).mean(axis=1)
    lengths = np.array([correlation_length(row) for row in residuals])
    smallest = np.finfo("float32").eps ** 2 * np.maximum(variance.max(), 1e-30)
    return np.maximum(n_steps * surrogate_errors**2 + lengths * variance, smallest)


def correlation_length(residual: Array) -> float:
    """Return over how many steps a residual tells one thing: 1 for white noise, at most their number.

    The sum of the autocorrelation up to the first lag at which it is not positive.
    """
    power = float(residual @ residual)
    if power == 0:
        return 1.0
    n = len(residual)
    correlation = np.correlate(residual, residual, "full")[n:] / power
    negative = np.flatnonzero(correlation <= 0)
    lags = correlation[: negative[0] if len(negative) else len(correlation)]
    return float(min(1 + 2 * lags.sum(), n))


class Samples:
    """All sets of parameters that were answered, in parts, each with the density that it was drawn from.

    Parameters
    ----------
    ranges : mapping of str to (float, float)
        Of the parameters; within them each value is as probable as any other.

    Attributes
    ----------
    names : tuple of str
        Of the parameters.
    bounds : ndarray, shape (2, n_params)
        Their ranges.
    drawn : list of ndarray, shape (n, n_params)
        Parameters of each part.
    answered : list of ndarray, shape (n, n_observed, n_steps)
        Responses of each part.
    """

    def __init__(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        self.names = tuple(ranges)
        self.bounds = np.array(list(ranges.values())).T
        self.drawn: list[Array] = []
        self.answered: list[Array] = []
        self._densities: list[Density] = []

    def even_density(self, params: Array) -> Array:
        """Return the log density of parameters that are drawn evenly from their ranges."""
        return np.full(len(params), -np.log(np.ptp(self.bounds, axis=0)).sum())

    def add(self, drawn: Array, answered: Array, density: Density) -> None:
        """Keep a part; `density` gives the logarithm of the density that it was drawn from, at any parameters."""
        self.drawn.append(np.array(drawn, "float64"))
        self.answered.append(answered)
        self._densities.append(density)

    def posterior(self, observed: Array, scales: Array) -> Posterior:
        """Weight all samples by their likelihood.

        Parameters
        ----------
        observed : ndarray, shape (n_observed, n_steps)
            What the responses are compared with.
        scales : ndarray, shape (n_observed,)
            As `error_scales` gives them.

        References
        ----------
        Veach and Guibas 1995, doi:10.1145/218380.218498: all count as drawn from the mixture of all densities.
        """
        params = np.concatenate(self.drawn)
        squares = np.concatenate([((part - observed) ** 2).sum(axis=2) for part in self.answered])
        densities = [
            np.log(len(drawn)) + density(params) for drawn, density in zip(self.drawn, self._densities, strict=True)
        ]
        log_weights = -0.5 * (squares / scales).sum(axis=1) - logsumexp(densities, axis=0)
        weights = np.exp(log_weights - log_weights.max())
        return Posterior(params, weights / weights.sum(), self.names)

    def explore(self, answer: Callable[[Array], Array], observed: Array, scales: Array, n: int, seed: int) -> Posterior:
        """Draw more samples where the posterior is, and return it.

        `n` are drawn evenly from the ranges, then `n` at a time around the posterior that shows, twice as wide in
        variance, until enough of all samples count.

        Parameters
        ----------
        answer : callable
            From parameters (n, n_params) to responses (n, n_observed, n_steps).
        observed, scales
            As for `posterior`.
        n, seed : int
            How many, and by which sequence.

        References
        ----------
        Cornuet et al. 2012, Scandinavian Journal of Statistics 39, doi:10.1111/j.1467-9469.2011.00756.x
        """
        low, high = self.bounds
        drawn = low + (high - low) * qmc.Halton(len(low), seed=seed).random(n)
        self.add(drawn, answer(drawn), self.even_density)
        found = self.posterior(observed, scales)
        for number in range(_ROUNDS):
            if found.n_effective >= _ENOUGH:
                break
            drawn, density = self._around(found, n, seed + number)
            self.add(drawn, answer(drawn), density)
            found = self.posterior(observed, scales)
        return found

    def _around(self, found: Posterior, n: int, seed: int) -> tuple[Array, Density]:
        """Draw up to `n` samples from a normal distribution around a posterior, cut at the ranges."""
        low, high = self.bounds
        share = (found.params - low) / (high - low)
        mean = found.weights @ share
        covariance = 2 * (found.weights[:, None] * (share - mean)).T @ (share - mean)
        normal = multivariate_normal(mean, covariance + _NARROWEST**2 * np.eye(len(low)), seed=seed)
        trials = np.reshape(normal.rvs(_TRIES * n), (-1, len(low)))
        inside = trials[((trials >= 0) & (trials <= 1)).all(axis=1)]
        scale = np.log(high - low).sum() + np.log(len(inside) / len(trials))

        def density(params: Array) -> Array:
            return np.atleast_1d(normal.logpdf((params - low) / (high - low))) - scale

        return low + (high - low) * inside[:n], density
