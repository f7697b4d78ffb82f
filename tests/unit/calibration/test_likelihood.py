"""Posterior and share of the surrogate are those of the closed form, where the surrogate is linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glrnn_hpc.calibration.likelihood import (
    CorrelatedLikelihood,
    IndependentLikelihood,
    Likelihood,
    implied_labels,
    reference_params,
)
from glrnn_hpc.calibration.posterior import ImportanceSamples, Posterior
from glrnn_hpc.calibration.surrogate_share import surrogate_shares
from glrnn_hpc.experiments.labels import LabelTransform
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.surrogate.error_covariance import BlockErrors, block_edges, block_means
from glrnn_hpc.surrogate.intervals import LabelSpace

RANGES = {"a": (0.0, 10.0), "b": (-5.0, 5.0)}
SPACE = LabelSpace(("y", "z"), ("a", "b"))
N_STEPS, FIRST = 30, 3
TIME = np.linspace(0, 1, N_STEPS)
EDGES = block_edges(N_STEPS)
LOWS = np.full(2, -np.inf)

#: Slopes (n_params, n_labels, n_steps) of a linear surrogate.
SLOPES = np.array([[1 + TIME, 0 * TIME], [TIME**2, np.ones_like(TIME)]])
TRUTH = np.array([4.0, 1.0])


def respond(params: Any) -> Any:
    return np.tensordot(params, SLOPES, axes=1)


def block_slopes() -> Any:
    """Return the slopes of the block means, (n_params, n_blocks * n_labels)."""
    return block_means(np.swapaxes(SLOPES, 1, 2), EDGES).reshape(2, -1)


def correlated(size: float = 0.3) -> Any:
    """Return a covariance in which all blocks and both labels share most of their error."""
    n = 2 * (len(EDGES) - 1)
    return size**2 * (0.8 * np.ones((n, n)) + 0.2 * np.eye(n))


def likelihood_of(covariance: Any, observed: Any, noise: float = 0.0) -> CorrelatedLikelihood:
    errors = BlockErrors(EDGES + FIRST, covariance, np.full(2, noise))
    return CorrelatedLikelihood(SPACE, np.zeros((1, 2)), LOWS, FIRST, observed, errors)


def sampled(likelihood: Likelihood, n: int = 500) -> tuple[Posterior, ImportanceSamples]:
    samples = ImportanceSamples(RANGES)
    return samples.extend(respond, likelihood.log, n=n, seed=0), samples


def test_the_posterior_is_that_of_the_closed_form():
    covariance, observed = correlated(), respond(TRUTH[None])[0]
    posterior, _ = sampled(likelihood_of(covariance, observed))
    slopes = block_slopes()
    expected = np.linalg.inv(slopes @ np.linalg.solve(covariance, slopes.T))
    assert posterior.n_effective > 200
    assert list(posterior.mean().values()) == pytest.approx(TRUTH, abs=0.15 * np.sqrt(expected.max()))
    assert list(posterior.deviation().values()) == pytest.approx(np.sqrt(np.diag(expected)), rel=0.12)


def test_intervals_hold_the_truth_of_nine_in_ten_observations():
    covariance, rng = correlated(), np.random.default_rng(3)
    root = np.linalg.cholesky(covariance)
    held = []
    for _ in range(100):
        truth = rng.uniform([2.0, -3.0], [8.0, 3.0])
        errors = (root @ rng.standard_normal(len(root))).reshape(-1, 2)
        observed = respond(truth[None])[0] + np.repeat(errors, np.diff(EDGES), axis=0).T
        # The noise between blocks belongs to the errors here: it is as large in the training.
        posterior, _ = sampled(likelihood_of(covariance, observed, noise=np.inf), n=200)
        held.append(
            [low <= value <= high for (low, high), value in zip(posterior.interval().values(), truth, strict=True)]
        )
    assert np.mean(held) == pytest.approx(0.9, abs=0.05)


def test_the_share_of_a_perfect_surrogate_is_0_and_beside_an_exact_observation_it_is_near_1():
    n = 2 * (len(EDGES) - 1)
    exact = respond(TRUTH[None])[0]
    noisy = exact + 0.2 * np.random.default_rng(0).standard_normal(exact.shape)
    for observed, covariance, expected in ((noisy, np.zeros((n, n)), 0.0), (exact, correlated(), 1.0)):
        likelihood = likelihood_of(covariance, observed)
        posterior, samples = sampled(likelihood)
        shares = surrogate_shares(posterior, samples, likelihood)
        assert list(shares) == ["a", "b"]
        assert list(shares.values()) == pytest.approx([expected, expected], abs=1e-3)


def test_the_share_between_is_that_of_the_closed_form():
    noise, covariance = 0.5, correlated()
    observed = respond(TRUTH[None])[0] + noise * np.random.default_rng(0).standard_normal((2, N_STEPS))
    likelihood = likelihood_of(covariance, observed)
    posterior, samples = sampled(likelihood)
    slopes = block_slopes()
    of_observation = np.diag(np.repeat(noise**2 / np.diff(EDGES), 2))
    both, alone = (
        np.diag(np.linalg.inv(np.diag([12 / 100, 12 / 100]) + slopes @ np.linalg.solve(errors, slopes.T)))
        for errors in (covariance + of_observation, of_observation)
    )
    shares = surrogate_shares(posterior, samples, likelihood)
    assert list(shares.values()) == pytest.approx(1 - alone / both, abs=0.15)
    assert all(0 < share < 1 for share in shares.values())


def test_noise_of_the_observation_beyond_that_of_the_training_counts():
    observed = respond(TRUTH[None])[0] + 0.5 * np.random.default_rng(1).standard_normal((2, N_STEPS))
    wide, narrow = (sampled(likelihood_of(correlated(0.05), observed, noise))[0] for noise in (0.0, 1.0))
    assert all(wide.deviation()[name] > 1.5 * narrow.deviation()[name] for name in RANGES)


def test_labels_that_are_met_exactly_do_not_break_it():
    covariance = correlated()
    covariance[1::2] = covariance[:, 1::2] = 0.0  # z has no error
    posterior, _ = sampled(likelihood_of(covariance, respond(TRUTH[None])[0]))
    assert posterior.mean()["b"] == pytest.approx(TRUTH[1], abs=1e-2)
    assert posterior.deviation()["b"] < 1e-2


def test_residuals_are_taken_in_transformed_units():
    space = LabelSpace(("p",), ("mu", "pressure"), (LabelTransform("p", "log", "pressure"),))
    edges = np.array([0, 2, 4])
    params = reference_params(("mu", "pressure"), {"pressure": 0.5}, {"mu": (10.0, 20.0)})
    np.testing.assert_array_equal(params, [[15.0, 0.5]])
    errors = BlockErrors(edges, np.diag([0.01, 0.04]), np.zeros(1))
    likelihood = CorrelatedLikelihood(space, params, np.array([-9.0]), 0, np.full((1, 4), 1.0), errors)
    responses = np.array([[[np.e, np.e, 1.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]], [[1.0, 1.0, -1.0, 0.0]]])
    residuals = likelihood.standardise(responses)
    np.testing.assert_allclose(residuals[:2], [[-10.0, 0.0], [0.0, 0.0]], atol=1e-6)
    # The logarithm of a stress below zero is the lowest that is believed.
    assert residuals[2, 1] == pytest.approx((-np.log(0.5) + 9) / 0.2, rel=1e-5)
    np.testing.assert_allclose(likelihood.log(responses), -0.5 * (residuals**2).sum(axis=1))


def test_independent_labels_count_as_their_scales_say():
    observed = np.zeros((2, 4))
    likelihood = IndependentLikelihood(observed, np.array([4.0, 1.0]), np.array([1.0, 1.0]))
    responses = np.ones((1, 2, 4))
    assert likelihood.log(responses) == pytest.approx([-0.5 * (4 / 4 + 4 / 1)])
    assert (likelihood.standardise(responses) ** 2).sum() == pytest.approx(5)
    assert (likelihood.standardise(responses, of_observation=True) ** 2).sum() == pytest.approx(8)


LOAD = ("e_x", "e_y", "e_z")


@pytest.mark.parametrize(
    ("experiment_type", "known", "compared", "implied"),
    [
        ("drained", ("pressure", "e0", *LOAD), ("e", "p", "q"), ["e", "p"]),
        ("drained", ("pressure", "e0", "e_z"), ("e", "p", "q"), ["p"]),
        ("drained", ("pressure", "e0", "e_z"), ("e", "p"), []),
        ("drained", ("e0", *LOAD), ("e", "p", "q"), ["e"]),  # the pressure is sought
        ("undrained", ("pressure", "e0", "e_z"), ("e", "p", "q"), ["e"]),
        ("undrained", ("pressure", *LOAD), ("e", "p", "q"), []),  # the first void ratio is sought
        (None, ("pressure", "e0", *LOAD), ("e", "p", "q"), ["e"]),
    ],
)
def test_labels_that_follow_from_what_is_known_are_found(
    experiment_type: str | None, known: tuple[str, ...], compared: tuple[str, ...], implied: list[str]
):
    assert implied_labels(TRIAXIAL, experiment_type, known, compared) == implied
