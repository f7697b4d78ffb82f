"""Status of a sweep: counts, the best trial so far, the place and speed of each one, an estimate of the time left."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.records.metrics import Metrics, read_metrics
from glrnn_hpc.records.ownership import read_lease_time
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.records.sweep_summary import SweepSummary, TrialRow
from glrnn_hpc.records.trial_result import read_trial_result
from glrnn_hpc.records.utilisation import read_utilisation
from glrnn_hpc.search.goal import best_of
from glrnn_hpc.search.sweep import trial_config
from glrnn_hpc.study import leases
from glrnn_hpc.study.ranking import best_first
from glrnn_hpc.study.slots import STATES, Slot
from glrnn_hpc.study.study import SweepStudy

logger = logging.getLogger(__name__)


def summarize(root: Path) -> SweepSummary:
    """Return the state of a sweep.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep.
    RecordError
        If its state cannot be read.
    """
    study = SweepStudy(layout.SweepFolder(root))
    slots = study.slots()
    state = read_sweep_state(study.folder)
    best = next(iter(best_first(slots, study.spec.goal)), None)
    table = [_row(study, slot) for slot in slots]
    seconds = seconds_by_kind(study.folder)
    return {
        "state": state.state,
        "reason": state.reason,
        "metric": study.spec.metric,
        "trials": {name: sum(row["state"] == name for row in table) for name in STATES},
        "retried": sum(slot.state == "retried" for slot in slots),
        "best": None if best is None or best.value is None else {"number": best.number, "value": best.value},
        "eta_seconds": _seconds_left(table) if state.state == "running" else None,
        "utilisation": utilisation_of(seconds),
        "seconds": seconds,
        "table": table,
    }


def seconds_by_kind(folder: layout.SweepFolder) -> dict[str, float]:
    """Return the recorded time of all ranks of a sweep by its kinds."""
    seconds: Counter[str] = Counter()
    for _, line in read_utilisation(folder):
        seconds.update(line.seconds)
    return dict(seconds)


def utilisation_of(seconds: Mapping[str, float]) -> float | None:
    """Return the part of the time in fit and evaluate; None if no time is recorded."""
    total = sum(seconds.values())
    return (seconds.get("fit", 0.0) + seconds.get("evaluate", 0.0)) / total if total else None


def _row(study: SweepStudy, slot: Slot) -> TrialRow:
    trial = study.folder.trial(slot.number)
    generation = trial.newest_generation()
    owner = leases.owner_of(trial, generation)
    metrics = newest_metrics(trial, generation)
    values = metrics.values(study.spec.metric)
    row: TrialRow = {
        "number": slot.number,
        "state": "waiting" if slot.state == "running" and slot.is_released else slot.state,
        "params": slot.params,
        "value": slot.value,
        "where": None if owner is None else f"{owner.process.host}:{owner.job}:{owner.rank}",
        "generation": generation,
        "epochs": metrics.n_epochs,
        "last": values[-1] if values else None,
        "best_so_far": best_of(values, study.spec.goal) if values else None,
        "started": None,
        "seconds": None,
        "epochs_per_minute": None,
        "eta_seconds": None,
    }
    try:
        if trial.result.exists():
            result = read_trial_result(trial)
            row["started"], row["seconds"], row["error"] = result.started, result.seconds, result.error
        elif generation:
            _add_progress(row, study, slot, read_lease_time(trial, generation))
    except (OSError, RecordError) as error:  # removed, or damaged by a crash of the file server
        row["error"] = str(error)
    return row


def _add_progress(row: TrialRow, study: SweepStudy, slot: Slot, began: float) -> None:
    """Add to the row of a trial without result how fast it goes since its owner began it [s since 1970]."""
    row["seconds"] = time.time() - began
    row["epochs_per_minute"] = rate = _rate(study.folder.trial(slot.number), row["generation"], began)
    if rate is not None and row["state"] == "running":
        n_epochs = trial_config(study.spec, slot.params).epochs
        row["eta_seconds"] = 60 * max(0, n_epochs - row["epochs"]) / rate


def newest_metrics(trial: layout.TrialFolder, generation: int) -> Metrics:
    """Return the metrics of a trial, those of its newest `generation` while it runs."""
    metrics = _metrics(trial.metrics)
    if not metrics.rows:
        metrics = _metrics(trial.generation(generation).metrics)
    # A trial that was adopted a moment ago has no rows of its own yet.
    return metrics if metrics.rows else _metrics(trial.generation(generation - 1).metrics)


def _rate(trial: layout.TrialFolder, generation: int, began: float) -> float | None:
    """Return the epochs per minute of the newest owner alone, by the time of its last one."""
    file = trial.generation(generation).metrics
    n_epochs = _metrics(file).n_epochs - _metrics(trial.generation(generation - 1).metrics).n_epochs
    if n_epochs <= 0:
        return None
    try:
        written = file.stat().st_mtime
    except FileNotFoundError:  # the trial has just ended, and its files were moved
        return None
    return 60 * n_epochs / max(written - began, 1e-3)


def _metrics(file: Path) -> Metrics:
    try:
        return read_metrics(file)
    except RecordError as error:  # damaged by a crash of the file server
        logger.warning("%s; it is left out", error)
        return Metrics()


def _seconds_left(table: list[TrialRow]) -> float | None:
    done = [row["seconds"] for row in table if row["state"] in ("finished", "pruned") and row["seconds"] is not None]
    running = [row["seconds"] or 0.0 for row in table if row["state"] == "running"]
    n_waiting = sum(row["state"] == "waiting" for row in table)
    if not done or not running:
        return None
    mean = sum(done) / len(done)
    return float((n_waiting * mean + sum(max(0.0, mean - seconds) for seconds in running)) / len(running))
