"""Summary of a sweep as `status`, `collect` and `report` print it with --json: its keys are a contract with users.

These are plain dicts with known keys, as the commands print them and Python users get them.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from glrnn_hpc.records.json_types import Point

TrialState = Literal["finished", "pruned", "failed", "running", "waiting"]


class BestValue(TypedDict):
    """Best finished trial: its number, and its value of the metric."""

    number: int
    value: float


class TrialRow(TypedDict, total=False):
    """One trial in the table of a summary; `error` alone may be missing.

    Attributes
    ----------
    number : int
        Of the trial.
    state : str
        finished, pruned, failed, running or waiting; retried, if another trial repeats a failed one.
    params : dict
        Its point; empty before it is claimed.
    value : float or None
        The metric of a finished trial.
    where : str or None
        ``host:worker:rank`` of its newest owner.
    generation, epochs : int
        Number of its owners so far, and of its epochs.
    last, best_so_far : float or None
        The metric after the last epoch, and its best value.
    started : float or None
        When its last owner began [s since 1970], if it has a result.
    seconds : float or None
        Duration of its last owner's training, so far or in all.
    epochs_per_minute, eta_seconds : float or None
        Of a running trial: its speed, and the time until its last epoch if it does not stop early.
    error : str or None
        Why it failed, or which of its records is broken.
    """

    number: int
    state: str
    params: Point
    value: float | None
    where: str | None
    generation: int
    epochs: int
    last: float | None
    best_so_far: float | None
    started: float | None
    seconds: float | None
    epochs_per_minute: float | None
    eta_seconds: float | None
    error: str | None


class SweepSummary(TypedDict):
    """State of a sweep.

    Attributes
    ----------
    state, reason : str
        Of the sweep, and why it ended; None while it runs.
    metric : str
        Name of the metric that is optimised.
    trials : dict
        Number of trials in each state; a released trial counts as waiting.
    retried : int
        Failed trials that others repeat.
    best : dict or None
        Best finished trial.
    eta_seconds : float or None
        Estimate of the time that is left, from the mean duration of a trial; None before one has finished.
    utilisation : float or None
        Part of the ranks' time in fit and evaluate; None before any is recorded.
    seconds : dict
        Time of all ranks by kinds.
    table : list of dict
        One row per trial.
    """

    state: str
    reason: str | None
    metric: str
    trials: dict[str, int]
    retried: int
    best: BestValue | None
    eta_seconds: float | None
    utilisation: float | None
    seconds: dict[str, float]
    table: list[TrialRow]


class ErrorGroup(TypedDict):
    """Failed trials with the same kind of error: the error of the first one, and the numbers of all."""

    error: str
    trials: list[int]


class SweepCost(TypedDict):
    """Cost of a sweep and its failures.

    Attributes
    ----------
    failures : list of dict
        Groups of failed trials, the largest first.
    prunings : dict
        Number of trials that were stopped after each epoch; the keys are texts, as in JSON.
    rank_hours : float
        Time that trials with a result took their last owners, times the ranks that trained each.
    allocated_rank_hours : float
        All recorded time of all ranks, that of their start and their waiting too.
    wall_seconds : float
        From the creation of the sweep to its last result, or to now while it runs.
    """

    failures: list[ErrorGroup]
    prunings: dict[str, int]
    rank_hours: float
    allocated_rank_hours: float
    wall_seconds: float
