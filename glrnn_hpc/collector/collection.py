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
        The exported trial.
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
    baseline: JsonObject
    top: list[VerifiedTrial]
    refused: list[RefusedTrial]
