"""Processes of workers, looked up in /proc of this host."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


#: Where MPICH keeps the memory that the ranks of a node share; killed ranks leave it there.
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Process:
    """A process that stays the same when its pid is given to another one later."""

    host: str
    pid: int
    started: str

    def is_here(self) -> bool:
        """Whether it is a process of this host, which can be looked up."""
        return self.host == socket.gethostname()

    def is_alive(self) -> bool:
        """Whether it still runs; True for a process of another host, which cannot be seen from here."""
        return not self.is_here() or start_of(self.pid) == self.started


def process(pid: int) -> Process:
    """Return what identifies a process of this host."""
    return Process(socket.gethostname(), pid, start_of(pid))


def this_process() -> Process:
    """Return what identifies the calling process."""
    return process(os.getpid())


def mapped_segments() -> list[str]:
    """Return the names of MPICH's shared memory that this process uses."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return [path.name for path in SHARED_MEMORY.glob("mpich_shm_*") if str(path) in maps]


def is_gone_here(host: str, pid: int) -> bool:
    """Whether `host` is this one and runs no process with this number; a zombie writes no more."""
    return host == socket.gethostname() and not start_of(pid)


def start_of(pid: int) -> str:
    """Return the kernel's start time of a process, empty if there is none or it is a zombie."""
    try:
        # The command's name stands in parentheses and may itself hold blanks and parentheses.
        fields: list[Any] = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else str(fields[19])
