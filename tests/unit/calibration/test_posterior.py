"""The posterior does not depend on where its samples were drawn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from grainlearning import BayesianCalibration
from scipy.stats import norm

from glrnn_hpc.calibration.likelihood import IndependentLikelihood, correlation_length, error_scales
from glrnn_hpc.calibration.posterior import ImportanceSamples, Posterior
from glrnn_hpc.calibration.surrogate import SamplingCallback

RANGES = {"a": (0.0, 10.0), "b": (-1.0, 1.0)}
STEPS = np.linspace(0, 1, 40)


def respond(params: Any) -> Any:
    """Return a response that depends on `a` alone: (n, 1, n_steps)."""
    return params[:, None, :1] * np.ones_like(STEPS)


@pytest.mark.parametrize("error", [2.0, 0.2, 0.01])
def test_it_is_the_analytic_one_however_narrow(error: float):
    observed = np.full((1, len(STEPS)), 4.0)
    scales = np.array([len(STEPS) * error**2])  # the same error on all steps: one measurement
    likelihood = IndependentLikelihood(observed, scales, scales)
    posterior = ImportanceSamples(RANGES).extend(respond, likelihood.log, n=200, seed=1)
    assert posterior.n_effective > 50
    low, high = norm(4.0, error).cdf([0.0, 10.0])
    expected = norm(4.0, error).ppf(low + (high - low) * np.array([0.05, 0.5, 0.95]))
    np.testing.assert_allclose(posterior.interval()["a"], expected[[0, 2]], atol=0.35 * error)
    assert posterior.quantiles(0, [0.5])[0] == pytest.approx(expected[1], abs=0.3 * error)
    assert posterior.mean()["b"] == pytest.approx(0, abs=0.15)
    assert posterior.deviation()["b"] == pytest.approx(2 / 12**0.5, rel=0.15)  # nothing is known of it


def test_samples_crowded_in_one_place_do_not_pull_the_posterior_there():
    observed, scales = np.full((1, len(STEPS)), 4.0), np.array([len(STEPS) * 2.0**2])
    samples = ImportanceSamples(RANGES)
    near = norm(5.5, 0.05)
    drawn = np.column_stack([near.rvs(2000, random_state=0), np.random.default_rng(0).uniform(-1, 1, 2000)])
    samples.add(drawn, respond(drawn), lambda params: near.logpdf(params[:, 0]) - np.log(2))
    posterior = samples.extend(respond, IndependentLikelihood(observed, scales, scales).log, n=400, seed=0)
    assert posterior.mean()["a"] == pytest.approx(4.0, abs=0.3)
    assert posterior.deviation()["a"] == pytest.approx(1.85, rel=0.15)


def test_noise_counts_step_by_step_and_the_surrogates_error_once():
    rng = np.random.default_rng(0)
    white = 0.3 * rng.standard_normal((1, 4000))
    assert error_scales(white, np.zeros(1)) == pytest.approx(0.09, rel=0.15)
    assert error_scales(white, np.ones(1)) == pytest.approx(4000 + 0.09, rel=0.01)
    slow = np.repeat(white[:, ::20], 20, axis=1)
    assert error_scales(slow, np.zeros(1)) == pytest.approx(20 * 0.09, rel=0.3)


def test_a_residual_that_does_not_change_tells_one_thing_and_none_divides_by_zero():
    assert correlation_length(np.ones(50)) == 50
    assert correlation_length(np.zeros(50)) == 1
    assert correlation_length(np.array([1.0, -1.0] * 25)) == 1
    assert (error_scales(np.zeros((2, 50)), np.zeros(2)) > 0).all()


def test_weighted_quantiles_are_those_of_the_weights():
    params = np.arange(5.0)[:, None]
    posterior = Posterior(params, np.array([0.0, 0.25, 0.5, 0.25, 0.0]), ("a",))
    assert posterior.quantiles(0, [0.5]) == [2.0]
    assert posterior.mean() == {"a": 2.0}
    assert posterior.deviation() == {"a": pytest.approx(0.5**0.5)}
    # A point beside the mean is off by that too.
    assert posterior.rms_distance(np.array([5.0])) == {"a": pytest.approx((0.5 + 3.0**2) ** 0.5)}
    assert posterior.n_effective == pytest.approx(1 / 0.375)


def test_iterations_that_narrow_around_the_best_do_not_narrow_the_posterior():
    """GrainLearning's own samples end far narrower than what an error of 1 in all steps together leaves open."""
    truth, error = 4.0, 1.0
    rising = 1 + STEPS / 10

    class Line:
        """Callback whose response is in proportion to one parameter."""

        seconds = [0.0]

        def __call__(self, calibration: Any) -> None:
            calibration.system.set_sim_data(respond(calibration.system.param_data) * rising)

    callback = SamplingCallback(Line(), RANGES)  # type: ignore[arg-type]
    settings = {
        "num_iter": 12,
        "callback": callback,
        "save_fig": -1,
        "system": {
            "param_names": list(RANGES),
            "param_min": [low for low, _ in RANGES.values()],
            "param_max": [high for _, high in RANGES.values()],
            "num_samples": 400,
            "obs_names": ["y"],
            "obs_data": truth * rising[None],
            "ctrl_data": STEPS,
            "sigma_tol": 1e-9,
        },
        "inference": {"Bayes_filter": {"ess_target": 0.3}, "sampling": {"max_num_components": 1, "random_state": 0}},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its numbers underflow while it looks for sigma
        BayesianCalibration.from_dict(settings).run()
    last = callback.samples.batches[-1].params[:, 0]
    assert len(callback.samples.batches) == 12
    assert np.ptp(last) < 0.5 * error
    scales = np.array([(rising**2).sum() * error**2])
    posterior = callback.samples.posterior(IndependentLikelihood(truth * rising[None], scales, scales).log)
    assert posterior.mean()["a"] == pytest.approx(truth, abs=0.2)
    assert posterior.deviation()["a"] == pytest.approx(error, rel=0.15)

    # Each batch was drawn from a density, whose integral over the ranges is 1.
    a, b = (np.linspace(low, high, 400) for low, high in RANGES.values())
    grid = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2)
    for batch in callback.samples.batches[:3]:
        assert np.exp(batch.log_proposal(grid)).sum() * (a[1] - a[0]) * (b[1] - b[0]) == pytest.approx(1, rel=0.1)
