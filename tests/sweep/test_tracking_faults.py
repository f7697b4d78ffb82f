"""W&B fails inside real workers: trials finish, their records are whole, and `glrnn sync` knows what is missing."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import config, layout
from glrnn_hpc.launch import resume_sweep, run_sweep
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.tracking.offline_runs import offline_runs
from tests.conftest import write_steps
from tests.offline import metrics_of, newest
from tests.sweep.test_tracking import glrnn, services_of, until

#: Enough for a process to be killed in the middle of a trial.
EPOCHS = 60

RATES = (1e-3, 2e-3, 3e-3)

#: A package that is there and cannot be imported, such as one of another Python.
BROKEN = "raise ImportError('no W&B on this node')\n"


def write_sweep(root: Path, n_trials: int, epochs: int) -> None:
    keys: dict[str, Any] = {"raw_data": str(write_steps(root / "a.hdf5", n_samples=8)), "window_size": 3}
    keys |= {"lstm_units": 4, "dense_units": 4, "epochs": epochs, "patience": epochs, "batch_size": 8}
    keys |= {"train_frac": 0.5, "val_frac": 0.25, "learning_rate": {"values": list(RATES[:n_trials])}}
    (root / "s.yaml").write_text(config.dump_yaml({"method": "grid", "parameters": keys}))


def assert_whole(sweep: layout.SweepFolder, n_trials: int, epochs: int) -> None:
    """Check that each trial has finished at its first try, with all that a sweep without W&B has."""
    for number in range(n_trials):
        trial = sweep.trial(number)
        result = layout.read_json(trial.result)
        assert (result["state"], result["generation"], result["epochs"]) == ("finished", 1, epochs)
        rows = read_metrics(trial.metrics).rows
        assert [row["epoch"] for row in rows] == list(range(1, epochs + 1))
        assert np.isfinite([list(row.values()) for row in rows]).all()
        assert min(row["val_loss"] for row in rows) == pytest.approx(result["metrics"]["val_loss"])
        assert trial.model(weights_only=False).exists()


def warnings_in(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("WARNING glrnn_hpc.")]


def planned(sweep: layout.SweepFolder) -> list[tuple[str, str, str]]:
    ran = glrnn(sweep.root.parent, "sync", "sweep", "--dry-run", "--json")
    assert ran.returncode == 0, ran.stderr
    return [(run["name"], run["state"], run["reason"]) for run in json.loads(ran.stdout)["runs"]]


def test_a_folder_that_cannot_be_made_and_a_service_that_is_killed_cost_a_worker_those_runs_only(tmp_path: Path):
    write_sweep(tmp_path, 3, EPOCHS)
    sweep = run_sweep(load_sweep(tmp_path / "s.yaml"), tmp_path / "sweep", n_workers=0, wandb="offline")
    first, second, third = (sweep.trial(number) for number in range(3))
    first.root.mkdir(parents=True)
    first.wandb.write_text("a file stands where the folder should be")
    begun = glrnn(tmp_path, "resume", "sweep", "--workers", 1, "--ranks-per-worker", 1, "--no-wait")
    assert begun.returncode == 0, begun.stderr

    until(lambda: offline_runs(second) and second.checkpoint_file(1).exists())
    worker = sweep.worker("local-000")
    (rank,) = layout.read_json(worker.record)["ranks"]
    (service,) = services_of(rank["pid"])
    os.kill(service, signal.SIGKILL)
    assert not second.result.exists(), "in the middle of the trial"
    resume_sweep(sweep.root)

    assert_whole(sweep, 3, EPOCHS)
    assert layout.read_json(worker.record)["ranks"] == [rank], "the same process has trained all of them"
    said = worker.stderr.read_text()
    for message in ("W&B cannot start, trial 0 goes on without it: ", "W&B failed, the training goes on without it: "):
        assert message in said
    assert len(warnings_in(said)) == 1, "the first failure is a warning, the next ones are not"
    assert first.wandb.is_file()
    assert newest(second).exit_code is None
    assert metrics_of(newest(third))[-1]["epoch"] == EPOCHS, "with a new service"
    lost = "from the records of the trial"
    assert planned(sweep) == [
        ("trial 0", "would sync", lost),
        ("trial 1", "would sync", lost),
        ("trial 2", "would sync", ""),
    ]


def test_a_worker_that_cannot_import_wandb_trains_all_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_sweep(tmp_path, 2, 2)
    (tmp_path / "broken/wandb").mkdir(parents=True)
    (tmp_path / "broken/wandb/__init__.py").write_text(BROKEN)
    sweep = layout.SweepFolder(tmp_path / "sweep")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "broken"), os.environ.get("PYTHONPATH", "")]))
        ran = glrnn(tmp_path, "sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", 1, "--wandb", "offline")
    assert ran.returncode == 0, ran.stderr
    assert_whole(sweep, 2, 2)
    said = sweep.worker("local-000").stderr.read_text()
    (warning,) = warnings_in(said)
    assert "W&B cannot start, trial 0 goes on without it: ImportError: no W&B on this node" in warning
    assert not any(sweep.trial(number).wandb.exists() for number in range(2))
    shutil.rmtree(tmp_path / "broken")
    assert planned(sweep) == [(f"trial {k}", "would sync", "from the records of the trial") for k in range(2)]
