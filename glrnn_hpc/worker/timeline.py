"""How the time of a rank goes: every moment belongs to one kind of doing."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What a rank does; `fit` and `evaluate` are what the allocation is for.
KINDS = ("import", "read", "wait", "gap", "trace", "fit", "evaluate", "checkpoint", "idle")

#: Time that is written although no trial has ended, so that a killed rank loses no more of it.
_SECONDS_UNTIL_WRITTEN = 60.0


class Timeline:
    """Write how the time of one rank goes, a line of JSON per trial, into a file that the ranks of a worker share.

    Parameters
    ----------
    file : Path
        Lines are appended to it, each in one write.
    rank : int
        Of this process in its worker.
    clock, wall_clock : callable
        Seconds; monotonic, and since the epoch.

    Attributes
    ----------
    devices : dict
        What each line tells of the rank's threads and GPU.
    """

    def __init__(
        self,
        file: Path,
        rank: int,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._file, self._rank = file, rank
        self._clock, self._wall_clock = clock, wall_clock
        self.devices: dict[str, Any] = {}
        self._kind: str | None = None
        self._since = self._written = clock()
        self._seconds: dict[str, float] = {}

    def begin(self, kind: str) -> None:
        """Count the time from now on as `kind`, one of `KINDS`."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not one of {', '.join(KINDS)}.")
        self._count()
        if self._since - self._written > _SECONDS_UNTIL_WRITTEN:
            self.write()
        self._kind = kind

    def write(self, trial: int | None = None) -> None:
        """Append what was counted since the last line; `trial` is the one that has just ended."""
        self._count()
        if not self._seconds:
            return
        line = {"rank": self._rank, "host": socket.gethostname(), "trial": trial, "ended": self._wall_clock()}
        line |= {**self.devices, "seconds": {kind: round(seconds, 4) for kind, seconds in self._seconds.items()}}
        # One write in append mode: lines of other ranks come before or after it, not into it.
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)
        self._seconds = {}
        self._written = self._since

    def _count(self) -> None:
        now = self._clock()
        if self._kind is not None:
            self._seconds[self._kind] = self._seconds.get(self._kind, 0.0) + now - self._since
        self._since = now
