"""W&B's rule for hyperband, on a table of learning curves that was decided by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.search import hyperband
from glrnn_hpc.search.early_terminate import EarlyTerminate
from glrnn_hpc.study import storage

# val_loss of five trainings on 0.2e6/drained of the shipped data (LSTM 4 or 8, window_step 10, learning rates from
# 5e-4 to 2e-2), recorded to hundredths, and f, which diverges after its first epoch.
#    epoch  1     2     3     4     5     6     7     8     9
CURVES = {
    "a": [0.84, 0.80, 0.78, 0.76, 0.76, 0.76, 0.75, 0.73, 0.71],
    "b": [0.88, 0.86, 0.84, 0.82, 0.81, 0.80, 0.79, 0.79, 0.78],
    "c": [0.76, 0.70, 0.66, 0.62, 0.58, 0.55, 0.52, 0.54, 0.53],
    "d": [0.80, 0.79, 0.79, 0.78, 0.78, 0.77, 0.77, 0.77, 0.76],
    "e": [0.76, 0.73, 0.66, 0.59, 0.57, 0.52, 0.53, 0.44, 0.48],
    "f": [0.99, *[math.nan] * 8],
}
MIN_ITER = {"type": "hyperband", "min_iter": 3, "eta": 3}
BAND_7 = {"type": "hyperband", "min_iter": 7, "eta": 7}


def stopped(early_terminate: dict[str, Any], n_epochs: int, goal: Any = "minimize", sign: float = 1) -> set[str]:
    curves = {name: [sign * value for value in curve[:n_epochs]] for name, curve in CURVES.items()}
    return {
        name
        for name, curve in curves.items()
        if hyperband.should_stop(curve, list(curves.values()), early_terminate, goal)
    }


def test_the_bands_are_min_iter_times_eta_to_the_k_or_max_iter_by_eta_to_the_k():
    assert hyperband.bands({"min_iter": 3})[:4] == [3, 9, 27, 81]
    assert hyperband.bands({"min_iter": 1, "eta": 2})[:5] == [1, 2, 4, 8, 16]
    assert hyperband.bands({"max_iter": 27, "s": 2, "eta": 3}) == [3, 9]
    assert hyperband.bands({"max_iter": 100, "s": 3, "eta": 4}) == [1, 6, 25]
    assert hyperband.bands({"max_iter": 5, "s": 9, "eta": 2}) == [1, 2]
    assert hyperband.bands({"max_iter": 343, "s": 3, "eta": 7}) == [1, 7, 49], "343 * 7**-2 is just below 7"
    assert hyperband.bands({"min_iter": 2, "eta": 2.5})[:4] == [2, 5, 12, 31]
    assert hyperband.bands({"max_iter": 25, "s": 2, "eta": 2.5}) == [4, 10]
    assert hyperband.bands({"min_iter": 1, "eta": 1.1})[:3] == [1, 2, 3]


def test_before_the_first_band_nobody_is_stopped():
    assert stopped(MIN_ITER, 2) == set()


def test_the_best_so_far_is_compared_with_the_values_of_the_others_at_the_band_if_not_strict():
    # At epoch 3: a .78, b .84, c .66, d .79, e .66; f has one number only. Five values, sorted .66 .66 .78 .79 .84; the
    # one at int(5 / 3) = 1 is .66. Strictly worse: a, b, d.
    assert stopped(MIN_ITER, 3) == {"a", "b", "d"}
    # Between two bands the last one reached counts, and the best so far.
    assert stopped(MIN_ITER, 5) == {"a", "b", "d"}
    # At epoch 7: a .75, b .79, c .52, d .77, e .53; at int(5 / 7) = 0 is .52. The best of e is .52. Worse: a, b, d.
    assert stopped(BAND_7, 7) == {"a", "b", "d"}


def test_the_value_at_the_band_is_compared_if_strict():
    # As above; e is worse now, as its .53 of epoch 7 counts.
    assert stopped({**BAND_7, "strict": True}, 7) == {"a", "b", "d", "e"}
    # At epoch 9: a .71, b .78, c .53, d .76, e .48: sorted .48 .53 .71 .76 .78; at 1 is .53. Worse: a, b, d.
    assert stopped({**MIN_ITER, "strict": True}, 9) == {"a", "b", "d"}


def test_a_run_that_was_better_before_the_band_does_not_lower_the_cutoff_of_others():
    better_before, steady = [1.0, 3.0], [2.0, 2.0]
    rule = {"type": "hyperband", "min_iter": 2, "eta": 3}
    # The cutoff is the lower value at epoch 2, which is 2.
    for history in (better_before, steady):
        assert not hyperband.should_stop(history, [better_before, steady], rule, "minimize")
    assert hyperband.should_stop(better_before, [better_before, steady], {**rule, "strict": True}, "minimize")


def test_values_that_are_no_finite_numbers_do_not_count_as_epochs():
    rule, good = {"type": "hyperband", "min_iter": 2, "eta": 9}, [1.0, 1.0]
    for broken in (math.nan, math.inf, -math.inf):
        two = [broken, 5.0]
        assert not hyperband.should_stop(two, [two, good], rule, "minimize"), "one number is before the band"
        three = [broken, 5.0, 4.0]
        assert hyperband.should_stop(three, [three, good], rule, "minimize")
        assert hyperband.cutoffs([three], EarlyTerminate.from_config(rule), "minimize") == {2: 4.0}
        pruner = hyperband.HyperbandPruner(EarlyTerminate.from_config(rule), "minimize")
        assert pruner.report_of(two) is None
        assert pruner.report_of([*two, broken]) is None
        assert pruner.report_of(three) == hyperband.BandReport(2, 4.0, 4.0)
        assert pruner.report_of([*three, broken]) is None, "a band is reported once"


def test_with_max_iter_and_another_eta():
    # Bands 2 and 4 of max_iter 8, eta 2, s 2. At epoch 4: a .76, b .82, c .62, d .78, e .59:
    # sorted .59 .62 .76 .78 .82, the one at int(5 / 2) = 2 is .76. Worse: b, d.
    assert stopped({"type": "hyperband", "max_iter": 8, "s": 2, "eta": 2}, 4) == {"b", "d"}


def test_a_goal_to_maximize_is_the_mirror_image():
    for strict, n_epochs in itertools.product((False, True), (3, 7, 9)):
        rule = {**(BAND_7 if n_epochs == 7 else MIN_ITER), "strict": strict}
        assert stopped(rule, n_epochs, "maximize", -1) == stopped(rule, n_epochs)


def test_one_run_alone_is_never_stopped_and_of_two_the_worse_one_is():
    curve = CURVES["d"][:3]
    assert not hyperband.should_stop(curve, [curve], MIN_ITER, "minimize")
    better = CURVES["a"][:3]
    assert hyperband.should_stop(curve, [curve, better], MIN_ITER, "minimize")
    assert not hyperband.should_stop(better, [curve, better], MIN_ITER, "minimize")
    assert not hyperband.should_stop(curve, [curve, curve], MIN_ITER, "minimize"), "equal is not worse"
    nothing = [math.nan] * 3
    assert not hyperband.should_stop(nothing, [nothing, nothing], MIN_ITER, "minimize")


@pytest.mark.parametrize("kind", ["memory", "journal"])
@pytest.mark.parametrize(
    ("rule", "survivors"),
    [
        # Epoch 3, in the order of arrival: a .78 is alone; b .84 is worse than .78, at int(2 / 3) = 0; c .66 leads;
        # d .79 is worse than .78, at int(4 / 3) = 1; e .66 is as good as .66; f never gets there.
        # Epoch 9: a .71 is alone, c .53 and e .48 are better than it.
        (MIN_ITER, {"a", "c", "e", "f"}),
        ({**MIN_ITER, "strict": True}, {"a", "c", "e", "f"}),
        # Epoch 7, only the best passes: a .75 is alone; b .79 is worse; c .52 leads; d .77 is worse; e has .52 as its
        # best and .53 at the band.
        (BAND_7, {"a", "c", "e", "f"}),
        ({**BAND_7, "strict": True}, {"a", "c", "f"}),
    ],
)
@pytest.mark.parametrize(("goal", "sign"), [("minimize", 1), ("maximize", -1)])
def test_the_pruner_stops_a_replayed_sweep_where_the_rule_does(
    goal: Any, sign: float, rule: dict[str, Any], survivors: set[str], kind: str, tmp_path: Path
):
    folder = layout.SweepFolder(tmp_path)
    kept = optuna.storages.InMemoryStorage() if kind == "memory" else storage.create(folder, None, "sweep")
    study = optuna.create_study(storage=kept, direction=goal)
    pruner = hyperband.HyperbandPruner(EarlyTerminate.from_config(rule), goal)
    trials = {name: study.ask() for name in CURVES}
    histories: dict[str, list[float]] = {name: [] for name in CURVES}
    running = set(CURVES)
    # One epoch of each in turn; those that were stopped stay among those that are compared.
    for epoch in range(1, 10):
        for name in sorted(running):
            histories[name].append(sign * CURVES[name][epoch - 1])
            if (at_band := pruner.report_of(histories[name])) is None:
                continue
            trials[name].set_user_attr(hyperband.BEST_SO_FAR, at_band.best)
            trials[name].report(at_band.value, at_band.band)
            expected = hyperband.should_stop(histories[name], list(histories.values()), rule, goal)
            frozen = kept.get_trial(trials[name]._trial_id)
            assert pruner.prune(study, frozen) == expected, (name, epoch)
            if expected:
                running.discard(name)
                study.tell(trials[name], state=optuna.trial.TrialState.PRUNED)
    assert running == survivors


WRONG = [
    (3, "early_terminate: a mapping is needed, 3"),
    ({}, "early_terminate.type: hyperband is needed, None"),
    ({"type": "envelope"}, "early_terminate.type: hyperband is needed, 'envelope'"),
    ({"type": "hyperband"}, "early_terminate.min_iter: give min_iter, or max_iter and s"),
    ({"type": "hyperband", "max_iter": 27}, "early_terminate.s: max_iter needs the number of bands; add s"),
    ({"type": "hyperband", "min_iter": 0}, "early_terminate.min_iter: an integer from 1 to 1000000 is needed, 0"),
    ({"type": "hyperband", "min_iter": True}, "early_terminate.min_iter: an integer"),
    ({"type": "hyperband", "min_iter": 3, "eta": 1}, "early_terminate.eta: a number from 1.1 to 1000000 is needed, 1"),
    ({"type": "hyperband", "max_iter": 9, "s": 0}, "early_terminate.s: an integer from 1 to"),
    ({"type": "hyperband", "min_iter": 10**7}, "early_terminate.min_iter: an integer from 1 to 1000000 is needed, 100"),
    ({"type": "hyperband", "max_iter": 10**400, "s": 2}, "early_terminate.max_iter: an integer from 1 to 1000000"),
    ({"type": "hyperband", "max_iter": 27, "s": 10**30}, "early_terminate.s: an integer from 1 to 1000000"),
    ({"type": "hyperband", "min_iter": 3, "eta": 10**400}, "early_terminate.eta: a number from 1.1 to 1000000"),
    ({"type": "hyperband", "max_iter": 2, "s": 2, "eta": 3}, "early_terminate.max_iter: 2 / eta 3 leaves no epoch"),
    ({"type": "hyperband", "min_iter": 3, "strict": "yes"}, "early_terminate.strict: true or false is needed, 'yes'"),
    ({"type": "hyperband", "min_itr": 3}, "early_terminate.min_itr: unknown key; did you mean min_iter"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_a_wrong_early_terminate_names_the_key(given: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        EarlyTerminate.from_config(given)


def test_defaults_are_filled_in():
    assert EarlyTerminate.from_config({"type": "hyperband", "min_iter": 2}).as_config() == {
        "type": "hyperband",
        "min_iter": 2,
        "eta": 3,
        "strict": False,
    }


@pytest.mark.parametrize(("goal", "sign"), [("minimize", 1.0), ("maximize", -1.0)])
def test_the_cutoff_of_a_band_is_the_value_that_must_not_be_worse(goal, sign):
    settings = {"type": "hyperband", "min_iter": 1, "eta": 2}
    histories = [[sign * (9.0 - k), sign * k] for k in range(4)] + [[sign * 20.0]]
    found = hyperband.cutoffs(histories, EarlyTerminate.from_config(settings), goal)
    # int(5 / 2) of the five at epoch 1, int(4 / 2) of the four at epoch 2; nobody has reached epoch 4.
    assert found == {1: sign * 8.0, 2: sign * 2.0}
    for band, cutoff in found.items():
        reached = [history[:band] for history in histories if len(history) >= band]
        for history in reached:
            is_worse = min(history) > cutoff if goal == "minimize" else max(history) < cutoff
            assert hyperband.should_stop(history, reached, settings, goal) is is_worse


def test_bands_need_a_first_or_a_last_epoch():
    with pytest.raises(ConfigError, match="early_terminate.min_iter: give min_iter, or max_iter and s"):
        hyperband.bands({"type": "hyperband"})
