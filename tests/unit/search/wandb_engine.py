"""Program that asks W&B's engine of sweeps which runs it stops; it runs in an environment of its own.

It reads a list of cases from stdin, each with `early_terminate`, `goal` and the `histories` of runs that are running.
It writes of each which runs are stopped, the bands, and their cutoffs with the sign of a metric to minimise.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")  # pydantic's of the engine itself

from sweeps import RunState, SweepRun, stop_runs  # noqa: E402


def decisions(case: dict[str, Any]) -> dict[str, Any]:
    """Return what the engine decides on a case."""
    settings = {
        "method": "random",
        "metric": {"name": "val_loss", "goal": case["goal"]},
        "early_terminate": {"type": "hyperband", **case["early_terminate"]},
        "parameters": {"a": {"values": [1, 2]}},
    }
    runs = [
        SweepRun(name=str(number), state=RunState.running, history=[{"val_loss": value} for value in history])
        for number, history in enumerate(case["histories"])
    ]
    stopped = {run.name for run in stop_runs(settings, runs)}
    seen: Any = runs[0].early_terminate_info
    return {
        "stopped": [run.name in stopped for run in runs],
        "bands": seen["bands"],
        "cutoffs": [float(cutoff) for cutoff in seen["thresholds"]],
    }


if __name__ == "__main__":
    json.dump([decisions(case) for case in json.load(sys.stdin)], sys.stdout)
