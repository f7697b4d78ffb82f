"""Operations a second that a study takes from many processes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glrnn_hpc import layout
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation, study
from tests.storage.conftest import database, server  # noqa: F401

RESULTS = Path(__file__).parent / "results"
#: Claim, point and end of each trial; a race that was lost costs one more, which is not counted.
OPERATIONS = 3


def seconds(root: Path, n_workers: int, n_trials: int, url: str | None) -> float:
    parameters = {"raw_data": "none.hdf5", "learning_rate": {"min": 1e-4, "max": 1e-2}}
    spec = load_sweep({"method": "random", "run_cap": n_trials, "parameters": parameters})
    folder = creation.create(root, spec, n_trials, LaunchPlan(), url=url)
    command = [sys.executable, "-m", "tests.storage.crowd", str(folder.root), str(n_workers)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert study.SweepStudy(layout.SweepFolder(root)).is_finished()
    return float(ran.stdout)


def test_operations_per_second(tmp_path: Path, request: pytest.FixtureRequest):
    rows = []
    for kind, n_workers, n_trials in (
        ("journal", 1, 200),
        ("journal", 16, 320),
        ("journal", 64, 1280),
        ("postgresql", 16, 160),
    ):
        url = request.getfixturevalue("database") if kind == "postgresql" else None
        taken = seconds(tmp_path / f"{kind}-{n_workers}", n_workers, n_trials, url)
        rows.append(f"| {kind} | {n_workers} | {n_trials} | {taken:.1f} | {OPERATIONS * n_trials / taken:.0f} |")
    lines = [
        "Processes on one machine that claim and settle instant trials, on its local disk.",
        "",
        "| storage | processes | trials | seconds | operations per second |",
        "|---|---|---|---|---|",
        *rows,
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "storage.md").write_text("\n".join(lines) + "\n")
