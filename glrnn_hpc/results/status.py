"""What a sweep has come to: counts, the best trial so far, where each one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.search import leases
from glrnn_hpc.search.study import STATES, Slot, SweepStudy


def best_first(slots: list[Slot], goal: str) -> list[Slot]:
    """Return the finished trials, the best one first; equal ones in the order of their numbers."""
    finished = [slot for slot in slots if slot.state == "finished" and slot.value is not None]
    sign = 1.0 if goal == "minimize" else -1.0
    return sorted(finished, key=lambda slot: (sign * (slot.value or 0.0), slot.number))


def summarize(root: Path) -> dict[str, Any]:
    """Return the state of a sweep: `state`, the number of trials in each state, the best one, all trials.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep.
    """
    study = SweepStudy(layout.SweepFolder(root))
    slots = study.slots()
    best = next(iter(best_first(slots, study.spec.goal)), None)
    return {
        "state": layout.read_json(study.folder.state)["state"],
        "metric": study.spec.metric,
        "trials": {state: sum(slot.state == state for slot in slots) for state in STATES},
        "best": None if best is None else {"number": best.number, "value": best.value},
        "table": [_row(study, slot) for slot in slots],
    }


def _row(study: SweepStudy, slot: Slot) -> dict[str, Any]:
    trial = study.folder.trial(slot.number)
    owner = leases.owner_of(trial)
    row: dict[str, Any] = {"number": slot.number, "state": slot.state, "params": slot.params, "value": slot.value}
    row["where"] = None if owner is None else f"{owner['host']}:{owner['rank']}"
    row["epochs"] = _n_epochs(trial)
    if slot.state == "failed" and trial.result.exists():
        row["error"] = layout.read_json(trial.result).get("error")
    return row


def _n_epochs(trial: layout.TrialFolder) -> int:
    try:
        return max(0, len(trial.metrics.read_text(encoding="utf-8").splitlines()) - 1)
    except FileNotFoundError:
        return 0
