"""Figures of the posterior show the probability that their legend states."""

from __future__ import annotations

import numpy as np

from glrnn_hpc.calibration.posterior import Posterior
from glrnn_hpc.calibration.posterior_figures import response_band


def test_the_band_of_responses_holds_the_wanted_part_of_the_posterior_at_each_step():
    responses = np.arange(101.0)[:, None, None] * np.array([1.0, -1.0])[None, None]  # (101, 1, 2 steps)
    posterior = Posterior(np.zeros((101, 1)), np.full(101, 1 / 101), ("a",))
    low, high = response_band(posterior, responses)
    np.testing.assert_allclose(low, [[5, -95]], atol=1)
    np.testing.assert_allclose(high, [[95, -5]], atol=1)
    only = Posterior(np.zeros((101, 1)), np.eye(101)[40], ("a",))
    np.testing.assert_array_equal(response_band(only, responses), [[[40, -40]], [[40, -40]]])
