"""Liveness of the workers of a sweep: registration, heartbeats, and which owners of trials are dead."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.processes import SHARED_MEMORY, Process, is_gone_here
from glrnn_hpc.records.ownership import Owner, WorkerRecord, read_started, read_worker_record
from glrnn_hpc.records.sweep_state import Timing
from glrnn_hpc.study import storage

logger = logging.getLogger(__name__)


def register(folder: layout.WorkerFolder, processes: Sequence[Process], segments: Iterable[str] = ()) -> None:
    """Record the processes of all ranks of a worker, and the shared memory that they would leave behind."""
    WorkerRecord(tuple(processes), tuple(sorted(set(segments)))).write(folder)


def is_alive(folder: layout.WorkerFolder) -> bool:
    """Whether a worker still runs, by the processes that were recorded; False if it never started."""
    return not folder.ended.exists() and any(each.is_alive() for each in _processes(folder))


def is_elsewhere(folder: layout.WorkerFolder) -> bool:
    """Whether all processes of a worker are on other hosts, so that only its heartbeat shows whether it lives."""
    processes = _processes(folder)
    return bool(processes) and not any(each.is_here() for each in processes)


def are_beating(folders: Sequence[layout.WorkerFolder], seconds: float) -> list[layout.WorkerFolder]:
    """Return those whose heartbeat changes within `seconds`; waits so long if one does not."""
    before = {folder: _read(folder.heartbeat) for folder in folders}
    end = time.monotonic() + seconds
    while True:
        beating = [folder for folder in folders if _read(folder.heartbeat) != before[folder]]
        if len(beating) == len(folders) or time.monotonic() >= end:
            return beating
        time.sleep(min(0.2, seconds / 10))


def clean_up(sweep: layout.SweepFolder) -> None:
    """Remove what dead processes left: partial files in the sweep's folder, and MPICH's shared memory on this host."""
    ended = [folder for folder in sweep.all_workers() if not is_alive(folder)]
    dead = {(each.host, each.pid) for folder in ended for each in _processes(folder)}

    def is_gone(host: str, pid: int) -> bool:
        return is_gone_here(host, pid) or (host != socket.gethostname() and (host, pid) in dead)

    layout.remove_partials(sweep.root, "**/*", is_gone)
    for folder in ended:
        if (record := read_worker_record(folder)) is not None:
            for name in record.shared_memory:
                (SHARED_MEMORY / name).unlink(missing_ok=True)
    storage.remove_left_locks(sweep)


def clean_up_after(sweep: layout.SweepFolder, folder: layout.WorkerFolder) -> None:
    """Remove the partial files of a worker's earlier ranks, before those of the requeued job register in its place."""
    if folder.record.exists():
        dead = {(each.host, each.pid) for each in _processes(folder)}
        layout.remove_partials(sweep.root, "**/*", lambda host, pid: (host, pid) in dead)


class Heartbeat(threading.Thread):
    """Thread that changes the heartbeat file of a worker from time to time; it makes no MPI call.

    Parameters
    ----------
    folder : WorkerFolder
        Of the worker.
    seconds : float
        Time between two beats.
    """

    def __init__(self, folder: layout.WorkerFolder, seconds: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._folder = folder
        self._seconds = seconds
        self._stopped = threading.Event()
        self._beats = 0

    def run(self) -> None:
        """Beat until `stop`."""
        while not self._stopped.wait(self._seconds):
            self.beat()

    def beat(self) -> None:
        """Change the file once."""
        self._beats += 1
        try:
            layout.write_text(self._folder.heartbeat, f"{self._beats}\n")
        except OSError as error:
            # A full or unreachable file system may come back before others take this worker for dead.
            logger.warning("no heartbeat: %s", error)

    def stop(self) -> None:
        """Beat no more; return when the last beat is whole, as the end of the process would leave a part of it."""
        self._stopped.set()
        if self.is_alive():
            self.join()


class Watchdog(threading.Thread):
    """Thread that ends a process without progress: a rank that hangs would keep its worker and its trial for ever."""

    def __init__(
        self, timeout: float, end: Callable[[], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._timeout = timeout
        self._end = end or _end_process
        self._clock = clock
        self._stopped = threading.Event()
        self._last = clock()

    def progress(self) -> None:
        """Note that the rank makes progress."""
        self._last = self._clock()

    def run(self) -> None:
        """Watch until `stop`."""
        while (left := self._last + self._timeout - self._clock()) > 0:
            if self._stopped.wait(min(left, 60.0)):
                return
        logger.error("no progress for %g s (hang_timeout): this rank ends its worker", self._timeout)
        self._end()

    def stop(self) -> None:
        """Watch no more: the process may have other work after the trials, as with `--cluster debug`."""
        self._stopped.set()


class Observer:
    """Observer of heartbeats: which owners of trials are dead.

    A worker is dead when its heartbeat file has not changed for `dead_after` seconds of this process's own monotonic
    clock: the clocks of two hosts are never compared.
    """

    def __init__(self, sweep: layout.SweepFolder, timing: Timing, clock: Callable[[], float] = time.monotonic) -> None:
        self._sweep = sweep
        self._dead_after = timing.dead_after
        self._clock = clock
        self._beats: dict[str, tuple[str, float]] = {}

    def is_dead(self, owner: Owner) -> bool:
        """Whether a trial of `owner` may be adopted."""
        if not owner.process.is_alive():
            return True
        folder = self._sweep.worker(owner.job)
        # A job that was requeued has its name again, and other processes: they register before they hold a lease.
        if folder.ended.exists() or (folder.record.exists() and owner.process not in _processes(folder)):
            return True
        return self.is_silent(folder)

    def is_silent(self, folder: layout.WorkerFolder) -> bool:
        """Whether the heartbeat of a worker has not changed for too long, as far as this observer has looked."""
        beat = _read(folder.heartbeat)
        now = self._clock()
        last, since = self._beats.get(folder.root.name, (None, now))
        if beat != last:
            self._beats[folder.root.name] = (beat, now)
            return False
        return now - since > self._dead_after


def _processes(folder: layout.WorkerFolder) -> list[Process]:
    """Return the ranks of a worker, or the process that the launcher started, before there are any."""
    if (record := read_worker_record(folder)) is not None:
        return list(record.ranks)
    started = read_started(folder)
    return [] if started is None else [started]


def _end_process() -> None:
    # Not sys.exit: that ends this thread alone, and a hanging main thread would never leave its call.
    os._exit(1)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
