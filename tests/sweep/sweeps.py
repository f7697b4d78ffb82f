"""Sweeps of networks that train in a second, and who trained their trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep


def spec_of(data: Path, n_trials: int = 6, **parameters: Any) -> SweepSpec:
    fixed = {"raw_data": str(data), "lstm_units": 4, "dense_units": 4, "epochs": 2, "batch_size": 32}
    searched = {"window_size": {"values": [3, 4]}, "learning_rate": {"min": 1e-3, "max": 1e-2}}
    return load_sweep({"method": "random", "run_cap": n_trials, "parameters": {**fixed, **searched, **parameters}})


def owners(folder: layout.SweepFolder) -> list[tuple[str, int]]:
    leases = [layout.read_json(path) for path in folder.trials.glob("*/lease-*.json")]
    return [(lease["job"], lease["rank"]) for lease in leases]
