"""Launcher of the user's own, in one file outside the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from glrnn_hpc import config, layout
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.launch import resume_sweep, run_sweep
from glrnn_hpc.study import liveness
from glrnn_hpc.summary.status import summarize
from tests.conftest import write_steps
from tests.sweep.sweeps import owners, spec_of
from tests.sweep.test_sweep import glrnn, until

#: Workers are plain background processes of one rank.
OWN = '''
import subprocess

from glrnn_hpc.launch import Launcher, worker_command
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy


class BackgroundLauncher(Launcher):
    """Launcher of plain background processes."""

    @classmethod
    def workers_per_node(cls, n_workers):
        return max(1, n_workers)

    def check(self):
        pass

    def start(self):
        started = self.folder.all_workers()
        missing = max(0, self.plan.workers - sum(liveness.is_alive(worker) for worker in started))
        self.processes = [self._start_one(f"background-{len(started) + index}") for index in range(missing)]
        return missing

    def _start_one(self, job):
        worker = self.folder.worker(job)
        worker.root.mkdir()
        command = worker_command(self.folder.root, job, 1)
        with worker.stdout.open("wb") as stdout, worker.stderr.open("wb") as stderr:
            return subprocess.Popen(command, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL)

    def wait(self, report):
        for process in self.processes:
            process.wait()
        study = SweepStudy(self.folder)
        report(study)
        study.end_if_finished()

    def cancel(self):
        pass


class NoLauncher:
    """Class without the methods of a launcher."""
'''

CLUSTER = "my_background:BackgroundLauncher"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the launcher, whose module of another test's folder is forgotten."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_background", raising=False)
    (tmp_path / "my_background.py").write_text(OWN)
    return tmp_path


def test_a_launcher_in_a_file_of_the_users_own_runs_a_sweep_and_its_best_model_is_exported(folder: Path):
    spec = spec_of(write_steps(folder / "a.hdf5"), 4)
    (folder / "s.yaml").write_text(config.dump_yaml(spec.as_dict()))
    ran = glrnn(
        *("sweep", "s.yaml", "--out", "sweep", "--cluster", CLUSTER, "--workers", 2, "--collect", "--json"), cwd=folder
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["trials"]["finished"] == 4
    sweep = layout.SweepFolder(folder / "sweep")
    assert {worker.root.name for worker in sweep.all_workers()} == {"background-0", "background-1"}
    assert {job for job, _ in owners(sweep)} <= {"background-0", "background-1"}
    assert sweep.best.provenance.exists()
    state = layout.read_json(sweep.state)
    assert (state["cluster"], state["workers"], state["workers_per_node"]) == (CLUSTER, 2, 2)


def test_its_sweep_is_cancelled_and_resumed_from_another_folder(folder: Path):
    spec = spec_of(write_steps(folder / "a.hdf5"), 2, epochs=150, patience=150)
    (folder / "s.yaml").write_text(config.dump_yaml(spec.as_dict()))
    times = ("--heartbeat", "0.2", "--dead-after", "20")
    started = glrnn(
        *("sweep", "s.yaml", "--out", "sweep", "--cluster", CLUSTER, *times, "--workers", 2, "--no-wait"), cwd=folder
    )
    assert started.returncode == 0, started.stderr
    sweep = layout.SweepFolder(folder / "sweep")
    until(lambda: len(list(sweep.trials.glob("*/checkpoint-1/state.npz"))) == 2)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    cancelled = glrnn("cancel", sweep.root, "--json", cwd=elsewhere)
    assert cancelled.returncode == 0, cancelled.stderr
    until(lambda: not any(liveness.is_alive(worker) for worker in sweep.all_workers()))
    assert summarize(sweep.root)["trials"]["waiting"] == 2
    resumed = glrnn("resume", sweep.root, "--json", cwd=elsewhere)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["trials"]["finished"] == 2
    assert sorted(worker.root.name for worker in sweep.all_workers()) == [f"background-{number}" for number in range(4)]


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        ("lsf", "--cluster: 'lsf' is not one of local, slurm, debug; .* module:Class, such as my_launcher:MyLauncher"),
        ("my_background:Missing", "--cluster: my_background has no Missing"),
        ("no_such_file:Launcher", "--cluster: no_such_file cannot be imported from .*No module named 'no_such_file'"),
        ("my_background:NoLauncher", "NoLauncher is no subclass of glrnn_hpc.launch.Launcher; derive it from that"),
        (":", "--cluster: module:Class is needed, such as my_launcher:MyLauncher; ':' was given"),
    ],
)
def test_what_is_no_launcher_is_refused_before_anything_is_made(
    cluster: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    spec = spec_of(write_steps(folder / "a.hdf5"))
    with pytest.raises(ConfigError, match=message):
        run_sweep(spec, folder / "sweep", cluster=cluster)
    assert not (folder / "sweep").exists()
    run_sweep(spec, folder / "sweep", n_workers=0)
    with pytest.raises(ConfigError, match=message):
        resume_sweep(folder / "sweep", cluster=cluster)


def test_the_command_needs_slurm_for_a_profile_and_says_so(folder: Path):
    (folder / "s.yaml").write_text(config.dump_yaml(spec_of(write_steps(folder / "a.hdf5")).as_dict()))
    (folder / "site.yaml").write_text("partition: main\n")
    for cluster in ("local", "debug", CLUSTER):
        done = glrnn(*("sweep", "s.yaml", "--out", "sweep", "--cluster", cluster, "--profile", "site.yaml"), cwd=folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--profile: belongs to --cluster slurm" in done.stderr
    assert not (folder / "sweep").exists()


def test_importing_the_registry_loads_neither_submitit_nor_h5py():
    program = (
        "import sys; from glrnn_hpc.launch import registry; registry.launcher_class('local'); "
        "print(sorted({'submitit', 'h5py', 'tensorflow', 'mpi4py'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
