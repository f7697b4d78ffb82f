"""Selection of the members of an ensemble, against brute force and against members whose errors are known."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest

from glrnn_hpc.collector import ensemble_selection
from glrnn_hpc.collector.ensemble_selection import select

TRUTH = np.arange(2 * 4 * 3, dtype="float32").reshape(2, 4, 3)
DIVISOR = np.array([1.0, 10.0, 0.1])


def candidates(*errors: float) -> list[np.ndarray]:
    """Return predictions that miss every label by an error in its standardised units."""
    return [TRUTH + error * DIVISOR for error in errors]


def mse(predictions: list[np.ndarray], picks: tuple[int, ...]) -> float:
    mean = np.mean([predictions[pick] for pick in picks], axis=0)
    return float((((mean - TRUTH) / DIVISOR) ** 2).mean())


def test_a_member_that_cancels_the_error_of_another_is_chosen_before_a_better_one():
    found = select(candidates(1.0, 1.1, 1.2, -1.25), TRUTH, DIVISOR, 4)
    assert found.picks == (0, 1, 2, 3)
    assert found.mse == pytest.approx((2.05 / 4) ** 2, rel=1e-4)
    assert found.mse_of_candidates == pytest.approx((1.0, 1.21, 1.44, 1.5625), rel=1e-5)


def test_a_good_member_is_picked_more_than_once():
    # The two best first; then two parts of +1 and one of -2, which have no error, and the better one again.
    found = select(candidates(1.0, -2.0), TRUTH, DIVISOR, 3)
    assert found.weights == {0: 2, 1: 1}
    assert found.mse == pytest.approx(0.0, abs=1e-9)
    assert len(select(candidates(1.0, -2.0), TRUTH, DIVISOR, 9).picks) == 9


def test_all_labels_count_alike_whatever_their_units():
    wrong_in_the_large = TRUTH + np.array([0.0, 1.0, 0.0])  # 0.1 of its deviations
    wrong_in_the_small = TRUTH + np.array([0.0, 0.0, 0.05])  # 0.5 of its deviations
    assert select([wrong_in_the_small, wrong_in_the_large], TRUTH, DIVISOR, 1).picks == (1,)


def test_the_first_half_of_the_picks_and_at_least_three_are_the_best_candidates():
    errors = candidates(1.1, 1.0, 1.2, -1.3, 1.25, 1.15)
    assert select(errors, TRUTH, DIVISOR, 2).picks == (1, 0)
    assert select(errors, TRUTH, DIVISOR, 4).picks[:3] == (1, 0, 5)
    assert select(errors, TRUTH, DIVISOR, 8).picks[:4] == (1, 0, 5, 2)
    assert select(candidates(1.1, 1.0), TRUTH, DIVISOR, 9).picks[:2] == (1, 0)


def test_a_candidate_that_errs_far_more_is_no_member_however_few_good_ones_there_are():
    rng = np.random.default_rng(0)
    good = [TRUTH + rng.normal(1.0, 0.1, TRUTH.shape) * DIVISOR for _ in range(3)]
    found = select([*good, *candidates(9.0, 10.0)], TRUTH, DIVISOR, 20)
    assert set(found.weights) <= {0, 1, 2}
    assert found.mse < 1.1 * min(found.mse_of_candidates)


@pytest.mark.parametrize("seed", range(5))
def test_every_pick_after_the_start_is_the_best_one_and_the_mean_is_near_the_best_of_any(seed: int, monkeypatch):
    monkeypatch.setattr(ensemble_selection, "_PART", 7)  # sums over several parts
    rng = np.random.default_rng(seed)
    predictions = [TRUTH + rng.normal(size=TRUTH.shape) * DIVISOR for _ in range(5)]
    found = select(predictions, TRUTH, DIVISOR, 7)
    alone = [mse(predictions, (k,)) for k in range(5)]
    assert list(found.picks[:4]) == np.argsort(alone)[:4].tolist()
    for n in range(5, 8):
        made, pick = found.picks[: n - 1], found.picks[n - 1]
        tried = [mse(predictions, (*made, other)) for other in range(5)]
        assert pick == int(np.argmin(tried))
    assert found.mse == pytest.approx(mse(predictions, found.picks), rel=1e-5)
    best = min(mse(predictions, picks) for n in range(1, 8) for picks in combinations_with_replacement(range(5), n))
    assert best <= found.mse * (1 + 1e-6)
    assert found.mse <= 1.25 * best
    assert found.mse <= min(found.mse_of_candidates)
