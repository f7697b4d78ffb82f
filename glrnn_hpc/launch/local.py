"""Launcher on this machine: workers in sessions of their own, which outlive the launcher."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from glrnn_hpc import layout, logs, processes
from glrnn_hpc.errors import WRONG_INPUT, LaunchError, SweepError
from glrnn_hpc.launch.environment import of_local_ranks
from glrnn_hpc.launch.launcher import Launcher, OnProgress, worker_command
from glrnn_hpc.records.ownership import write_started
from glrnn_hpc.records.sweep_state import LaunchPlan, read_sweep_state
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.worker import devices
from glrnn_hpc.worker.preemption import MORE_TO_DO

logger = logging.getLogger(__name__)

MAX_RESTARTS = 3
POLL_SECONDS = 0.5
#: How long a worker may take to end after the last trial became final.
GRACE_SECONDS = 30

#: Command in front of a worker's: it waits for a line on stdin, which is sent when the worker's folder names the
#: process. A worker whose launcher was killed before that ends: nobody would know of it, and `resume` would start
#: another one in its place.
START_GATE = ("/bin/sh", "-c", 'read -r word && exec "$@" </dev/null', "worker")


def mpiexec() -> Path | None:
    """Return the launcher of MPI programs: the wheel's beside this Python first, else the one on the PATH."""
    try:
        metadata.version("mpich")
    except metadata.PackageNotFoundError:
        program = shutil.which("mpiexec")
        return Path(program) if program else None
    # By its absolute path: another MPI's mpiexec on the PATH would give this library's ranks a world of size 1.
    return Path(sys.executable).parent / "mpiexec"


def default_ranks(n_trials: int, n_cpus: int) -> int:
    """Return the ranks of a worker if the user does not choose: one per CPU where there is MPI, else one."""
    return 1 if mpiexec() is None else max(1, min(n_cpus, n_trials))


def command(root: Path, job: str, n_ranks: int) -> list[str]:
    """Return the command of a worker.

    Raises
    ------
    LaunchError
        If more than one rank is wanted and there is no MPI.
    """
    worker = worker_command(root, job, n_ranks)
    if n_ranks == 1:
        return worker
    launcher = mpiexec()
    if launcher is None:
        raise LaunchError(
            f"{n_ranks} ranks need MPI and there is no mpiexec: `pip install glrnn_hpc[embedded-mpi]` brings one, "
            "or use --ranks-per-worker 1."
        )
    return [str(launcher), "-n", str(n_ranks), *worker]


@dataclass
class _Worker:
    """A worker that the sweep should have: its process if this launcher started it, its folder in any case."""

    folder: layout.WorkerFolder
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0


class LocalLauncher(Launcher):
    """Launcher that starts the workers of a sweep on this machine, and restarts those that die."""

    def __init__(self, folder: layout.SweepFolder, plan: LaunchPlan) -> None:
        super().__init__(folder, plan)
        self._observer = liveness.Observer(folder, plan.timing)
        self._workers: list[_Worker] = []

    @classmethod
    def default_ranks(cls, n_trials: int, ranks_per_trial: int) -> int:
        """Return one rank per CPU where there is MPI, but not more than the trials keep busy."""
        n_ranks = default_ranks(n_trials * ranks_per_trial, devices.n_cpus())
        return max(1, n_ranks // ranks_per_trial) * ranks_per_trial

    @classmethod
    def workers_per_node(cls, n_workers: int) -> int:
        """Return all workers: this machine is one node."""
        return max(1, n_workers)

    def check(self) -> None:
        """Check that ranks can be started here.

        Raises
        ------
        LaunchError
            If more than one rank is wanted and there is no MPI.
        """
        command(self.folder.root, "check", self.plan.ranks_per_worker)

    def cancel(self) -> None:
        """Do nothing: workers begin when they are started, and end when they see the sweep cancelled."""

    def start(self) -> int:
        """Start the workers that are missing; return how many were.

        Raises
        ------
        LaunchError
            If the ranks cannot be started here.
        """
        self.check()
        liveness.clean_up(self.folder)
        alive = [folder for folder in self.folder.all_workers() if liveness.is_alive(folder)]
        # One that is about to leave, because it saw the sweep cancelled or finished, will do no more work.
        alive = [folder for folder in alive if not folder.leaving.exists()]
        elsewhere = [folder for folder in alive if liveness.is_elsewhere(folder)]
        if elsewhere:
            seconds = 2 * self.plan.timing.heartbeat
            logger.info("workers on other hosts: waiting up to %g s for their heartbeats", seconds)
            beating = liveness.are_beating(elsewhere, seconds)
            alive = [folder for folder in alive if folder not in elsewhere or folder in beating]
        self._workers = [_Worker(folder) for folder in alive]
        missing = max(0, self.plan.workers - len(alive))
        for _ in range(missing):
            folder, process = self._start_one()
            self._workers.append(_Worker(folder, process))
        return missing

    def wait(self, report: OnProgress) -> None:
        """Wait until every worker has ended; restart one that died up to `MAX_RESTARTS` times.

        One that ended because its memory was full is started again as often as that happens.

        Raises
        ------
        SweepError
            If the workers ended and trials are left.
        """
        study = SweepStudy(self.folder)
        finished_at = None
        while True:
            running = [worker for worker in self._workers if self._is_running(worker, study)]
            report(study)
            if not running:
                break
            if study.is_finished():
                # A suspended worker may never end; its trials have been adopted.
                finished_at = finished_at or time.monotonic()
                if time.monotonic() - finished_at > GRACE_SECONDS:
                    logger.warning("the sweep is finished; %d workers still run and are left", len(running))
                    break
            time.sleep(POLL_SECONDS)
        liveness.clean_up(self.folder)
        if read_sweep_state(self.folder).state == "running":
            if not study.is_finished():
                raise SweepError(
                    f"{self.folder.root}: every worker has ended, but trials are left; {self._last_error()}"
                    f"`glrnn resume {self.folder.root}` starts workers again."
                )
            study.end_if_finished()

    def _start_one(self) -> tuple[layout.WorkerFolder, subprocess.Popen[bytes]]:
        number = len(self.folder.all_workers())
        folder = self.folder.worker(f"local-{number:03d}")
        while True:
            try:
                folder.root.mkdir(parents=True)
                break
            except FileExistsError:  # another launcher was faster
                number += 1
                folder = self.folder.worker(f"local-{number:03d}")
        n_ranks = self.plan.ranks_per_worker
        with folder.stdout.open("wb") as stdout, folder.stderr.open("wb") as stderr:
            process = subprocess.Popen(
                [*START_GATE, *command(self.folder.root, folder.root.name, n_ranks)],
                env=of_local_ranks(),
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        write_started(folder, processes.process(process.pid))
        with contextlib.suppress(BrokenPipeError), process.stdin as gate:  # type: ignore[union-attr]
            gate.write(b"go\n")
        logger.info("worker %s started: pid %d, %d ranks", folder.root.name, process.pid, n_ranks)
        return folder, process

    def _is_running(self, worker: _Worker, study: SweepStudy) -> bool:
        if worker.process is None:
            is_silent = liveness.is_elsewhere(worker.folder) and self._observer.is_silent(worker.folder)
            if liveness.is_alive(worker.folder) and not is_silent:
                return True
            status = None  # somebody else's child: how it ended cannot be known
        else:
            status = worker.process.poll()
            if status is None:
                return True
        if not worker.folder.ended.exists():
            layout.write_json(worker.folder.ended, {"status": status, "time": time.time()})
        # One that ended to give its memory back has done a trial at least since it began; one that was killed for its
        # memory while others were still training has died.
        is_full = status == MORE_TO_DO and worker.folder.full.exists()
        if status in (0, WRONG_INPUT) or (worker.restarts == MAX_RESTARTS and not is_full):
            return False
        if read_sweep_state(self.folder).state != "running" or study.is_finished():
            return False
        if is_full:
            logger.info("worker %s gave its memory back; it is started again", worker.folder.root.name)
        else:
            logger.warning("worker %s died with status %s; it is started again", worker.folder.root.name, status)
            worker.restarts += 1
        worker.folder, worker.process = self._start_one()
        return True

    def _last_error(self) -> str:
        if not self._workers:
            return ""
        file = self._workers[-1].folder.stderr
        last = logs.last_error(file.read_text(encoding="utf-8", errors="replace")) if file.exists() else ""
        return f"the last one said: {last}; see {file}. " if last else ""
