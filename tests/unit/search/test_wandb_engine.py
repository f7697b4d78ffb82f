"""Hyperband beside W&B's engine of sweeps, which makes the same decisions on random sweeps."""

from __future__ import annotations

import json
import math
import random
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest

from glrnn_hpc.search import hyperband
from glrnn_hpc.search.early_terminate import EarlyTerminate

ENGINE = Path(__file__).parents[3] / ".venv-sweeps" / "bin" / "python"
N_SWEEPS = 500

Case = dict[str, Any]


def engine_on(cases: list[Case]) -> list[dict[str, Any]]:
    """Return what W&B's engine decides on each case."""
    assert ENGINE.exists(), f"{ENGINE} is missing: run make .venv-sweeps/.installed"
    program = Path(__file__).with_name("wandb_engine.py")
    answer = subprocess.run([ENGINE, program], input=json.dumps(cases), capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


def random_rule(rng: random.Random) -> dict[str, Any]:
    eta = rng.choice([2, 3, 3, 4, 7, 49, 1.1, 1.5, 2.5, rng.uniform(1.1, 10)])
    rule: dict[str, Any] = {"eta": eta, "strict": rng.random() < 0.5}
    if rng.random() < 0.5:
        return {**rule, "min_iter": rng.randint(1, 8)}
    return {**rule, "max_iter": rng.choice([27, 81, 100, rng.randint(10, 400)]), "s": rng.randint(1, 5)}


def random_history(rng: random.Random) -> list[float]:
    """Return a curve that falls, rises or jumps; a few decimals make equal values, and some are no finite numbers."""
    level, slope = rng.uniform(-1, 2), rng.uniform(-0.1, 0.05)
    noise, is_broken = rng.choice([0.0, 0.1, 1.0]), rng.random() < 0.3
    history = [round(level + slope * epoch + rng.gauss(0, noise), rng.choice([1, 2])) for epoch in range(40)]
    for epoch in range(40 if is_broken else 0):
        if rng.random() < 0.2:
            history[epoch] = rng.choice([math.nan, math.inf, -math.inf])
    return history[: rng.randint(0, 40)]


def random_case(rng: random.Random) -> Case:
    rule = random_rule(rng)
    while not EarlyTerminate.unchecked(rule).bands():
        rule = random_rule(rng)
    histories = [random_history(rng) for _ in range(rng.randint(1, 60 if rule["eta"] == 49 else 14))]
    return {"early_terminate": rule, "goal": rng.choice(["minimize", "maximize"]), "histories": histories}


def test_all_decisions_on_random_sweeps_are_those_of_wandbs_engine():
    rng = random.Random(1)
    cases = [random_case(rng) for _ in range(N_SWEEPS)]
    n_stopped = n_decisions = 0
    for case, engine in zip(cases, engine_on(cases), strict=True):
        rule, goal, histories = case["early_terminate"], case["goal"], case["histories"]
        stopped = [hyperband.should_stop(history, histories, rule, goal) for history in histories]
        assert stopped == engine["stopped"], case
        bands = hyperband.bands(rule)
        assert bands == sorted({band for band in engine["bands"] if band <= 10**6}), rule
        sign = 1 if goal == "minimize" else -1
        reached = {b: sign * c for b, c in zip(engine["bands"], engine["cutoffs"], strict=True) if math.isfinite(c)}
        assert hyperband.cutoffs(histories, EarlyTerminate.unchecked(rule), goal) == reached, case
        n_stopped += sum(stopped)
        n_decisions += len(stopped)
    assert n_decisions > 4000
    assert 0.1 < n_stopped / n_decisions < 0.9, "the sweeps show both decisions"


def test_a_rule_without_strict_is_not_strict_here_and_strict_in_wandbs_engine():
    histories = [[1.0, 3.0], [2.0, 2.0]]
    rule = {"min_iter": 2, "eta": 2}
    cases: list[Case] = [
        {"early_terminate": {**rule, **strict}, "goal": "minimize", "histories": histories}
        for strict in ({}, {"strict": True}, {"strict": False})
    ]
    left_out, strict, not_strict = (engine["stopped"] for engine in engine_on(cases))
    assert left_out == strict
    here = [hyperband.should_stop(history, histories, rule, "minimize") for history in histories]
    assert here == not_strict


@pytest.mark.parametrize("seed", range(2))
def test_the_pruner_of_a_study_stops_the_runs_that_wandbs_engine_stops_at_that_moment(seed: int):
    rng = random.Random(seed)
    expected: list[bool] = []
    cases: list[Case] = []
    for _ in range(10):
        case = random_case(rng)
        rule, goal = case["early_terminate"], case["goal"]
        pruner = hyperband.HyperbandPruner(EarlyTerminate.unchecked(rule), goal)
        study = optuna.create_study(direction=goal)
        trials = [study.ask() for _ in case["histories"]]
        seen: list[list[float]] = [[] for _ in trials]
        running = set(range(len(trials)))
        for epoch in range(40):
            for number in sorted(running):
                if epoch >= len(case["histories"][number]):
                    running.discard(number)
                    continue
                seen[number].append(case["histories"][number][epoch])
                if (at_band := pruner.report_of(seen[number])) is None:
                    continue
                trials[number].set_user_attr(hyperband.BEST_SO_FAR, at_band.best)
                trials[number].report(at_band.value, at_band.band)
                is_worse = pruner.prune(study, study.get_trials()[number])
                expected.append(is_worse)
                # This run first: of the engine's answer its decision alone counts.
                others = [list(history) for other, history in enumerate(seen) if other != number]
                cases.append({**case, "histories": [list(seen[number]), *others]})
                if is_worse:
                    running.discard(number)
    assert [engine["stopped"][0] for engine in engine_on(cases)] == expected
    assert set(expected) == {False, True}
