"""Cost of a sweep: rank hours, wall time, prunings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.records.sweep_summary import SweepSummary, TrialRow
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.cost import cost_of


def row(number: int, state: str, epochs: int, started: float | None, seconds: float | None) -> TrialRow:
    return {"number": number, "state": state, "epochs": epochs, "started": started, "seconds": seconds}


def test_the_cost_of_a_sweep_counts_the_ranks_of_each_trial(tmp_path: Path):
    rate = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}
    keys = {"raw_data": {"value": "a.hdf5"}, "learning_rate": rate, "ranks_per_trial": {"value": 2}}
    spec = load_sweep({"method": "random", "parameters": keys})
    study = SweepStudy(creation.create(tmp_path / "sweep", spec, 4, LaunchPlan()))
    study.change_state(lambda state: replace(state, created=1000.0))
    table = [
        row(0, "pruned", 10, 1000.0, 1800.0),
        row(1, "finished", 20, 1500.0, 3600.0),
        row(2, "pruned", 2, 3000.0, 900.0),
        row(3, "pruned", 2, 2000.0, 900.0),
        row(4, "waiting", 0, None, None),
    ]
    summary: SweepSummary = {
        "state": "finished",
        "reason": None,
        "metric": "val_loss",
        "trials": {},
        "retried": 0,
        "best": None,
        "eta_seconds": None,
        "utilisation": 0.8,
        "seconds": {"fit": 14400.0, "idle": 3600.0},
        "table": table,
    }
    cost = cost_of(study, summary)
    # Two ranks in each of two hours; the last result is the one of the second trial, which ended at 5100 s.
    assert (cost["rank_hours"], cost["allocated_rank_hours"], cost["wall_seconds"]) == (4.0, 5.0, 4100.0)
    assert list(cost["prunings"].items()) == [("2", 2), ("10", 1)]
