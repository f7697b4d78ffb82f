"""Content of an offline run of W&B, read back from the client's log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.tracking.offline_log import records
from glrnn_hpc.tracking.offline_runs import offline_runs


@dataclass
class OfflineRun:
    """The records of a log, put together as W&B's server does."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    tags: list[str] = field(default_factory=list)
    exit_code: int | None = None
    is_preempting: bool = False
    n_system_metrics: int = 0


def read_run(log: Path) -> OfflineRun:
    found = OfflineRun()
    for record in records(log):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = found.run or record.run
            found.tags = list(record.run.tags)
            _update(found.config, record.run.config.update)
        elif kind == "config":
            _update(found.config, record.config.update)
        elif kind == "summary":
            _update(found.summary, record.summary.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            found.history.append(row)
        elif kind == "files":
            found.files |= {item.path for item in record.files.files}
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
        found.is_preempting |= kind == "preempting"
        found.n_system_metrics += kind == "stats"
    found.config.pop("_wandb", None)
    return found


def metrics_of(run: OfflineRun) -> list[dict[str, Any]]:
    """Return the rows of the history without what the client adds."""
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in run.history]


def newest(trial: layout.TrialFolder) -> OfflineRun:
    return read_run(offline_runs(trial)[-1].folder.log)


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        keys = list(item.nested_key) or [item.key]
        inner = target
        for key in keys[:-1]:
            inner = inner.setdefault(key, {})
        inner[keys[-1]] = json.loads(item.value_json)
