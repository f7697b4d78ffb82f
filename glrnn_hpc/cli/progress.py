"""Progress of a sweep: a bar on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import TaskID

    from glrnn_hpc.study.study import SweepStudy


class SweepProgress:
    """Progress of a sweep on stderr: each change of the counts is a line in a log, and moves the bar on a terminal.

    Parameters
    ----------
    is_quiet : bool
        Whether nothing is printed.
    """

    def __init__(self, *, is_quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._is_quiet = is_quiet
        self._last_line = ""
        self._task: TaskID | None = None
        console = Console(stderr=True)
        columns = (BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, disable=is_quiet or not console.is_terminal)

    def __enter__(self) -> SweepProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bar.stop()
            _log_to(sys.stderr)

    def __call__(self, study: SweepStudy) -> None:
        from glrnn_hpc.search.goal import best_of

        slots = study.slots()
        counts = {state: sum(slot.state == state for slot in slots) for state in ("waiting", "failed", "running")}
        n_done = len(slots) - counts["waiting"] - counts["running"]
        values = [slot.value for slot in slots if slot.value is not None]
        line = f"{n_done}/{len(slots)} trials done, {counts['running']} running"
        line += f", {counts['failed']} failed" if counts["failed"] else ""
        if values:
            line += f", best {study.spec.metric} {best_of(values, study.spec.goal):.6g}"
        if self._is_quiet or line == self._last_line:
            return
        self._last_line = line
        if self._bar.disable:
            print(line, file=sys.stderr, flush=True)
            return
        if self._task is None:
            self._bar.start()
            _log_to(sys.stderr)  # which prints above the bar now
            self._task = self._bar.add_task(line)
        self._bar.update(self._task, description=line, completed=n_done, total=len(slots))


def _log_to(stream: TextIO) -> None:
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(stream)
