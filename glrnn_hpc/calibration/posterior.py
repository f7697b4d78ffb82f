"""Weighted posterior of a calibration.

GrainLearning chooses the uncertainty of the data, sigma, anew in each iteration, so that a wanted share of the samples
has weight, and narrows the samples around the best one. The width of its last ensemble therefore depends on the number
of iterations. The posterior of this module does not: all samples of all iterations are weighted by a likelihood with
the errors that were found, and by the density from which they were drawn.
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
#: Lower and upper bound.
Interval = tuple[float, float]

#: From parameters (n, n_params) to the logarithms (n,) of a probability density.
LogDensity = Callable[[Array], Array]

#: From parameters (n, n_params) to responses (n, n_labels, n_steps).
Responder = Callable[[Array], Array]

#: The posterior is known well enough with this many effective samples.
_ENOUGH_EFFECTIVE = 100.0

#: Batches that are drawn around the posterior at most.
_MOST_ADAPTED_BATCHES = 6

#: Draws for each sample of a batch: those outside of the ranges are dropped.
_DRAWS_PER_SAMPLE = 50

#: Least standard deviation of a proposal, in parts of the ranges.
_NARROWEST_PROPOSAL = 1e-3

#: Probability of the interval that is reported.
INTERVAL = 0.9


@dataclass(frozen=True)
class Posterior:
    """Samples of the parameters with weights.

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
        """Number of samples of equal weight that would estimate as precisely (Kish's effective sample size)."""
        return float(1 / (self.weights**2).sum())

    def mean(self) -> dict[str, float]:
        return dict(zip(self.names, (self.weights @ self.params).tolist(), strict=True))

    def deviation(self) -> dict[str, float]:
        """Return the standard deviations."""
        return self.rms_distance(self.weights @ self.params)

    def rms_distance(self, point: Array) -> dict[str, float]:
        """Return the root mean square distances from a point (n_params,): no less than the standard deviations."""
        squares = self.weights @ (self.params - point) ** 2
        return dict(zip(self.names, np.sqrt(squares).tolist(), strict=True))

    def interval(self) -> dict[str, Interval]:
        """Return the central interval of each parameter that has the probability `INTERVAL`."""
        tails = [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2]
        bounds = (self.quantiles(column, tails) for column in range(len(self.names)))
        return {name: (low, high) for name, (low, high) in zip(self.names, bounds, strict=True)}

    def quantiles(self, column: int, probabilities: list[float]) -> list[float]:
        """Return weighted quantiles of one parameter."""
        order = np.argsort(self.params[:, column], kind="stable")
        centres = np.cumsum(self.weights[order]) - self.weights[order] / 2
        return np.interp(probabilities, centres, self.params[order, column]).tolist()


@dataclass(frozen=True)
class SampleBatch:
    """Samples that were drawn from one density, and the responses to them.

    Attributes
    ----------
    params : ndarray, shape (n, n_params), float64
    responses : ndarray, shape (n, n_labels, n_steps)
    log_proposal : callable
        Logarithm of the density from which the samples were drawn.
    """

    params: Array
    responses: Array
    log_proposal: LogDensity


class ImportanceSamples:
    """All samples of a calibration, in batches that were drawn from different densities.

    Parameters
    ----------
    ranges : mapping of str to (float, float)
        Of the parameters. Their prior is uniform within.

    Attributes
    ----------
    names : tuple of str
        Of the parameters.
    bounds : ndarray, shape (2, n_params)
        Their ranges.
    batches : list of SampleBatch
        In the order in which they were drawn.

    References
    ----------
    Cornuet et al. 2012, Scandinavian Journal of Statistics 39, doi:10.1111/j.1467-9469.2011.00756.x
    """

    def __init__(self, ranges: Mapping[str, Interval]) -> None:
        self.names = tuple(ranges)
        self.bounds = np.array(list(ranges.values())).T
        self.batches: list[SampleBatch] = []

    def log_prior(self, params: Array) -> Array:
        """Return the logarithm of the uniform density within the ranges."""
        return np.full(len(params), -np.log(np.ptp(self.bounds, axis=0)).sum())

    def add(self, params: Array, responses: Array, log_proposal: LogDensity) -> None:
        """Add a batch; the arguments are those of `SampleBatch`."""
        self.batches.append(SampleBatch(np.array(params, "float64"), responses, log_proposal))

    def posterior(self, observed: Array, scales: Array) -> Posterior:
        """Weight all samples by their likelihood.

        Parameters
        ----------
        observed : ndarray, shape (n_labels, n_steps)
            The observation with which the responses are compared.
        scales : ndarray, shape (n_labels,)
            Of `error_scales`.

        References
        ----------
        Veach and Guibas 1995, doi:10.1145/218380.218498: each sample is weighted as if it were drawn from the mixture
        of all densities.
        """
        params = np.concatenate([batch.params for batch in self.batches])
        squares = np.concatenate([((batch.responses - observed) ** 2).sum(axis=2) for batch in self.batches])
        log_mixture = logsumexp(
            [np.log(len(batch.params)) + batch.log_proposal(params) for batch in self.batches], axis=0
        )
        log_weights = -0.5 * (squares / scales).sum(axis=1) - log_mixture
        weights = np.exp(log_weights - log_weights.max())
        return Posterior(params, weights / weights.sum(), self.names)

    def extend(self, respond: Responder, observed: Array, scales: Array, n: int, seed: int) -> Posterior:
        """Draw more samples where the posterior is, and return the posterior over all samples.

        `n` samples are drawn from the prior, then up to `n` at a time from a normal distribution around the posterior
        with twice its covariance, until the effective number of samples suffices.

        Parameters
        ----------
        respond : callable
            From parameters (n, n_params) to responses (n, n_labels, n_steps).
        observed, scales
            As for `posterior`.
        n, seed : int
            Samples of a batch, and the seed of the draws.
        """
        low, high = self.bounds
        params = low + (high - low) * qmc.Halton(len(low), seed=seed).random(n)
        self.add(params, respond(params), self.log_prior)
        posterior = self.posterior(observed, scales)
        for number in range(_MOST_ADAPTED_BATCHES):
            if posterior.n_effective >= _ENOUGH_EFFECTIVE:
                break
            params, log_proposal = self._draw_around(posterior, n, seed + number)
            self.add(params, respond(params), log_proposal)
            posterior = self.posterior(observed, scales)
        return posterior

    def _draw_around(self, posterior: Posterior, n: int, seed: int) -> tuple[Array, LogDensity]:
        """Draw up to `n` samples from a normal distribution around a posterior, truncated at the ranges."""
        low, high = self.bounds
        scaled = (posterior.params - low) / (high - low)
        mean = posterior.weights @ scaled
        covariance = 2 * (posterior.weights[:, None] * (scaled - mean)).T @ (scaled - mean)
        normal = multivariate_normal(mean, covariance + _NARROWEST_PROPOSAL**2 * np.eye(len(low)), seed=seed)
        draws = np.reshape(normal.rvs(_DRAWS_PER_SAMPLE * n), (-1, len(low)))
        inside = draws[((draws >= 0) & (draws <= 1)).all(axis=1)]
        log_volume = np.log(high - low).sum() + np.log(len(inside) / len(draws))

        def log_proposal(params: Array) -> Array:
            return np.atleast_1d(normal.logpdf((params - low) / (high - low))) - log_volume

        return low + (high - low) * inside[:n], log_proposal


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
