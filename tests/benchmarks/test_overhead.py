"""Cost of Slurm and of the start of the ranks: from submission to the first step, from the last result to the end."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from glrnn_hpc import config, layout
from tests.conftest import write_steps
from tests.slurm.conftest import PROFILE, REPOSITORY
from tests.slurm.conftest import cluster as cluster

RESULTS = Path(__file__).parent / "results"
N_RUNS = 5

PHASES = {
    "glrnn sweep": "the command: checks, folder of the sweep, submission",
    "queue": "until Slurm runs the job",
    "ranks": "until a rank has claimed a trial: MPI, imports, reading",
    "first step": "until the first epoch, of one batch, is on disk: tracing, checkpoint",
    "last trial": "until the last of four trials has its result",
    "end": "until the job has left the queue: MPI, interpreter, batch script",
}


def until(condition: Callable[[], bool]) -> float:
    """Return when `condition` became true."""
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
    return time.time()


def moments(folder: Path, variables: dict[str, str]) -> list[float]:
    """Return when each phase of a sweep of two ranks ended, the beginning first."""
    keys = {"raw_data": str(write_steps(folder / "a.hdf5", n_samples=8)), "lstm_units": 4, "dense_units": 4}
    keys |= {"window_size": 3, "epochs": 3, "batch_size": 1000, "train_frac": 0.5, "val_frac": 0.25}
    content = {"method": "random", "run_cap": 4, "parameters": {**keys, "seed": {"min": 1, "max": 99}}}
    (folder / "s.yaml").write_text(config.dump_yaml(content))
    sweep = layout.SweepFolder(folder / "sweep")
    site = ("--cluster", "slurm", "--profile", str(PROFILE), "--ranks-per-worker", "2", "--no-wait")
    command = [sys.executable, "-m", "glrnn_hpc", "sweep", "s.yaml", "--out", "sweep", *site]
    began = time.time()
    subprocess.run(command, cwd=folder, env=variables, capture_output=True, check=True)
    submitted = time.time()

    def queue() -> str:
        asked = ["squeue", "--noheader", "--format=%T"]
        return subprocess.run(asked, env=variables, capture_output=True, text=True, check=True).stdout.strip()

    running = until(lambda: queue() != "PENDING")
    claimed = until(lambda: any(sweep.trials.glob("*/lease-1.json")))
    stepped = until(lambda: any([*sweep.trials.glob("*/checkpoint-1/state.npz"), *sweep.trials.glob("*/result.json")]))
    finished = until(lambda: len(list(sweep.trials.glob("*/result.json"))) == 4)
    ended = until(lambda: not queue())
    return [began, submitted, running, claimed, stepped, finished, ended]


def test_the_time_that_is_no_training(cluster: dict[str, str], tmp_path: Path):
    variables = {**cluster, "PYTHONPATH": str(REPOSITORY)}
    rows = []
    for number in range(N_RUNS):
        folder = tmp_path / str(number)
        folder.mkdir()
        times = moments(folder, variables)
        rows.append([later - earlier for earlier, later in zip(times, times[1:], strict=False)])
    lines = [
        f"A sweep of four tiny trials on one job of two ranks, on the Slurm of the tests ({os.cpu_count()} cores, an",
        f"empty queue); medians of {N_RUNS} runs, with the least and the most.",
        "",
        "| phase | median [s] | least | most |",
        "|---|---|---|---|",
    ]
    for (name, meaning), seconds in zip(PHASES.items(), zip(*rows, strict=True), strict=True):
        lines.append(
            f"| {name}: {meaning} | {statistics.median(seconds):.1f} | {min(seconds):.1f} | {max(seconds):.1f} |"
        )
    to_step = [sum(row[1:4]) for row in rows]
    lines += [
        "",
        f"From the submission to the first step: {statistics.median(to_step):.1f} s. From the last trial's end to the",
        f"job's end: {statistics.median([row[-1] for row in rows]):.1f} s.",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "overhead.md").write_text("\n".join(lines) + "\n")
