"""Selection of the members of an ensemble, against brute force and against members whose errors are known."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest

from glrnn_hpc.collector import ensemble_selection
from glrnn_hpc.collector.ensemble_selection import MOST_AT_START, select

TRUTH = np.arange(2 * 4 * 3, dtype="float32").reshape(2, 4, 3)
DIVISOR = np.array([1.0, 10.0, 0.1])


def candidates(*errors: float) -> list[np.ndarray]:
    """Return predictions that miss every label by an error in its standardised units."""
    return [TRUTH + error * DIVISOR for error in errors]


def mse(predictions: list[np.ndarray], picks: tuple[int, ...]) -> float:
    mean = np.mean([predictions[pick] for pick in picks], axis=0)
    return float((((mean - TRUTH) / DIVISOR) ** 2).mean())


def test_a_member_that_cancels_the_error_of_another_is_chosen_before_a_better_one():
    found = select(candidates(1.0, 1.1, -1.2), TRUTH, DIVISOR, 2)
    assert found.picks == (0, 2)
    assert found.mse == pytest.approx(0.1**2, rel=1e-4)
    assert found.mse_of_candidates == pytest.approx((1.0, 1.21, 1.44), rel=1e-5)


def test_a_good_member_is_picked_more_than_once():
    # Two parts of +1 and one of -2 have no error.
    found = select(candidates(1.0, -2.0), TRUTH, DIVISOR, 3)
    assert found.weights == {0: 2, 1: 1}
    assert found.mse == pytest.approx(0.0, abs=1e-9)


def test_picks_that_do_not_help_are_dropped_but_those_after_them_are_tried():
    # The second pick is worse than none, +1 and +1 and -2 together are exact.
    alone = select(candidates(1.0, -2.0), TRUTH, DIVISOR, 1)
    assert (alone.picks, alone.mse) == ((0,), pytest.approx(1.0, rel=1e-5))
    assert select(candidates(1.0, -3.5), TRUTH, DIVISOR, 2).picks == (0,)
    assert len(select(candidates(1.0, -3.5), TRUTH, DIVISOR, 9).picks) > 2


def test_all_labels_count_alike_whatever_their_units():
    wrong_in_the_large = TRUTH + np.array([0.0, 1.0, 0.0])  # 0.1 of its deviations
    wrong_in_the_small = TRUTH + np.array([0.0, 0.0, 0.05])  # 0.5 of its deviations
    assert select([wrong_in_the_small, wrong_in_the_large], TRUTH, DIVISOR, 1).picks == (1,)


def test_the_selection_starts_from_as_many_of_the_best_as_make_the_best_mean():
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=TRUTH.shape) for _ in range(8)]
    predictions = [TRUTH + (1 + 0.1 * k) * noise[k] * DIVISOR for k in range(8)]
    alone = [mse(predictions, (k,)) for k in range(8)]
    order = np.argsort(alone)
    means = [mse(predictions, tuple(order[:n])) for n in range(1, MOST_AT_START + 1)]
    n_start = int(np.argmin(means)) + 1
    assert n_start > 1
    assert select(predictions, TRUTH, DIVISOR, 8).picks[:n_start] == tuple(order[:n_start])
    # A candidate that is much worse is not among them.
    bad = [predictions[order[0]], TRUTH + 30 * noise[7] * DIVISOR]
    assert select(bad, TRUTH, DIVISOR, 1).picks == select(bad, TRUTH, DIVISOR, 2).picks == (0,)


@pytest.mark.parametrize("seed", range(5))
def test_every_pick_after_the_start_is_the_best_one_and_the_mean_is_near_the_best_of_any(seed: int, monkeypatch):
    monkeypatch.setattr(ensemble_selection, "_PART", 7)  # sums over several parts
    rng = np.random.default_rng(seed)
    predictions = [TRUTH + rng.normal(size=TRUTH.shape) * DIVISOR for _ in range(5)]
    found = select(predictions, TRUTH, DIVISOR, 7)
    order = np.argsort([mse(predictions, (k,)) for k in range(5)])
    n_start = int(np.argmin([mse(predictions, tuple(order[:n])) for n in range(1, 6)])) + 1
    assert found.picks[:n_start] == tuple(order[:n_start])
    for n in range(n_start + 1, len(found.picks) + 1):
        made, pick = found.picks[: n - 1], found.picks[n - 1]
        tried = [mse(predictions, (*made, other)) for other in range(5)]
        assert pick == int(np.argmin(tried))
    assert found.mse == pytest.approx(mse(predictions, found.picks), rel=1e-5)
    best = min(mse(predictions, picks) for n in range(1, 8) for picks in combinations_with_replacement(range(5), n))
    assert best <= found.mse * (1 + 1e-6)
    assert found.mse <= 1.25 * best
    assert found.mse <= min(found.mse_of_candidates)
