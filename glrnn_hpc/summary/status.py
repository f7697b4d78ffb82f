"""What a sweep has come to: counts, the best trial so far, where each one runs, how long the rest will take."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.search.sweep import trial_config
from glrnn_hpc.study import leases
from glrnn_hpc.study.ranking import best_first
from glrnn_hpc.study.study import STATES, Slot, SweepStudy

logger = logging.getLogger(__name__)


def summarize(root: Path) -> dict[str, Any]:
    """Return the state of a sweep.

    Returns
    -------
    dict
        `state` and its `reason`; `trials`, the number of them in each state, where a trial that was given back counts
        as waiting, and `retried`, the failed ones that others repeat; `best`; `eta_seconds`, an estimate from the
        mean duration of a trial, None before one has finished; `seconds`, how the time of all ranks went, and
        `utilisation`, the part of it in fit and evaluate, None before there is any; `table`, one row per trial with
        its number, state, params, value, where, generation, epochs, last value of the metric and best one so far,
        when its last owner began it if it has a result (`started`, s since 1970), seconds, epochs per minute, seconds
        until the last of its epochs if it does not stop early, error.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep.
    """
    study = SweepStudy(layout.SweepFolder(root))
    slots = study.slots()
    state = study.folder.read_state()
    best = next(iter(best_first(slots, study.spec.goal)), None)
    table = [_row(study, slot) for slot in slots]
    return {
        "state": state["state"],
        "reason": state.get("reason"),
        "metric": study.spec.metric,
        "trials": {name: sum(row["state"] == name for row in table) for name in STATES},
        "retried": sum(slot.state == "retried" for slot in slots),
        "best": None if best is None else {"number": best.number, "value": best.value},
        "eta_seconds": _seconds_left(table) if state["state"] == "running" else None,
        **_utilisation(study.folder),
        "table": table,
    }


def _utilisation(folder: layout.SweepFolder) -> dict[str, Any]:
    seconds: Counter[str] = Counter()
    for _, line in read_utilisation(folder):
        seconds.update(line["seconds"])
    total = sum(seconds.values())
    share = (seconds["fit"] + seconds["evaluate"]) / total if total else None
    return {"utilisation": share, "seconds": dict(seconds)}


def read_utilisation(folder: layout.SweepFolder) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line that the ranks wrote of their time, with its job; one that a death has torn is left out."""
    for worker in folder.all_workers():
        with contextlib.suppress(FileNotFoundError):
            for text in worker.utilisation.read_text(encoding="utf-8", errors="replace").splitlines():
                if (line := _line(text)) is not None:
                    yield worker.root.name, line


def _line(text: str) -> dict[str, Any] | None:
    """Return what a line tells of a rank's time; None if it is none."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        line: dict[str, Any] = json.loads(text)
        line["seconds"] = {str(kind): float(seconds) for kind, seconds in dict(line["seconds"]).items()}
        line["spans"] = [(str(kind), float(seconds)) for kind, seconds in line.get("spans", [])]
        line |= {"rank": int(line["rank"]), "ended": float(line["ended"])}
        if all(map(math.isfinite, [line["ended"], *line["seconds"].values(), *(each for _, each in line["spans"])])):
            return line
    return None


def _row(study: SweepStudy, slot: Slot) -> dict[str, Any]:
    trial = study.folder.trial(slot.number)
    generation = trial.newest_generation()
    owner = leases.owner_of(trial, generation)
    row: dict[str, Any] = {"number": slot.number, "state": slot.state, "params": slot.params, "value": slot.value}
    if slot.state == "running" and slot.is_released:
        row["state"] = "waiting"
    row["where"] = None if owner is None else f"{owner.process.host}:{owner.job}:{owner.rank}"
    row["generation"] = generation
    rows = read_epochs(trial, generation)
    values = [float(line[study.spec.metric]) for line in rows if line.get(study.spec.metric)]
    row["epochs"] = len(rows)
    row["last"] = values[-1] if values else None
    row["best_so_far"] = (min(values) if study.spec.goal == "minimize" else max(values)) if values else None
    row["started"] = row["seconds"] = None
    row["epochs_per_minute"] = row["eta_seconds"] = None
    try:
        if trial.result.exists():
            result = layout.read_record(trial.result, "started", "seconds")
            times = float(result["started"]), float(result["seconds"])
            if not all(map(math.isfinite, times)):
                raise ValueError(f"{trial.result}: is broken: started and seconds are {times}.")
            row["started"], row["seconds"] = times
            row["error"] = result.get("error")
        elif generation:
            _add_progress(row, study, slot, float(layout.read_record(trial.lease(generation), "time")["time"]))
    except (OSError, ValueError, TypeError) as error:  # removed, or damaged by a crash of the file server
        row["error"] = str(error)
    return row


def _add_progress(row: dict[str, Any], study: SweepStudy, slot: Slot, began: float) -> None:
    """Tell of a trial without result how fast it goes since its owner began it [s since 1970]."""
    row["seconds"] = time.time() - began
    row["epochs_per_minute"] = rate = _rate(study.folder.trial(slot.number), row["generation"], began)
    if rate is not None and row["state"] == "running":
        n_epochs = trial_config(study.spec, slot.params).epochs
        row["eta_seconds"] = 60 * max(0, n_epochs - row["epochs"]) / rate


def read_epochs(trial: layout.TrialFolder, generation: int) -> list[dict[str, str]]:
    """Return the rows of `metrics.csv` of a trial, of its newest `generation` while it runs."""
    rows = _metrics(trial.metrics) or _metrics(trial.generation(generation).metrics)
    # A trial that was adopted a moment ago has no rows of its own yet.
    return rows or _metrics(trial.generation(generation - 1).metrics)


def _rate(trial: layout.TrialFolder, generation: int, began: float) -> float | None:
    """Return the epochs per minute of the newest owner alone, by the time of its last one."""
    file = trial.generation(generation).metrics
    rows, earlier = _metrics(file), _metrics(trial.generation(generation - 1).metrics)
    n_epochs = len(rows) - len(earlier)
    if n_epochs <= 0:
        return None
    try:
        written = file.stat().st_mtime
    except FileNotFoundError:  # the trial has just ended, and its files were brought up
        return None
    return 60 * n_epochs / max(written - began, 1e-3)


def _metrics(file: Path) -> list[dict[str, str]]:
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
        for row in rows:
            for value in filter(None, row.values()):
                float(value)
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:  # damaged by a crash of the file server
        logger.warning("%s is broken and left out: %s", file, error)
        return []
    return rows


def _seconds_left(table: list[dict[str, Any]]) -> float | None:
    done = [row["seconds"] for row in table if row["state"] in ("finished", "pruned") and row["seconds"] is not None]
    running = [row["seconds"] or 0.0 for row in table if row["state"] == "running"]
    n_waiting = sum(row["state"] == "waiting" for row in table)
    if not done or not running:
        return None
    mean = sum(done) / len(done)
    return float((n_waiting * mean + sum(max(0.0, mean - seconds) for seconds in running)) / len(running))
