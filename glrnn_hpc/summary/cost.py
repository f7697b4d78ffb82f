"""What a sweep cost and what went wrong in it: time, rank hours, failures, prunings."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

from glrnn_hpc.study.study import SweepStudy

#: What differs between errors of the same kind.
_NUMBER = re.compile(r"(?<![A-Za-z_])[-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf)\b")


def account(study: SweepStudy, summary: dict[str, Any]) -> dict[str, Any]:
    """Return what a sweep cost and what went wrong.

    Parameters
    ----------
    study : SweepStudy
        The sweep; it may still be running.
    summary : dict
        What `status.summarize` returns of it.

    Returns
    -------
    dict
        `failures`, see `group_errors`; `prunings`, how many trials were stopped after which epoch; `rank_hours`, the
        time that trials with a result took their last owners, times the ranks that trained each;
        `allocated_rank_hours`, all the time of all ranks, that of their start and their waiting too, as far as they
        wrote it; `wall_seconds`, from the making of the sweep to its last result, or to now while it runs.
    """
    table = summary["table"]
    ended = [row for row in table if row["started"] is not None]
    epochs = Counter(row["epochs"] for row in table if row["state"] == "pruned")
    created = study.folder.read_state()["created"]
    until = time.time() if summary["state"] == "running" else max((_end(row) for row in ended), default=created)
    return {
        "failures": group_errors(table),
        "prunings": {str(epoch): epochs[epoch] for epoch in sorted(epochs)},
        "rank_hours": sum(row["seconds"] for row in ended) * study.spec.ranks_per_trial / 3600,
        "allocated_rank_hours": sum(summary["seconds"].values()) / 3600,
        "wall_seconds": max(0.0, until - created),
    }


def group_errors(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Group the failed trials of a table by their errors, whatever numbers stand in these; the most frequent first.

    Returns
    -------
    list of dict
        `error`, that of the first trial of the group, and `trials`, their numbers.
    """
    groups: dict[str, dict[str, Any]] = {}
    for row in table:
        if row["state"] == "failed":
            error = row.get("error") or "its result.json is missing"
            group = groups.setdefault(_NUMBER.sub("#", error), {"error": error, "trials": []})
            group["trials"].append(row["number"])
    return sorted(groups.values(), key=lambda group: -len(group["trials"]))


def _end(row: dict[str, Any]) -> float:
    return float(row["started"] + row["seconds"])
