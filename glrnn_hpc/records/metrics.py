"""Metrics of a training after each epoch: `metrics.csv`.

The header names the columns, so that the file needs no `version`: the first one is `epoch`, counted from 1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError

#: Metrics of one epoch by their names, and its number as `epoch`.
EpochMetrics: TypeAlias = dict[str, float]


@dataclass(frozen=True)
class Metrics:
    """Metrics of a training, one row per epoch.

    Attributes
    ----------
    rows : tuple of dict
        In the order of the epochs.
    """

    rows: tuple[EpochMetrics, ...] = ()

    @classmethod
    def numbered(cls, history: Iterable[dict[str, float]]) -> Metrics:
        """Return the metrics of epochs that begin with the first one and hold no numbers yet."""
        return cls(tuple({"epoch": number, **row} for number, row in enumerate(history, start=1)))

    @property
    def n_epochs(self) -> int:
        return len(self.rows)

    def values(self, name: str) -> list[float]:
        """Return a metric after each epoch that has it."""
        return [row[name] for row in self.rows if name in row]

    def with_epoch(self, row: EpochMetrics) -> Metrics:
        """Return these metrics and those of one epoch more."""
        return Metrics((*self.rows, row))

    def write(self, path: Path) -> None:
        """Write the file whole: a reader never sees half a row, and a former owner of the trial adds nothing."""
        text = io.StringIO()
        names: Sequence[str] = list(self.rows[0]) if self.rows else ["epoch"]
        writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        layout.write_text(path, text.getvalue())


def read_metrics(path: Path) -> Metrics:
    """Read the metrics of a training; none if there is no such file yet.

    Raises
    ------
    RecordError
        If the file is broken.
    """
    try:
        lines = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
        return Metrics(tuple(_row(line) for line in lines))
    except FileNotFoundError:
        return Metrics()
    except (ValueError, TypeError) as error:
        raise RecordError(f"{path}: is broken: {error}; restore it from a copy.") from error


def _row(line: dict[str, str]) -> EpochMetrics:
    # An empty cell: the epoch has no such metric.
    return {name: int(text) if name == "epoch" else float(text) for name, text in line.items() if text}
