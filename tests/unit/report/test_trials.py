"""Trials of a report: the best of them."""

from __future__ import annotations

from glrnn_hpc.report.trials import Trial, best_finished_trial


def test_of_equal_trials_the_first_is_the_best():
    equal = [Trial(number, "finished", {}, 1.0, ()) for number in (2, 1, 3)]
    for goal in ("minimize", "maximize"):
        best = best_finished_trial(equal, goal)
        assert best is not None
        assert best.number == 1
    assert best_finished_trial([Trial(0, "pruned", {}, 0.0, ())], "minimize") is None
