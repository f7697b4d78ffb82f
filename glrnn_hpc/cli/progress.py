"""Progress of a sweep, as a bar on a terminal or as lines in a log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from glrnn_hpc.search.goal import best_of

if TYPE_CHECKING:
    from glrnn_hpc.study.study import SweepStudy


class Progress:
    """A line whenever the counts change; on a terminal the line is rewritten."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._last = ""

    def __call__(self, study: SweepStudy) -> None:
        slots = study.slots()
        counts = {state: sum(slot.state == state for slot in slots) for state in ("waiting", "failed", "running")}
        n_done = len(slots) - counts["waiting"] - counts["running"]
        values = [slot.value for slot in slots if slot.value is not None]
        best = best_of(values, study.spec.goal)
        line = f"{n_done}/{len(slots)} trials done, {counts['running']} running"
        line += f", {counts['failed']} failed" if counts["failed"] else ""
        line += f", best {study.spec.metric} {best:.6g}" if values else ""
        if self._is_quiet or line == self._last:
            return
        is_terminal = sys.stderr.isatty()
        done = n_done == len(slots)
        print(f"\r\x1b[K{line}" if is_terminal else line, end="" if is_terminal and not done else "\n", file=sys.stderr)
        sys.stderr.flush()
        self._last = line
