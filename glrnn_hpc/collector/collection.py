"""Answer of `glrnn collect`: the best trial and its export, the verified and the refused trials, the cost.

These are plain dicts with known keys, as the command prints them with --json and Python users get them.
"""

from __future__ import annotations

from typing import TypedDict

from glrnn_hpc.records.json_types import JsonObject, Point
from glrnn_hpc.records.sweep_summary import ErrorGroup, SweepCost, SweepSummary, TrialRow


class SweepOfMany(TypedDict, total=False):
    """Folder of the sweep of a trial; it stands in an answer about several sweeps only."""

    sweep: str


class VerifiedTrial(SweepOfMany):
    """Trial whose files give its logged metrics: its value, its point as `config`, its metrics and the same again."""

    number: int
    value: float | None
    config: Point
    metrics: dict[str, float]
    recomputed: dict[str, float]


class ExportedTrial(VerifiedTrial):
    """Exported trial: its errors per label on the test split, and the folder of the export."""

    errors: dict[str, JsonObject]
    path: str


class RefusedTrial(SweepOfMany):
    """Trial whose files do not give its logged metrics, and why."""

    number: int
    reason: str


class MemberOfEnsemble(SweepOfMany):
    """Member of an ensemble: number and state of its trial, how often it was picked, its errors by split."""

    number: int
    state: str
    weight: int
    mse_standardised: dict[str, float]


class ExportedEnsemble(TypedDict):
    """Exported ensemble.

    Attributes
    ----------
    asked : int
        Members that were asked for.
    candidates : int
        Verified trials that they were chosen from.
    members : list of dict
        Members, the one with the greatest weight first.
    best_single : dict
        The member with the least error on the validation split.
    first_step : int
        First step that is predicted.
    mse_standardised : dict of str to float
        Mean squared error of standardised labels, by split.
    errors : dict
        Errors per label on the test split.
    interval_level : float
        Part of the truth that the intervals are made to hold.
    coverage : dict of str to float
        Part that they hold on the test split, per label.
    """

    asked: int
    candidates: int
    members: list[MemberOfEnsemble]
    best_single: MemberOfEnsemble
    first_step: int
    mse_standardised: dict[str, float]
    errors: dict[str, JsonObject]
    interval_level: float
    coverage: dict[str, float]


class SweepAccount(SweepSummary, SweepCost):
    """Summary and cost of one sweep."""


class Collection(TypedDict, total=False):
    """Answer of `glrnn collect`.

    Attributes
    ----------
    state, metric, trials, utilisation, seconds, rank_hours, allocated_rank_hours
        As in the summary and the cost of the sweep; sums of several sweeps.
    reason, retried, eta_seconds, table, failures, prunings, wall_seconds
        As in the summary and the cost; of one sweep only.
    sweeps : dict
        Summary and cost of each sweep by its folder; of several sweeps only.
    best : dict
        The exported trial; where an ensemble is exported, the best trial all the same.
    ensemble : dict
        The exported ensemble; only where one was asked for.
    baseline : dict
        Comparison of the exported model with Gaussian processes, as `BaselineComparison` has it, or the `reason` why
        there is none; not there where it was not asked for.
    top : list of dict
        Verified trials, the best one first.
    refused : list of dict
        Refused trials, in the order in which they were tried.
    """

    state: str
    metric: str
    trials: dict[str, int]
    utilisation: float | None
    seconds: dict[str, float]
    rank_hours: float
    allocated_rank_hours: float
    reason: str | None
    retried: int
    eta_seconds: float | None
    table: list[TrialRow]
    failures: list[ErrorGroup]
    prunings: dict[str, int]
    wall_seconds: float
    sweeps: dict[str, SweepAccount]
    best: ExportedTrial
    ensemble: ExportedEnsemble
    baseline: JsonObject
    top: list[VerifiedTrial]
    refused: list[RefusedTrial]
