"""Trials in the figures of a report: their states, their points, and their metric after each epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from glrnn_hpc.records.json_types import Point
from glrnn_hpc.records.sweep_summary import TrialRow
from glrnn_hpc.search.goal import Goal, sign_of
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.status import newest_metrics


@dataclass(frozen=True)
class Trial:
    """Trial that has begun.

    Attributes
    ----------
    number : int
        Number of the trial.
    state : str
        finished, pruned, failed or running.
    point : dict
        Searched parameters in the units of the configuration.
    value : float or None
        Metric of a finished trial, the best one so far of another; None if there is no finite one.
    history : tuple of float
        Metric after each epoch.
    """

    number: int
    state: str
    point: Point
    value: float | None
    history: tuple[float, ...]


def read_trials(study: SweepStudy, table: list[TrialRow]) -> list[Trial]:
    """Return the trials of a sweep that have begun, in the order of their numbers.

    Parameters
    ----------
    study : SweepStudy
        The sweep.
    table : list of dict
        Table of the sweep's summary, see `status.summarize`.
    """
    trials = []
    for row in table:
        # The failure of a repeated trial is shown, too.
        state = "failed" if row["state"] == "retried" else row["state"]
        if state == "waiting" and row["epochs"]:
            state = "running"  # released, and soon adopted
        if state == "waiting":
            continue
        metrics = newest_metrics(study.folder.trial(row["number"]), row["generation"])
        history = tuple(metrics.values(study.spec.metric))
        value = row["value"] if row["state"] == "finished" else row["best_so_far"]
        if value is not None and not math.isfinite(value):
            value = None
        trials.append(Trial(row["number"], state, row["params"], value, history))
    return trials


def finished_trials(trials: list[Trial]) -> list[Trial]:
    """Return the finished trials with a finite value."""
    return [trial for trial in trials if trial.state == "finished" and trial.value is not None]


def best_finished_trial(trials: list[Trial], goal: Goal) -> Trial | None:
    """Return the best finished trial, the first of equal ones; None if none has finished."""
    sign = sign_of(goal)
    return min(finished_trials(trials), key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)
