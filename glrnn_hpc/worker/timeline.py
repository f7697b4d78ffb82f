"""Timeline of a rank: the seconds that it spends on each kind of doing."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from glrnn_hpc.records.utilisation import Devices, Utilisation

#: Kinds of a rank's time; the allocation serves `fit` and `evaluate`.
KINDS = ("import", "read", "wait", "gap", "trace", "fit", "evaluate", "checkpoint", "track", "idle")

#: Spans of a line: enough to draw it, few enough for a night of thousands of ranks.
_SPANS = 32

#: Time that is written although no trial has ended, so that a killed rank loses no more of it.
_SECONDS_UNTIL_WRITTEN = 60.0


class Timeline:
    """Writer of the time of one rank, a line of JSON per trial, into a file that the ranks of a worker share.

    A line holds the `seconds` of each kind, exactly, and for drawings the `spans` in their order, each a kind and its
    seconds; the last one ended when the line was written (`ended`). Where there are many, the shortest are joined.

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
    devices : Devices or None
        Threads and GPU of the rank, once they are chosen.
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
        self.devices: Devices | None = None
        self._kind: str | None = None
        self._since = self._written = clock()
        self._seconds: dict[str, float] = {}
        self._spans: list[tuple[str, float]] = []

    def begin(self, kind: str, ago: float = 0.0) -> None:
        """Count the time from now on as `kind`, one of `KINDS`; the first one may have begun some seconds `ago`."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not one of {', '.join(KINDS)}.")
        self._count()
        if self._kind is None:
            self._since -= ago
        if self._since - self._written > _SECONDS_UNTIL_WRITTEN:
            self.write()
        self._kind = kind

    @contextlib.contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """Count the time inside the block as `kind`, and then again as what it was before."""
        before = self._kind
        self.begin(kind)
        try:
            yield
        finally:
            self.begin(before or kind)

    def write(self, trial: int | None = None) -> None:
        """Append what was counted since the last line; `trial` is the one that has just ended."""
        self._count()
        if not self._seconds:
            return
        line = Utilisation(
            rank=self._rank,
            host=socket.gethostname(),
            trial=trial,
            ended=self._wall_clock(),
            seconds=self._seconds,
            spans=tuple(self._spans),
            devices=self.devices,
        )
        line.append(self._file)
        self._seconds, self._spans = {}, []
        self._written = self._since

    def _count(self) -> None:
        now = self._clock()
        if self._kind is not None:
            self._seconds[self._kind] = self._seconds.get(self._kind, 0.0) + now - self._since
            _append(self._spans, self._kind, now - self._since)
        self._since = now


def _append(spans: list[tuple[str, float]], kind: str, seconds: float) -> None:
    """Append a span; one too many is avoided by joining the two neighbours that are shortest together."""
    if spans and spans[-1][0] == kind:
        spans[-1] = (kind, spans[-1][1] + seconds)
        return
    spans.append((kind, seconds))
    if len(spans) <= _SPANS:
        return
    at = min(range(len(spans) - 1), key=lambda place: spans[place][1] + spans[place + 1][1])
    (first, one), (second, other) = spans[at : at + 2]
    spans[at : at + 2] = [(first if one >= other else second, one + other)]
    # The joined span may now be of the same kind as its neighbour.
    for place in (at, at - 1):
        if 0 <= place < len(spans) - 1 and spans[place][0] == spans[place + 1][0]:
            spans[place : place + 2] = [(spans[place][0], spans[place][1] + spans[place + 1][1])]
