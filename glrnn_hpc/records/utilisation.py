"""Time of the ranks by what they did: lines of `utilisation.jsonl`, which the ranks of a worker share."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.records.json_types import VERSION, JsonObject, version_of


@dataclass(frozen=True)
class Devices:
    """Devices of a rank.

    Attributes
    ----------
    threads : int or None
        Of TensorFlow's pools; None if they could not be set.
    gpu : str or None
        TensorFlow's name of the rank's GPU.
    visible : str or None
        GPUs of the node that the rank may use, as CUDA_VISIBLE_DEVICES names them.
    """

    threads: int | None = None
    gpu: str | None = None
    visible: str | None = None


@dataclass(frozen=True)
class Utilisation:
    """Time of a rank since its last line.

    Attributes
    ----------
    rank : int
        Of the worker.
    host : str
        Name of its host.
    trial : int or None
        The trial that had just ended.
    ended : float
        When the line was written [s since 1970].
    seconds : dict
        Time of each kind of doing.
    spans : tuple of (str, float)
        Kinds and their seconds in their order, the last one until `ended`; empty in lines that hold none.
    devices : Devices or None
        Of the rank, once they are chosen.
    version : str
        Of the form of the line.
    """

    rank: int
    host: str
    trial: int | None
    ended: float
    seconds: dict[str, float]
    spans: tuple[tuple[str, float], ...] = ()
    devices: Devices | None = None
    version: str = VERSION

    def append(self, path: Path) -> None:
        """Append the line to a file of all ranks of a worker."""
        # One write in append mode: lines of other ranks come before or after it, not into it.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, (json.dumps(self.as_json()) + "\n").encode())
        finally:
            os.close(descriptor)

    def as_json(self) -> JsonObject:
        """Return what the line holds; the keys of `devices` stand beside the others."""
        content = {"rank": self.rank, "host": self.host, "trial": self.trial, "ended": self.ended}
        devices = {} if self.devices is None else asdict(self.devices)
        times = {
            "seconds": {kind: round(seconds, 4) for kind, seconds in self.seconds.items()},
            "spans": [[kind, round(seconds, 3)] for kind, seconds in self.spans],
        }
        return {**content, **devices, **times, "version": VERSION}


def read_utilisation(folder: layout.SweepFolder) -> Iterator[tuple[str, Utilisation]]:
    """Yield each line that the ranks of a sweep wrote, with the name of its worker; torn lines are left out."""
    for worker in folder.all_workers():
        with contextlib.suppress(FileNotFoundError):
            for text in worker.utilisation.read_text(encoding="utf-8", errors="replace").splitlines():
                if (line := _parse(text)) is not None:
                    yield worker.root.name, line


def _parse(text: str) -> Utilisation | None:
    """Return the content of a line; None if the death of its writer has torn it."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        content: JsonObject = json.loads(text)
        line = Utilisation(
            rank=int(content["rank"]),
            host=str(content.get("host", "")),
            trial=content.get("trial"),
            ended=float(content["ended"]),
            seconds={str(kind): float(seconds) for kind, seconds in dict(content["seconds"]).items()},
            spans=tuple((str(kind), float(seconds)) for kind, seconds in content.get("spans", [])),
            devices=Devices(content["threads"], content.get("gpu"), content.get("visible"))
            if "threads" in content
            else None,
            version=version_of(content),
        )
        if all(map(math.isfinite, [line.ended, *line.seconds.values(), *(each for _, each in line.spans)])):
            return line
    return None
