"""Gaussian process of one number, by scikit-learn, fitted in bounded time."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, lapack
from scipy.optimize import minimize

from glrnn_hpc.errors import ConfigError

Array = NDArray[Any]

#: Squared exponential covariance, or the one of Matern with nu = 5/2.
Smoothness: TypeAlias = Literal["smooth", "rough"]

#: Sequences that the hyperparameters are chosen on: the likelihood of more of them takes too long.
MOST_FOR_HYPERPARAMETERS = 500

#: Iterations of the search for hyperparameters; the likelihood changes little after these.
_ITERATIONS = 40

#: Length scale of a standardised feature where the search begins.
_LENGTH_SCALE = 3.0

#: Values that a covariance holds at once, which bounds the memory of a prediction.
_VALUES_AT_ONCE = 2**22

#: Part of the variance that is added to the diagonal, so that its Cholesky factor exists.
_JITTER = 1e-8


class _OutOfTime(Exception):
    pass


@dataclass(frozen=True)
class GaussianProcess:
    """Gaussian process that was fitted: its mean is the covariance with the fitted points times their weights.

    Attributes
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel
        Covariance, with its hyperparameters.
    features : ndarray, shape (n, n_features)
        Points that it was fitted to.
    weights : ndarray, shape (n,)
        Their weights.
    left_out : ndarray, shape (n_part,)
        Prediction of each of the first points, at most 500, by the others of them.
    """

    kernel: Any
    features: Array
    weights: Array
    left_out: Array

    def predict(self, features: Array) -> Array:
        """Return the mean, (n_points,), at points (n_points, n_features)."""
        step = max(1, _VALUES_AT_ONCE // len(self.features))
        parts = [
            self.kernel(features[start : start + step], self.features) @ self.weights
            for start in range(0, len(features), step)
        ]
        return np.concatenate(parts)


def _squared_exponential(distances: Array) -> tuple[Array, Array]:
    """Return the correlation at scaled distances, and its derivative to log l_k by the squared part of feature k."""
    correlation = np.exp(-(distances**2) / 2)
    return correlation, correlation


def _matern(distances: Array) -> tuple[Array, Array]:
    """Return the same of the correlation of Matern with nu = 5/2."""
    root = np.sqrt(5) * distances
    decay = np.exp(-root)
    return (1 + root + root**2 / 3) * decay, 5 / 3 * (1 + root) * decay


_COVARIANCES = {"smooth": _squared_exponential, "rough": _matern}


def import_scikit_learn() -> Any:
    """Return the module `sklearn.gaussian_process`, imported when it is first needed.

    Raises
    ------
    ConfigError
        If scikit-learn is not installed.
    """
    try:
        import sklearn.gaussian_process
    except ImportError as error:
        raise ConfigError(
            f"the Gaussian-process baseline needs scikit-learn, which cannot be imported here ({error}): "
            "pip install 'glrnn_hpc[baseline]'."
        ) from error
    return sklearn.gaussian_process


def on_one_thread() -> Any:
    """Return a context manager inside which linear algebra runs on one thread.

    Several threads wait for each other in loops, on a busy machine for most of their time, and this counts as
    processor time.
    """
    import threadpoolctl

    return threadpoolctl.threadpool_limits(1)


def fit_gaussian_process(
    features: Array, values: Array, deadline: float, smoothness: Smoothness = "smooth"
) -> GaussianProcess:
    """Fit a Gaussian process with one length scale for each feature, and noise.

    The hyperparameters maximise the marginal likelihood of the first 500 points at most; the process is fitted to all.

    Parameters
    ----------
    features : ndarray, shape (n, n_features)
        Standardised. Rows in random order, as the first ones stand for all.
    values : ndarray, shape (n,)
        Of mean 0 and standard deviation 1.
    deadline : float
        When the search for hyperparameters ends, whatever it has found, by `time.process_time`.
    smoothness : str
        `smooth`, the squared exponential covariance, or `rough`, that of Matern with nu = 5/2.

    Returns
    -------
    GaussianProcess

    Raises
    ------
    numpy.linalg.LinAlgError
        If the covariance of the points has no Cholesky factor.

    References
    ----------
    C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006, equation 5.12.
    """
    kernels = import_scikit_learn().kernels
    scales = np.full(features.shape[1], _LENGTH_SCALE), (0.1, 100.0)
    correlation = kernels.RBF(*scales) if smoothness == "smooth" else kernels.Matern(*scales, nu=2.5)
    kernel = kernels.ConstantKernel(1.0, (1e-2, 1e3)) * correlation + kernels.WhiteKernel(0.05, (1e-5, 2.0))
    part = slice(MOST_FOR_HYPERPARAMETERS)
    chosen = kernel.clone_with_theta(
        _most_likely(features[part], values[part], smoothness, kernel.theta, kernel.bounds, deadline)
    )
    factor, weights = _solved(chosen, features[part], values[part])
    left_out = values[part] - weights / np.diag(_inverse(factor))
    if len(features) > MOST_FOR_HYPERPARAMETERS:
        _, weights = _solved(chosen, features, values)
    return GaussianProcess(chosen, features, weights, left_out)


def _solved(kernel: Any, features: Array, values: Array) -> tuple[Array, Array]:
    """Return the lower Cholesky factor of the covariance of points, and their weights."""
    covariance = kernel(features)
    covariance[np.diag_indices_from(covariance)] += _JITTER
    factor, _ = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
    return factor, cho_solve((factor, True), values, check_finite=False)


def _inverse(factor: Array) -> Array:
    """Return the inverse of a matrix of which this is the lower Cholesky factor."""
    inverse, _ = lapack.dpotri(factor, lower=True)
    return np.tril(inverse) + np.tril(inverse, -1).T


def negative_log_likelihood(
    theta: Array, features: Array, values: Array, smoothness: Smoothness
) -> tuple[float, Array]:
    """Return the negative logarithm of the marginal likelihood, and its gradient.

    The values are those of scikit-learn's regressor. Its gradient holds one covariance for each feature; this one is
    made of products of matrices, in a fifth of the time.

    Parameters
    ----------
    theta : ndarray, shape (n_features + 2,)
        Logarithms of the variance, the length scales and the variance of the noise.
    features : ndarray, shape (n, n_features)
        Points.
    values : ndarray, shape (n,)
        At these points.
    smoothness : str
        See `fit_gaussian_process`.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the covariance has no Cholesky factor.

    References
    ----------
    C. E. Rasmussen and C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006, equations 5.8, 5.9.
    """
    n = len(values)
    variance, noise = np.exp(theta[0]), np.exp(theta[-1])
    scaled = features / np.exp(theta[1:-1])
    squares = (scaled**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * scaled @ scaled.T, 0.0))
    covariance, slope = (variance * part for part in _COVARIANCES[smoothness](distances))
    of_variance = covariance.copy()
    covariance[np.diag_indices(n)] += noise + _JITTER
    lower, _ = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
    weights = cho_solve((lower, True), values, check_finite=False)
    value = values @ weights / 2 + np.log(np.diag(lower)).sum() + n / 2 * np.log(2 * np.pi)
    # Derivatives are half the trace of this with the derivative of the covariance.
    outer = _inverse(lower) - np.outer(weights, weights)
    product = outer * slope
    of_scales = (scaled**2 * product.sum(axis=1)[:, None]).sum(axis=0) - (scaled * (product @ scaled)).sum(axis=0)
    gradient = np.concatenate([[(outer * of_variance).sum() / 2], of_scales, [noise * np.trace(outer) / 2]])
    return float(value), gradient


def _most_likely(
    features: Array, values: Array, smoothness: Smoothness, start: Array, bounds: Array, deadline: float
) -> Array:
    """Return the hyperparameters with the largest likelihood that are found in time."""
    best: tuple[float, Array] = (np.inf, start)

    def timed(theta: Array) -> tuple[float, Array]:
        nonlocal best
        value, gradient = negative_log_likelihood(theta, features, values, smoothness)
        if value < best[0]:
            best = (value, theta.copy())
        if time.process_time() > deadline:
            raise _OutOfTime
        return value, gradient

    with contextlib.suppress(_OutOfTime):
        minimize(timed, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    return best[1]
