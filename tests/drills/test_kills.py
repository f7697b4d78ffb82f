"""Real sweeps whose workers and launchers are killed: nothing is lost, nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import config, layout, processes
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.search import samplers
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import leases, liveness
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.status import summarize
from tests.conftest import SLEEPERS, write_steps

N_TRIALS = 24
N_KILLS = 8
EPOCHS = 30
#: Variables of commands whose workers sleep, where a drill proves nothing of a training.
SLEEPING = {"PYTHONPATH": f"{SLEEPERS}{os.pathsep}{SLEEPERS.parents[1]}", "SLEEPERS_EPOCH": "0.1"}
TIMES = ("--heartbeat", "0.5", "--dead-after", "20", "--hang-timeout", "120")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "glrnn_hpc", *arguments]


def run(cwd: Path, variables: dict[str, str], *arguments: str) -> None:
    ran = subprocess.run(
        command(*arguments), cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=240
    )
    assert ran.returncode == 0, ran.stderr


def spec_of(root: Path, method: str) -> SweepSpec:
    """Return a sweep of 24 trials of a few seconds: LSTM 4 on 8 sequences, or as long asleep."""
    data = write_steps(root / "a.hdf5", n_samples=8)
    fixed = {
        "raw_data": str(data),
        "lstm_units": 4,
        "dense_units": 4,
        "epochs": EPOCHS,
        "patience": EPOCHS,
        "batch_size": 8,
    }
    rates = {"values": [1e-3, 2e-3, 5e-3, 1e-2]} if method == "grid" else {"min": 1e-3, "max": 1e-2}
    searched = {"window_size": {"values": [3, 4]}, "seed": {"values": [1, 2, 3]}, "learning_rate": rates}
    parameters = {**fixed, **searched, "train_frac": 0.5, "val_frac": 0.25}
    return load_sweep({"method": method, "run_cap": N_TRIALS, "parameters": parameters})


def victim(study: SweepStudy, spared: set[int]) -> processes.Process | None:
    """Return a process that trains a trial and has finished an epoch of it; None if there is none now."""
    for slot in study.slots():
        trial = study.folder.trial(slot.number)
        generation = trial.newest_generation()
        if slot.state != "running" or not trial.checkpoint_file(generation).exists():
            continue
        owner = leases.owner_of(trial, generation)
        if owner is not None and owner.process.pid not in spared and owner.process.is_alive():
            return owner.process
    return None


def mapped_segments(cwd: Path) -> set[str]:
    """Return the names in /dev/shm that processes with this current folder map: those that a test started."""
    names: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended just now, or is another user's
            if (process / "cwd").readlink() == cwd:
                names.update(re.findall(r" /dev/shm/(\S+)", (process / "maps").read_text()))
    return names


def values_of(folder: layout.SweepFolder) -> dict[str, float]:
    results = [layout.read_json(folder.trial(number).result) for number in range(N_TRIALS)]
    return {json.dumps(result["point"], sort_keys=True): result["value"] for result in results}


def test_24_trials_survive_8_kills_and_come_out_as_in_an_undisturbed_run(tmp_path: Path):
    spec = spec_of(tmp_path, "random")
    folder = survive_kills(spec, tmp_path, dict(os.environ), n_workers=3, n_ranks=1)
    assert collect(folder.root)["refused"] == []
    whole = run_sweep(spec, tmp_path / "whole", n_workers=3, ranks_per_worker=1)
    assert values_of(whole) == values_of(folder), "bit for bit, with as many threads"


def test_24_sleeping_trials_of_a_grid_on_workers_of_two_ranks_survive_8_kills(tmp_path: Path):
    survive_kills(spec_of(tmp_path, "grid"), tmp_path, {**os.environ, **SLEEPING}, n_workers=2, n_ranks=2)


def survive_kills(
    spec: SweepSpec, tmp_path: Path, variables: dict[str, str], n_workers: int, n_ranks: int
) -> layout.SweepFolder:
    """Kill workers of a sweep while they train; check that each trial is done once, and return the sweep."""
    seed = int(os.environ.get("GLRNN_DRILL_SEED", "11"))
    chance = random.Random(seed)
    (tmp_path / "s.yaml").write_text(config.dump_yaml(spec.as_dict()))
    size = ("--workers", str(n_workers), "--ranks-per-worker", str(n_ranks))
    run(tmp_path, variables, "sweep", "s.yaml", "--out", "killed", *size, "--no-wait", *TIMES)
    folder = layout.SweepFolder(tmp_path / "killed")
    study = SweepStudy(folder)
    killed: set[int] = set()
    segments: set[str] = set()
    end = time.monotonic() + 480
    while not study.is_finished():
        assert time.monotonic() < end, f"seed {seed}: {[slot.state for slot in study.slots()]}"
        time.sleep(chance.uniform(0.1, 0.6))
        process = victim(study, killed) if len(killed) < N_KILLS else None
        # Before the kill. A new name in /dev/shm that nobody maps may be that of a test which runs at the same time and
        # kills, too: only who has mapped a segment tells whose it was.
        segments |= mapped_segments(tmp_path)
        if process is None:
            continue
        os.kill(process.pid, signal.SIGKILL)
        killed.add(process.pid)
        run(tmp_path, variables, "resume", "killed", "--no-wait")
    run(tmp_path, variables, "resume", "killed")

    assert len(killed) >= N_KILLS
    summary = summarize(folder.root)
    assert summary["state"] == "finished"
    assert summary["trials"] == {"finished": N_TRIALS, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    expected = [samplers.point_of(spec, number) for number in range(N_TRIALS)]
    assert [row["params"] for row in summary["table"]] == expected
    assert len(values_of(folder)) == N_TRIALS
    generations = [folder.trial(number).newest_generation() for number in range(N_TRIALS)]
    assert sum(generations) >= N_TRIALS + N_KILLS - 1, "one of those killed may have published already"
    for number in range(N_TRIALS):
        assert len(folder.trial(number).metrics.read_text().splitlines()) == 1 + EPOCHS
        assert not list(folder.trial(number).root.glob("checkpoint-*"))
    assert list(folder.root.rglob(".*")) == []
    for worker in folder.all_workers():
        segments |= set(layout.read_json(worker.record)["shared_memory"])
    assert n_ranks == 1 or segments, "the ranks of a worker map a segment of MPICH"
    assert [name for name in segments if (processes.SHARED_MEMORY / name).exists()] == []
    return folder


# Where the launcher is when it is killed: what of the sweep's folder is there.
STAGES: dict[str, Callable[[layout.SweepFolder], bool]] = {
    "making the folder": lambda folder: any(folder.root.parent.glob(f".*.{folder.root.name}")),
    "folder made": lambda folder: folder.state.exists(),
    "worker's folder made": lambda folder: any(folder.workers.glob("*")),
    "worker started": lambda folder: any(folder.workers.glob("*/started.json")),
    "worker registered": lambda folder: any(folder.workers.glob("*/worker.json")),
    "trial claimed": lambda folder: any(folder.trials.glob("*/lease-1.json")),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_launcher_that_is_killed_while_it_starts_is_resumed(stage: str, tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5", n_samples=8)
    keys: dict[str, Any] = {"raw_data": str(data), "lstm_units": 4, "dense_units": 4, "epochs": 2, "window_size": 3}
    keys |= {"seed": {"min": 1, "max": 99}, "train_frac": 0.5, "val_frac": 0.25}
    # Many slots, so that making the folder can be met; a target ends the sweep after a few of them.
    metric = {"name": "val_loss", "goal": "minimize", "target": 1e9}
    content = {"method": "random", "metric": metric, "run_cap": 300, "parameters": keys}
    (tmp_path / "s.yaml").write_text(config.dump_yaml(content))
    folder = layout.SweepFolder(tmp_path / "sweep")
    start = command("sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", "1", "--heartbeat", "0.5")
    variables = {**os.environ, **SLEEPING}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    launcher = subprocess.Popen(start, cwd=tmp_path, env=variables, **silent)
    end = time.monotonic() + 60
    while not STAGES[stage](folder):
        assert time.monotonic() < end, stage
        assert launcher.poll() is None, stage
        time.sleep(0.001)
    launcher.kill()
    launcher.wait()

    resume = command("resume", "sweep")
    said: dict[str, Any] = {"capture_output": True, "text": True, "check": False, "timeout": 120}
    resumed = subprocess.run(resume, cwd=tmp_path, env=variables, **said)
    if not folder.root.exists():
        # Nothing had begun: the command says so, and the same sweep can be started again.
        assert resumed.returncode == 2
        assert "is not a sweep folder; `glrnn sweep` makes one" in resumed.stderr
        resumed = subprocess.run(start, cwd=tmp_path, env=variables, **said)
    assert resumed.returncode == 0, resumed.stderr
    assert summarize(folder.root)["trials"]["finished"] >= 1
    assert layout.read_json(folder.state)["reason"].startswith("trial ")
    assert [path for path in tmp_path.rglob(".*")] == []
    assert not any(liveness.is_alive(worker) for worker in folder.all_workers())
