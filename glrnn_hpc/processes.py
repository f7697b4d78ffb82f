"""Processes of this host, read from /proc: identity, start, state, parent, and the files that they map."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Where MPICH keeps the memory that the ranks of a node share; killed ranks leave it there.
SHARED_MEMORY = Path("/dev/shm")

_PROC = Path("/proc")

#: Places in ``/proc/<pid>/stat`` after the command's name; the kernel counts them from 3 on, see proc_pid_stat(5).
_STATE, _PARENT, _START = 0, 1, 19


@dataclass(frozen=True)
class Process:
    """A process that stays the same when its pid is given to another one later.

    Attributes
    ----------
    host : str
        Name of its host.
    pid : int
        Its number there.
    started : str
        The kernel's start time [clock ticks since boot]; empty if there was no such process.
    """

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


def is_gone_here(host: str, pid: int) -> bool:
    """Whether `host` is this one and runs no process with this number; a zombie writes no more."""
    return host == socket.gethostname() and not start_of(pid)


def start_of(pid: int) -> str:
    """Return the kernel's start time of a process, empty if there is none or it is a zombie."""
    status = _status(_PROC / str(pid))
    return "" if status is None or status[1][_STATE] == "Z" else status[1][_START]


def seconds_since_start() -> float:
    """Return the age of the calling process [s], as the kernel counts it; 0 where there is no /proc."""
    status = _status(_PROC / "self")
    if status is None:
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(status[1][_START]) / os.sysconf("SC_CLK_TCK"))


def children(command: str) -> list[int]:
    """Return the pids of the children of the calling process that run `command` and are no zombies."""
    pids = []
    for folder in _PROC.glob("[0-9]*"):
        status = _status(folder)  # None: it ended meanwhile
        if status is not None and status[0] == command and int(status[1][_PARENT]) == os.getpid():
            if status[1][_STATE] != "Z":
                pids.append(int(folder.name))
    return pids


def mapped_segments() -> list[str]:
    """Return the names of MPICH's shared memory that the calling process uses."""
    maps = _maps()
    return [path.name for path in SHARED_MEMORY.glob("mpich_shm_*") if str(path) in maps]


def mapped_files(pattern: str) -> list[str]:
    """Return the paths of the files that the calling process maps and a regular expression finds something in.

    Empty on systems without /proc.
    """
    if sys.platform != "linux":
        return []
    lines = _maps().splitlines()
    return list(dict.fromkeys(line.split()[-1] for line in lines if re.search(pattern, line)))


def _maps() -> str:
    return (_PROC / "self" / "maps").read_text(encoding="utf-8")


def _status(folder: Path) -> tuple[str, list[str]] | None:
    """Return a process's command and the fields after it in /proc; None if there is no such process."""
    try:
        # The command's name stands in parentheses and may itself hold blanks and parentheses.
        before, _, after = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
    except OSError:
        return None
    return before.partition("(")[2], after.split()


def memory_of(pids: Sequence[int]) -> int:
    """Return the bytes that processes of this host take together: what each has alone, and once what they share.

    Files that they map do not count: the kernel drops their pages when memory is short.
    """
    own, shared = 0, 0
    for pid in pids:
        try:
            text = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
        except OSError:  # it has ended, or there is no /proc
            continue
        sizes = {name: 1024 * int(size) for name, size in re.findall(r"^(Rss\w+):\s+(\d+) kB$", text, re.MULTILINE)}
        own += sizes.get("RssAnon", 0)
        shared = max(shared, sizes.get("RssShmem", 0))
    return own + shared


def memory_limit(cgroups: Path = Path("/sys/fs/cgroup"), of_process: Path = _PROC / "self/cgroup") -> int | None:
    """Return the bytes that the kernel lets the control group of this process take; None without such a limit.

    Both versions of control groups are read, each group with those around it: the job's, the container's.
    """
    limits = []
    try:
        lines = of_process.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (cgroups / "memory", "memory.limit_in_bytes") if controllers else (cgroups, "memory.max")
        group = Path(path.lstrip("/"))
        for each in (group, *group.parents):
            try:
                text = (top / each / name).read_text(encoding="ascii").strip()
            except OSError:  # a container sees its own part of the groups only
                continue
            if text.isdigit():
                limits.append(int(text))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # The first version writes a number beyond all memory where there is no limit.
    return min((limit for limit in limits if limit < total), default=None)
