"""A real sweep that is logged to W&B: trials that finish, are pruned, fail, are released and are adopted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import config, layout, predict, processes
from glrnn_hpc.launch import resume_sweep
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.records.tracking_settings import read_tracking_settings
from glrnn_hpc.study import liveness
from glrnn_hpc.tracking.offline_runs import offline_runs
from tests.conftest import write_steps
from tests.offline import OfflineRun, metrics_of, newest
from tests.users_files import names_that_were_run, write_files_named_like_libraries

EPOCHS = 30
STATES = ("finished", "failed", "finished", "pruned")


def until(condition: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def glrnn(cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glrnn_hpc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)


def services_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for path in children for child in path.read_text().split()]
    return [child for child in found if "wandb-core" in Path(f"/proc/{child}/comm").read_text()]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> layout.SweepFolder:
    """Run a sweep of four trials on one rank, which is killed in the first and told to leave in the third."""
    root = tmp_path_factory.mktemp("tracked")
    keys: dict[str, Any] = {"raw_data": str(write_steps(root / "a.hdf5", n_samples=8)), "window_size": 3}
    keys |= {"lstm_units": 4, "dense_units": 4, "epochs": EPOCHS, "patience": EPOCHS, "batch_size": 8}
    keys |= {"train_frac": 0.5, "val_frac": 0.25}
    keys |= {"learning_rate": {"values": [1e-2, 1e30, 9e-3, 1e-7]}}
    early = {"type": "hyperband", "min_iter": 20, "eta": 2}
    content = {"method": "grid", "name": "night", "early_terminate": early, "parameters": keys}
    content["metric"] = {"name": "val_loss", "goal": "minimize"}
    (root / "s.yaml").write_text(config.dump_yaml(content))
    write_files_named_like_libraries(root)
    start = ["sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", 1, "--no-wait", "--heartbeat", "0.2"]
    started = glrnn(root, *start, "--wandb", "offline", "--wandb-sweep", "me/dem/ab12cd34")
    assert started.returncode == 0, started.stderr
    folder = layout.SweepFolder(root / "sweep")
    until(lambda: folder.trial(0).checkpoint_file(1).exists())
    (rank,) = layout.read_json(folder.worker("local-000").record)["ranks"]
    (service,) = services_of(rank["pid"])
    os.kill(rank["pid"], signal.SIGKILL)
    until(lambda: not processes.process(service).started, 10)
    resumed = glrnn(root, "resume", "sweep", "--no-wait")
    assert resumed.returncode in (0, 3), resumed.stderr
    until(lambda: folder.trial(2).checkpoint_file(1).exists())
    (rank,) = layout.read_json(folder.worker("local-001").record)["ranks"]
    os.kill(rank["pid"], signal.SIGUSR2)
    until(lambda: not liveness.is_alive(folder.worker("local-001")))
    given_back = newest(folder.trial(2))
    assert (given_back.exit_code, given_back.is_preempting) == (75, True)
    assert given_back.summary["state"] == "given back"
    resume_sweep(folder.root)
    assert names_that_were_run(root) == []
    return folder


@pytest.fixture(scope="module")
def runs(sweep: layout.SweepFolder) -> list[OfflineRun]:
    return [newest(sweep.trial(number)) for number in range(4)]


def test_each_trial_is_one_run_whoever_trained_it(sweep: layout.SweepFolder, runs: list[OfflineRun]):
    tracking = read_tracking_settings(sweep)
    assert tracking is not None
    assert [layout.read_json(sweep.trial(number).result)["generation"] for number in range(4)] == [2, 1, 2, 1]
    for number, run in enumerate(runs):
        (offline_run,) = offline_runs(sweep.trial(number))
        assert offline_run.state == STATES[number]
        assert (run.run.run_id, run.run.run_group, run.run.sweep_id) == (
            f"{tracking.prefix}-{number}",
            "night",
            "ab12cd34",
        )
        assert run.summary["state"] == STATES[number]
    assert [run.exit_code for run in runs] == [0, 1, 0, 0]
    assert [run.is_preempting for run in runs] == [False] * 4
    assert runs[3].tags == ["grid", "pruned"]
    assert "learning_rate=1e+30 is too high" in runs[1].summary["error"]


def test_the_history_of_each_run_is_that_of_the_trial(sweep: layout.SweepFolder, runs: list[OfflineRun]):
    for number, run in enumerate(runs):
        rows = [dict(row) for row in read_metrics(sweep.trial(number).metrics).rows]
        if number != 1:
            metrics = layout.read_json(sweep.trial(number).result)["metrics"]
            rows[-1] |= {name: metrics[name] for name in ("test_loss", "test_mae")}
            assert {name: run.summary[name] for name in metrics} == metrics
        assert metrics_of(run) == rows
        assert [row["_step"] for row in run.history] == [row["epoch"] for row in rows]
    assert [len(run.history) for run in runs] == [EPOCHS, 0, EPOCHS, 20]


def test_the_files_of_a_run_are_those_of_its_trial(sweep: layout.SweepFolder, runs: list[OfflineRun]):
    for number in (0, 2, 3):
        trial = sweep.trial(number)
        (offline_run,) = offline_runs(trial)
        assert runs[number].files == {"sweep.yaml", "train_stats.json", layout.MODEL_WHOLE}
        for name in runs[number].files - {"sweep.yaml"}:
            assert (offline_run.folder.files / name).read_bytes() == (trial.root / name).read_bytes()
        assert (offline_run.folder.files / "sweep.yaml").read_bytes() == sweep.sweep.read_bytes()
        assert predict.get_pretrained_model(offline_run.folder.files)[2]["epochs"] == EPOCHS
        assert runs[number].config == predict.get_pretrained_model(trial.root)[2]


def test_the_time_that_tracking_takes_is_in_the_timeline(sweep: layout.SweepFolder):
    lines = [json.loads(line) for line in sweep.worker("local-001").utilisation.read_text().splitlines()]
    assert [line["seconds"]["track"] > 0 for line in lines if line["trial"] is not None] == [True] * 3
