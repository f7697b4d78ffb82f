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
from scipy.stats import multivariate_t, qmc

Array = NDArray[Any]
#: Lower and upper bound.
Interval = tuple[float, float]

#: From parameters (n, n_params) to the logarithms (n,) of a probability density.
LogDensity = Callable[[Array], Array]

#: From parameters (n, n_params) to responses (n, n_labels, n_steps).
Responder = Callable[[Array], Array]

#: From responses (n, n_labels, n_steps) to the logarithms (n,) of the likelihood, up to a constant.
LogLikelihood = Callable[[Array], Array]

#: The posterior, with the ends of its intervals, is known well enough with this many effective samples.
_ENOUGH_EFFECTIVE = 300.0

#: Batches that are drawn around the posterior at most.
_MOST_ADAPTED_BATCHES = 8

#: Effective samples for each parameter that tell where to draw the next batch: a covariance of fewer is flat.
_EFFECTIVE_PER_PARAMETER = 5.0

#: Degrees of freedom of the distribution that new samples are drawn from: its tails reach beyond the posterior's.
_DEGREES_OF_FREEDOM = 5

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
        """Effective number of samples; see `effective`."""
        return effective(self.weights)

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

    def posterior(self, log_likelihood: LogLikelihood) -> Posterior:
        """Weight all samples by their likelihood.

        Parameters
        ----------
        log_likelihood : callable
            From responses (n, n_labels, n_steps) to logarithms (n,), such as `likelihood.Likelihood.log`.

        References
        ----------
        Veach and Guibas 1995, doi:10.1145/218380.218498: each sample is weighted as if it were drawn from the mixture
        of all densities.
        """
        params = np.concatenate([batch.params for batch in self.batches])
        log_likelihoods = np.concatenate([log_likelihood(batch.responses) for batch in self.batches])
        log_mixture = logsumexp(
            [np.log(len(batch.params)) + batch.log_proposal(params) for batch in self.batches], axis=0
        )
        log_weights = log_likelihoods - log_mixture
        weights = np.exp(log_weights - log_weights.max())
        return Posterior(params, weights / weights.sum(), self.names)

    def extend(self, respond: Responder, log_likelihood: LogLikelihood, n: int, seed: int) -> Posterior:
        """Draw more samples where the posterior is, and return the posterior over all samples.

        `n` samples are drawn from the prior, then up to `n` at a time from a Student distribution around the posterior,
        until the effective number of samples suffices. While few samples have weight, that is around a tempered
        posterior, whose likelihood is a power below 1: the batches approach a narrow posterior step by step.

        Parameters
        ----------
        respond : callable
            From parameters (n, n_params) to responses (n, n_labels, n_steps).
        log_likelihood
            As for `posterior`.
        n, seed : int
            Samples of a batch, and the seed of the draws.
        """
        low, high = self.bounds
        params = low + (high - low) * qmc.Halton(len(low), seed=seed).random(n)
        self.add(params, respond(params), self.log_prior)
        posterior = self.posterior(log_likelihood)
        for number in range(_MOST_ADAPTED_BATCHES):
            if posterior.n_effective >= _ENOUGH_EFFECTIVE:
                break
            params, log_proposal = self._draw_around(posterior, n, seed + number)
            self.add(params, respond(params), log_proposal)
            posterior = self.posterior(log_likelihood)
        return posterior

    def _draw_around(self, posterior: Posterior, n: int, seed: int) -> tuple[Array, LogDensity]:
        """Draw up to `n` samples from a Student distribution around a posterior, truncated at the ranges."""
        low, high = self.bounds
        scaled = (posterior.params - low) / (high - low)
        weights = tempered(posterior.weights, _EFFECTIVE_PER_PARAMETER * len(low))
        mean = weights @ scaled
        covariance = (weights[:, None] * (scaled - mean)).T @ (scaled - mean)
        shape = covariance + _NARROWEST_PROPOSAL**2 * np.eye(len(low))
        student = multivariate_t(mean, shape, df=_DEGREES_OF_FREEDOM, seed=seed)
        draws = np.reshape(student.rvs(_DRAWS_PER_SAMPLE * n), (-1, len(low)))
        inside = draws[((draws >= 0) & (draws <= 1)).all(axis=1)]
        log_volume = np.log(high - low).sum() + np.log(len(inside) / len(draws))

        def log_proposal(params: Array) -> Array:
            return np.atleast_1d(student.logpdf((params - low) / (high - low))) - log_volume

        return low + (high - low) * inside[:n], log_proposal


def tempered(weights: Array, n_effective: float) -> Array:
    """Return normalised powers of weights (n,), of the largest exponent up to 1 with that many effective samples."""
    logs = np.log(np.maximum(weights, np.finfo("float64").tiny))
    logs -= logs.max()
    lowest, highest = 0.0, 1.0
    if effective(weights) < n_effective:
        for _ in range(30):
            exponent = (lowest + highest) / 2
            is_enough = effective(np.exp(exponent * logs)) >= n_effective
            lowest, highest = (exponent, highest) if is_enough else (lowest, exponent)
        highest = lowest
    powers = np.exp(highest * logs)
    return powers / powers.sum()


def effective(weights: Array) -> float:
    """Return the number of samples of equal weight that would estimate as precisely (Kish's effective sample size)."""
    return float(weights.sum() ** 2 / (weights**2).sum())
