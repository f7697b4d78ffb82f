"""Tracking of the trials that one rank trains, one after the other: each is logged to W&B as a run of its own.

Whatever W&B does, the rank trains on: nothing here raises, and nothing waits for long.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glrnn_hpc import layout
from glrnn_hpc.errors import TrackingError, one_line
from glrnn_hpc.records.json_types import JsonValue, Point
from glrnn_hpc.records.metrics import EpochMetrics
from glrnn_hpc.records.tracking_settings import read_tracking_settings
from glrnn_hpc.records.trial_result import TrialEnding, TrialResult
from glrnn_hpc.tracking import service
from glrnn_hpc.tracking.bounded_calls import BoundedCalls
from glrnn_hpc.tracking.run import LEAVING_SECONDS, START_SECONDS
from glrnn_hpc.tracking.trial_run import TrialRun, open_trial_run

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

#: Failures of W&B after which a rank tries it no more.
_MOST_FAILURES = 3

#: Seconds until the service has ended.
_CLOSING_SECONDS = 10.0


class TrialTracker:
    """Log the trials of one rank to W&B.

    Parameters
    ----------
    sweep : SweepFolder
        The sweep.
    while_waiting : callable
        Called about twice a second while W&B is waited for.
    """

    def __init__(self, sweep: layout.SweepFolder, while_waiting: Callable[[], None] = lambda: None) -> None:
        self._sweep = sweep
        self._settings = read_tracking_settings(sweep)
        self._calls = BoundedCalls(while_waiting)
        self._failures = 0
        self._run: TrialRun | None = None
        self._pending_run: _PendingRun | None = None
        self._pending_rows: list[EpochMetrics] = []

    def prepare(self) -> None:
        """Import W&B's client and start its service, while the rank does something else."""
        if self._settings is None:
            return
        if "wandb" not in sys.modules:
            # Of the process that started this one: all ranks would share its service.
            os.environ.pop("WANDB_SERVICE", None)
        self._calls.submit(service.start_service)

    def begin(self, number: int, generation: int, point: Point, config: Mapping[str, JsonValue]) -> None:
        """Open the run of a trial.

        Parameters
        ----------
        number, generation : int
            Of the trial and its owner.
        point, config : mapping
            The trial's point, and its full configuration.
        """
        self._run, self._pending_run, self._pending_rows = None, None, []
        if self._settings is None or self._failures >= _MOST_FAILURES:
            return
        # Not waited for: the first run of a rank needs the client's import and its service.
        future = self._calls.submit(
            functools.partial(open_trial_run, self._sweep, self._settings, number, point, config)
        )
        self._pending_run = _PendingRun(number, generation, future, time.monotonic() + START_SECONDS)

    def log(self, *rows: EpochMetrics) -> None:
        """Log the metrics of epochs, each with its number, from 1, as `epoch`."""
        self._pending_rows.extend(rows)
        if (run := self._opened_run()) is not None:
            run.log(*self._pending_rows)
            self._pending_rows = []

    def conclude(self, ending: TrialEnding) -> None:
        """End the run of the trial.

        Parameters
        ----------
        ending : TrialResult or str
            The published result; or `released`, if another owner will go on with the trial, or `abandoned`, if one has
            it already.
        """
        run = self._opened_run(START_SECONDS if isinstance(ending, TrialResult) else LEAVING_SECONDS)
        self._run = None
        if run is None:
            return
        try:
            run.log(*self._pending_rows)
            is_complete = run.finish(ending)
        except Exception as error:
            is_complete = False
            logger.debug("the run of a trial was not ended", exc_info=error)
        if is_complete:
            return
        # A failure before this one was logged then.
        level = self._level() if run.is_complete else logging.INFO
        logger.log(level, "W&B has not got all of a trial; `glrnn sync` takes it from the local records")
        self._count_failure()

    def close(self) -> None:
        """End W&B's service; the end of the process would wait for it."""
        if "wandb" in sys.modules and self._settings is not None:
            try:
                self._calls.call(service.stop_service, _CLOSING_SECONDS)
            except Exception as error:
                logger.debug("W&B's service was not ended", exc_info=error)

    def _opened_run(self, seconds: float = 0.0) -> TrialRun | None:
        """Return the trial's run, if it is open by now; else wait for it."""
        pending = self._pending_run
        if pending is None:
            return self._run
        left = pending.deadline - time.monotonic()
        if not (seconds or left < 0 or pending.future.done()):
            return None
        self._pending_run = None
        try:
            if left < 0 and not pending.future.done():
                self._calls.end_service()
                raise TrackingError(f"no answer within {START_SECONDS:g} s")
            opened = self._calls.wait(pending.future, max(0.0, min(left, seconds)))
            self._run = TrialRun(
                self._sweep, pending.number, pending.generation, opened, self._calls, level=self._level()
            )
        except Exception as error:
            message = "W&B cannot start, trial %d goes on without it: %s"
            logger.log(self._level(), message, pending.number, one_line(error))
            self._count_failure()
        return self._run

    def _level(self) -> int:
        """Warn of the first failure only."""
        return logging.INFO if self._failures else logging.WARNING

    def _count_failure(self) -> None:
        self._failures += 1
        with contextlib.suppress(Exception):  # W&B may be absent
            self._calls.recover()


@dataclass(frozen=True)
class _PendingRun:
    """A run that is being opened."""

    number: int
    generation: int
    future: concurrent.futures.Future[wandb.Run]
    deadline: float
