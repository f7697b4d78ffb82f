"""Cost of a sweep and its failures: time, rank hours, errors, prunings."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable

from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.records.sweep_summary import ErrorGroup, SweepCost, SweepSummary
from glrnn_hpc.study.study import SweepStudy

#: What differs between errors of the same kind.
_NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)\b")


def cost_of(study: SweepStudy, summary: SweepSummary) -> SweepCost:
    """Return the cost of a sweep and its failures.

    Parameters
    ----------
    study : SweepStudy
        The sweep; it may still be running.
    summary : dict
        Of the same sweep, from `status.summarize`.
    """
    table = summary["table"]
    ended = [(row["started"], row["seconds"] or 0.0) for row in table if row["started"] is not None]
    epochs = Counter(row["epochs"] for row in table if row["state"] == "pruned")
    created = read_sweep_state(study.folder).created
    last_result = max((started + seconds for started, seconds in ended), default=created)
    until = time.time() if summary["state"] == "running" else last_result
    return {
        "failures": group_errors((row["number"], row.get("error")) for row in table if row["state"] == "failed"),
        "prunings": {str(epoch): epochs[epoch] for epoch in sorted(epochs)},
        "rank_hours": sum(seconds for _, seconds in ended) * study.spec.ranks_per_trial / 3600,
        "allocated_rank_hours": sum(summary["seconds"].values()) / 3600,
        "wall_seconds": max(0.0, until - created),
    }


def group_errors(failed: Iterable[tuple[int, str | None]]) -> list[ErrorGroup]:
    """Group failed trials by their errors, whatever numbers stand in these; the most frequent first.

    Parameters
    ----------
    failed : iterable of (int, str or None)
        Numbers of the trials and their errors; None if the result of a trial is missing.
    """
    groups: dict[str, ErrorGroup] = {}
    for number, reason in failed:
        error = reason or "its result.json is missing"
        group = groups.setdefault(_NUMBER.sub("#", error), {"error": error, "trials": []})
        group["trials"].append(number)
    return sorted(groups.values(), key=lambda group: -len(group["trials"]))
