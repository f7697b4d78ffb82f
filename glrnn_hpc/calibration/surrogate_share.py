"""Share of the surrogate in the width of a posterior."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.calibration.likelihood import Likelihood
from glrnn_hpc.calibration.posterior import ImportanceSamples, Posterior

Array = NDArray[Any]

#: Variance of a uniform distribution of width 1.
_UNIFORM = 1 / 12


def surrogate_shares(posterior: Posterior, samples: ImportanceSamples, likelihood: Likelihood) -> dict[str, float]:
    """Return which part of each parameter's posterior variance would vanish with a surrogate that makes no errors.

    With a response that is linear in the parameters, ``y = J x``, normal errors of covariance ``S`` and a normal prior
    of covariance ``P``, the posterior has the covariance ``C = (inv(P) + J.T inv(S) J)^-1``, whatever was observed. The
    share is ``1 - C_observation / C``: both diagonals, one with the errors of the observation alone. The slopes `J` are
    those of a regression of the responses on the samples, weighted by the posterior; `P` has the variance of the
    uniform prior.

    Parameters
    ----------
    posterior : Posterior
        Weights of all samples.
    samples : ImportanceSamples
        Their responses, and the ranges.
    likelihood : Likelihood
        Errors of both.

    Returns
    -------
    dict of str to float
        From 0, a surrogate without errors, to 1, an observation without errors.

    References
    ----------
    Tarantola (2005), Inverse Problem Theory, doi:10.1137/1.9780898717921, section 3.2.
    """
    scaled = (posterior.params - samples.bounds[0]) / np.ptp(samples.bounds, axis=0)
    roots = np.sqrt(posterior.weights)[:, None]
    centred = roots * (scaled - posterior.weights @ scaled)
    variances = []
    for of_observation in (True, False):
        residuals = np.concatenate(
            [likelihood.standardise(each.responses, of_observation=of_observation) for each in samples.batches]
        )
        slopes = np.linalg.lstsq(centred, roots * (residuals - posterior.weights @ residuals), rcond=None)[0]
        information = np.eye(scaled.shape[1]) / _UNIFORM + slopes @ slopes.T
        variances.append(np.diag(np.linalg.inv(information)))
    shares = np.clip(1 - variances[0] / variances[1], 0.0, 1.0)
    return dict(zip(posterior.names, shares.tolist(), strict=True))
