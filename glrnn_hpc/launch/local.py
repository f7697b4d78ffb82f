"""Workers on this machine: in sessions of their own, so that they outlive the launcher; or, to debug, in its own."""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from glrnn_hpc import layout, logs, processes
from glrnn_hpc.errors import WRONG_INPUT, LaunchError, SweepError
from glrnn_hpc.records.ownership import write_started
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy

logger = logging.getLogger(__name__)

MAX_RESTARTS = 3
POLL_SECONDS = 0.5
#: How long a worker may take to end after the last trial became final.
GRACE_SECONDS = 30

#: A worker begins when its folder tells who it is. One whose launcher was killed before that ends: nobody would know of
#: it, and `resume` would start another in its place.
WHEN_TOLD = ("/bin/sh", "-c", 'read -r word && exec "$@" </dev/null', "worker")


def mpiexec() -> Path | None:
    """Return the launcher of MPI programs: the wheel's beside this Python first, else the one on the PATH."""
    try:
        metadata.version("mpich")
    except metadata.PackageNotFoundError:
        found = shutil.which("mpiexec")
        return Path(found) if found else None
    # By its absolute path: another MPI's mpiexec on the PATH would give this library's ranks a world of size 1.
    return Path(sys.executable).parent / "mpiexec"


def default_ranks(n_trials: int, n_cpus: int) -> int:
    """Return the ranks of a local worker if the user does not choose: one per CPU where there is MPI, else one."""
    return 1 if mpiexec() is None else max(1, min(n_cpus, n_trials))


def command(root: Path, job: str, n_ranks: int) -> list[str]:
    """Return the command of a worker.

    Raises
    ------
    LaunchError
        If more than one rank is wanted and there is no MPI.
    """
    worker = [sys.executable, "-m", "glrnn_hpc", "worker", str(root), "--job", job, "--ranks", str(n_ranks)]
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
class _Seat:
    """A worker that the sweep should have: its process if this launcher started it, its folder in any case."""

    folder: layout.WorkerFolder
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0


@dataclass
class LocalLauncher:
    """Start, watch and restart the workers of one sweep on this machine."""

    folder: layout.SweepFolder
    n_workers: int
    n_ranks: int
    _seats: list[_Seat] = field(default_factory=list)

    def check(self) -> None:
        """Check that ranks can be started here.

        Raises
        ------
        LaunchError
            If more than one rank is wanted and there is no MPI.
        """
        command(self.folder.root, "check", self.n_ranks)

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
        self._timing = read_sweep_state(self.folder).launch.timing
        self._observer = liveness.Observer(self.folder, self._timing)
        alive = [folder for folder in self.folder.all_workers() if liveness.is_alive(folder)]
        # One that is about to leave, because it saw the sweep cancelled or finished, will do no more work.
        alive = [folder for folder in alive if not folder.leaving.exists()]
        elsewhere = [folder for folder in alive if liveness.is_elsewhere(folder)]
        if elsewhere:
            logger.info("workers on other hosts: looking for %g s whether they live", 2 * self._timing.heartbeat)
            beating = liveness.are_beating(elsewhere, 2 * self._timing.heartbeat)
            alive = [folder for folder in alive if folder not in elsewhere or folder in beating]
        self._seats = [_Seat(folder) for folder in alive]
        missing = max(0, self.n_workers - len(alive))
        for _ in range(missing):
            folder, process = self._start_one()
            self._seats.append(_Seat(folder, process))
        return missing

    def wait(self, report: Callable[[SweepStudy], None]) -> None:
        """Wait until every worker has ended; restart one that died up to `MAX_RESTARTS` times.

        Raises
        ------
        SweepError
            If the workers ended and trials are left.
        """
        study = SweepStudy(self.folder)
        over = None
        while True:
            running = [seat for seat in self._seats if self._is_running(seat, study)]
            report(study)
            if not running:
                break
            if study.is_finished():
                # A suspended worker may never end; its trials have been adopted.
                over = over or time.monotonic()
                if time.monotonic() - over > GRACE_SECONDS:
                    logger.warning("the sweep is finished; %d workers still run and are left", len(running))
                    break
            time.sleep(POLL_SECONDS)
        liveness.clean_up(self.folder)
        if read_sweep_state(self.folder).state == "running":
            if not study.is_finished():
                raise SweepError(
                    f"{self.folder.root}: every worker has ended, but trials are left; {self._last_words()}"
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
        with folder.stdout.open("wb") as stdout, folder.stderr.open("wb") as stderr:
            process = subprocess.Popen(
                [*WHEN_TOLD, *command(self.folder.root, folder.root.name, self.n_ranks)],
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        write_started(folder, processes.process(process.pid))
        with contextlib.suppress(BrokenPipeError), process.stdin as told:  # type: ignore[union-attr]
            told.write(b"go\n")
        logger.info("worker %s started: pid %d, %d ranks", folder.root.name, process.pid, self.n_ranks)
        return folder, process

    def _is_running(self, seat: _Seat, study: SweepStudy) -> bool:
        if seat.process is None:
            is_silent = liveness.is_elsewhere(seat.folder) and self._observer.is_silent(seat.folder)
            if liveness.is_alive(seat.folder) and not is_silent:
                return True
            status = None  # somebody else's child: how it ended cannot be known
        else:
            status = seat.process.poll()
            if status is None:
                return True
        if not seat.folder.ended.exists():
            layout.write_json(seat.folder.ended, {"status": status, "time": time.time()})
        if status in (0, WRONG_INPUT) or seat.restarts == MAX_RESTARTS:
            return False
        if read_sweep_state(self.folder).state != "running" or study.is_finished():
            return False
        logger.warning("worker %s died with status %s; it is started again", seat.folder.root.name, status)
        seat.folder, seat.process = self._start_one()
        seat.restarts += 1
        return True

    def _last_words(self) -> str:
        if not self._seats:
            return ""
        file = self._seats[-1].folder.stderr
        last = logs.last_error(file.read_text(encoding="utf-8", errors="replace")) if file.exists() else ""
        return f"the last one said: {last}; see {file}. " if last else ""


@dataclass
class DebugLauncher:
    """Do the work of a sweep in this very process: breakpoints and tracebacks reach the trial."""

    folder: layout.SweepFolder
    n_workers: int
    n_ranks: int

    def check(self) -> None:
        """Check that one worker of one rank is wanted.

        Raises
        ------
        LaunchError
            If there are to be more.
        """
        if (self.n_workers, self.n_ranks) != (1, 1):
            raise LaunchError(
                f"--cluster debug is one rank in this process; {self.n_workers} workers of {self.n_ranks} ranks were "
                "asked for: use --workers 1 --ranks-per-worker 1, or --cluster local."
            )

    def start(self) -> int:
        """Start nothing: `wait` does the work."""
        self.check()
        liveness.clean_up(self.folder)
        return 1

    def wait(self, report: Callable[[SweepStudy], None]) -> None:
        """Work until every trial is final."""
        # Here: what it loads is of no use to a launcher of other processes, and may start MPI.
        from glrnn_hpc.worker import main

        main.run(self.folder.root, f"debug-{len(self.folder.all_workers()):03d}", self.n_ranks)
        report(SweepStudy(self.folder))

    def cancel(self) -> None:
        """Do nothing: the worker sees that the sweep is cancelled."""
