"""Who the workers of a sweep are, and which of them are dead, as far as this host can tell."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from glrnn_hpc import layout


@dataclass(frozen=True)
class Process:
    """A process that stays the same when its pid is given to another one later."""

    host: str
    pid: int
    started: str

    def is_alive(self) -> bool:
        """Whether it still runs; True for a process of another host, which cannot be seen from here."""
        return self.host != socket.gethostname() or _start_of(self.pid) == self.started


def this_process() -> Process:
    """Return what identifies the calling process."""
    return Process(socket.gethostname(), os.getpid(), _start_of(os.getpid()))


def register(folder: layout.WorkerFolder, processes: Sequence[Process]) -> None:
    """Record the processes of all ranks of a worker."""
    layout.write_json(folder.record, {"ranks": [asdict(process) for process in processes]})


def is_alive(folder: layout.WorkerFolder) -> bool:
    """Whether a worker still runs; False if it never registered itself."""
    if folder.ended.exists() or not folder.record.exists():
        return False
    ranks = layout.read_json(folder.record)["ranks"]
    return any(Process(**rank).is_alive() for rank in ranks)


def is_dead(sweep: layout.SweepFolder, job: str) -> bool:
    """Whether the worker `job` registered once and runs no more."""
    folder = sweep.worker(job)
    return folder.ended.exists() or (folder.record.exists() and not is_alive(folder))


def _start_of(pid: int) -> str:
    """Return the kernel's start time of a process, empty if there is none or it is a zombie."""
    try:
        # The command's name stands in parentheses and may itself hold blanks and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
