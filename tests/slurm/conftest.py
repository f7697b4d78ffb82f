"""One Slurm cluster of three nodes for each process of the test session, and how a test works on it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import config, layout
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.study import leases
from tests.conftest import SLEEPERS, write_steps
from tests.sleepers.trainer import HURRY

REPOSITORY = Path(__file__).parents[2]
PROFILE = REPOSITORY / "slurm/profiles/test-cluster.yaml"
TIMES = ("--heartbeat", "0.5", "--dead-after", "10")
SCRIPT = Path(__file__).with_name("cluster.sh")


def _free_port() -> int:
    """Return the first of a row of ports that nobody uses; the cluster takes some from there on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return min(int(probe.getsockname()[1]), 65000)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start the cluster; return the variables with which srun and sbatch reach it.

    Of the folder SLURM_CLUSTER_PRIVATE every node sees an empty one of its own.
    """
    # The path of a socket is limited to some 100 characters.
    root = tmp_path_factory.mktemp("slurm")
    settings = {
        "DIR": root / "c",
        "NODES": 3,
        "CPUS": 4,
        "GPUS": 2,
        "ACCT": "none",
        "ARRAY": 4,
        "BASEPORT": _free_port(),
    }
    settings["PRIVATE"] = root / "private"
    settings["PRIVATE"].mkdir()
    variables = {**os.environ, **{f"SLURM_CLUSTER_{name}": str(value) for name, value in settings.items()}}
    started = subprocess.run(["bash", SCRIPT, "start"], env=variables, capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stdout + started.stderr
    consent = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # More ranks than cores: those that wait must let the others work.
    patience = {"OMPI_MCA_mpi_yield_when_idle": "1"}
    yield {**variables, **consent, **patience, "SLURM_CONF": str(root / "c/etc/slurm.conf")}
    subprocess.run(["bash", SCRIPT, "stop", "--purge"], env=variables, check=True)


class Site:
    """The cluster, seen from its login node, in a folder of the test's own."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.variables = {**variables, "PYTHONPATH": str(REPOSITORY)}
        self.sweep = layout.SweepFolder(folder / "sweep")

    def run(self, *command: str, status: int | None = 0) -> str:
        """Run a command whose exit status must be `status`, None for any; return what it prints."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.variables, capture_output=True, text=True, check=False, timeout=900
        )
        assert status in (None, done.returncode), done.stdout[-2000:] + done.stderr[-4000:] + self.errors()
        return done.stdout + ("" if status == 0 else done.stderr)

    def glrnn(self, *arguments: Any, status: int | None = 0) -> str:
        return self.run(sys.executable, "-m", "glrnn_hpc", *map(str, arguments), status=status)

    def errors(self) -> str:
        return "".join(f"\n{file.name}:\n{file.read_text(errors='replace')[-1500:]}" for file in self._files())

    def logs(self) -> str:
        return "\n".join(file.read_text(errors="replace") for file in self._files())

    def _files(self) -> list[Path]:
        """Return what the ranks of submitit's jobs and of the shipped scripts print."""
        return sorted([*self.sweep.slurm.glob("*.err"), *self.folder.glob("job_outputs/*.log")])

    def write(self, n_trials: int, epochs: int, **profile: Any) -> tuple[str, str]:
        """Write a sweep of LSTM 4 on 8 sequences and a profile; return their names."""
        data = write_steps(self.folder / "a.hdf5", n_samples=8)
        keys = {"raw_data": str(data), "lstm_units": 4, "dense_units": 4, "window_size": 3, "batch_size": 8}
        keys |= {"epochs": epochs, "patience": epochs, "train_frac": 0.5, "val_frac": 0.25, "learning_rate": 1e-5}
        parameters = {**keys, "seed": {"min": 1, "max": 10**6}}
        sweep = {"method": "random", "run_cap": n_trials, "parameters": parameters}
        (self.folder / "s.yaml").write_text(config.dump_yaml(sweep))
        site = {**config.load_yaml(PROFILE), **profile}
        (self.folder / "site.yaml").write_text(config.dump_yaml(site))
        return "s.yaml", "site.yaml"

    def start(self, n_trials: int, epochs: int, n_workers: int, n_ranks: int, *more: str, **profile: Any) -> None:
        """Submit a sweep and return."""
        sweep, site = self.write(n_trials, epochs, **profile)
        size = ("--workers", n_workers, "--ranks-per-worker", n_ranks)
        where = ("--out", "sweep", "--cluster", "slurm", "--profile", site)
        self.glrnn("sweep", sweep, *where, *size, *TIMES, "--no-wait", *more)

    def hurry(self) -> None:
        """Let trials that sleep end without further pauses."""
        (self.folder / HURRY).touch()

    def until(self, condition: Callable[[], Any], seconds: float = 120) -> Any:
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, self.errors()
            time.sleep(0.2)
        return found

    def training(self) -> list[tuple[int, Owner]]:
        """Return the trials that have an epoch and no result, and who trains them."""
        found = []
        for root in self.sweep.trials.glob("*"):
            trial = self.sweep.trial(int(root.name))
            generation = trial.newest_generation()
            owner = leases.owner_of(trial, generation)
            if owner and trial.checkpoint_file(generation).exists() and not trial.result.exists():
                found.append((int(root.name), owner))
        return found

    def generations(self) -> list[tuple[layout.TrialFolder, int]]:
        """Return every trial with each of its generations."""
        trials = [self.sweep.trial(int(root.name)) for root in self.sweep.trials.glob("*")]
        return [(trial, number + 1) for trial in trials for number in range(trial.newest_generation())]

    def queue(self) -> list[str]:
        return self.run("squeue", "--noheader", "--array", "--format=%i").split()

    def has_processes(self, jobs: list[str]) -> bool:
        """Return whether a process of one of the jobs is left on any node."""
        return any(_processes_of_job(job) for job in jobs)

    def cancel_all(self) -> None:
        """Cancel all jobs by Slurm; none may come back, which only its own batch script could do."""
        jobs = self.queue()
        self.run("scancel", "--user=root")
        self.until(lambda: not self.queue())
        self.until(lambda: not self.has_processes(jobs))
        assert not self.queue(), "a cancelled job must not come back"

    def assert_all_finished_once(self, n_trials: int, epochs: int) -> dict[str, Any]:
        """Wait for the sweep's end; return its status."""
        self.glrnn("resume", "sweep")
        found: dict[str, Any] = json.loads(self.glrnn("status", "sweep", "--json"))
        assert found["trials"] == {"finished": n_trials, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
        assert [row["epochs"] for row in found["table"]] == [epochs] * n_trials
        assert self.until(lambda: not self.queue(), 60)
        # submitit keeps a hidden copy of its batch script.
        assert [path for path in self.sweep.root.rglob(".*") if path.parent != self.sweep.slurm] == []
        return found

    def assert_they_went_on_from_their_checkpoints(self, numbers: set[int]) -> None:
        """Check that trials which were begun again did not begin at their first epoch."""
        went_on = re.findall(r"trials/(\d+): goes on after epoch (\d+)", self.logs())
        assert numbers <= {int(number) for number, epoch in went_on if int(epoch) > 0}


@pytest.fixture
def site(cluster: dict[str, str], tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, cluster)
    yield made
    made.run("scancel", "--user=root")
    made.until(lambda: not made.queue(), 60)


@pytest.fixture
def sleeping(site: Site) -> Site:
    """Return the site with ranks whose trials sleep: where a test proves nothing of a training."""
    site.variables["PYTHONPATH"] = f"{SLEEPERS}{os.pathsep}{REPOSITORY}"
    return site


def process_of(pid_there: int, job: str) -> int:
    """Return the pid on this machine of a rank, which has another one in its node's namespace."""
    for folder, status in _processes_of_job(job):
        namespaces = re.search(r"^NSpid:\t(.*)$", status, re.MULTILINE)
        if namespaces and namespaces[1].split()[-1] == str(pid_there):
            return int(folder.name)
    raise AssertionError(f"{job}: no process {pid_there}")


def _processes_of_job(job: str) -> list[tuple[Path, str]]:
    """Return the folders in /proc of the processes of a job, with what their `status` says."""
    array, _, task = job.partition("_")
    names = (f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={task}") if task else (f"SLURM_JOB_ID={job}",)
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            if {name.encode() for name in names} <= set(environment):
                found.append((folder, (folder / "status").read_text()))
        except OSError:  # it ended just now
            continue
    return found
