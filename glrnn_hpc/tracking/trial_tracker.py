"""The trials of a sweep in W&B: one run for each, whoever trains it, under an identity that stays.

A trial may have several owners, one after the other: a job that is requeued, a rank that adopts what a dead one left.
Each of them (a generation) writes an offline run of its own, a fragment, all with the same id. W&B's `sync` sends every
log from its first line on, as the client does without `resume`, and what comes later replaces what came before. So a
fragment begins with the epochs of the checkpoint from which its owner goes on, is complete by itself, and the newest
one is the run: no epoch is missing and none is there twice, even if an earlier owner went further than its checkpoint
or its log was cut off. Those of other owners are removed when the trial has its result.

Steps are epochs, counted from 1. A run that ends without W&B, because it was absent, broken or its disk full, is
written anew from the local records by `record_trial`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.config import load_yaml
from glrnn_hpc.errors import TrackingError
from glrnn_hpc.records.json_types import without_missing
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.records.trial_result import TrialEnding, TrialResult, read_trial_result
from glrnn_hpc.tracking.bounded_calls import Errands
from glrnn_hpc.tracking.offline_log import read_log
from glrnn_hpc.tracking.run import HURRY, START, TrackedRun, open_run, say

logger = logging.getLogger(__name__)

#: Project of the sweeps that name none.
PROJECT = "glrnn_hpc"

#: How a run ends that another owner will go on with: the status of a worker that leaves.
_GIVEN_BACK = 75

#: States of the run of a trial without a result, in W&B and in `fragment.json`; the words are those of version 0.1.0.
_STATES = {"released": "given back", "abandoned": "abandoned"}

#: Failures of W&B after which a rank tries it no more.
_MOST_FAILURES = 3

_LONGEST_ERROR = 1000

#: Seconds until the service has ended.
_CLOSING = 10.0


@dataclass(frozen=True)
class Tracking:
    """How the trials of a sweep are told to W&B.

    Attributes
    ----------
    mode : str
        offline, online or disabled.
    project : str
        Of the runs.
    entity : str or None
        User or team; None for W&B's own choice.
    group : str
        The name of the sweep.
    sweep_id : str or None
        Of a W&B sweep in which the runs arrive.
    prefix : str
        What the ids of all runs begin with.
    """

    mode: str
    project: str
    entity: str | None
    group: str
    sweep_id: str | None
    prefix: str

    @classmethod
    def of(cls, sweep: layout.SweepFolder) -> Tracking | None:
        """Return that of a sweep; None if its trials are not tracked."""
        if not sweep.tracking.exists():
            return None
        found = cls(**layout.read_json(sweep.tracking))
        return None if found.mode == "disabled" else found

    def as_dict(self) -> dict[str, Any]:
        """Return what `tracking.json` holds."""
        return asdict(self)

    def run_id(self, number: int) -> str:
        """Return the id of a trial's run."""
        return f"{self.prefix}-{number}"


class TrialTracker:
    """Tell W&B of the trials that one rank trains, one after the other. It never raises, and never waits for long.

    Parameters
    ----------
    sweep : SweepFolder
        The sweep.
    while_waiting : callable
        Called about twice a second while W&B is waited for.
    """

    def __init__(self, sweep: layout.SweepFolder, while_waiting: Callable[[], None] = lambda: None) -> None:
        self._sweep = sweep
        self._tracking = Tracking.of(sweep)
        self._errands = Errands(while_waiting)
        self._failures = 0
        self._open: _Fragment | None = None
        self._opening: _Opening | None = None
        self._pending: list[Mapping[str, float]] = []

    def prepare(self) -> None:
        """Import W&B's client and start its service, while the rank does something else."""
        if self._tracking is None:
            return
        if "wandb" not in sys.modules:
            # Of the process that started this one: all ranks would share its service.
            os.environ.pop("WANDB_SERVICE", None)
        self._errands.send(_start_service)

    def begin(self, number: int, generation: int, point: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Open the run of a trial.

        Parameters
        ----------
        number, generation : int
            Of the trial and its owner.
        point, config : mapping
            The trial's point, and its full configuration.
        """
        self._open, self._opening, self._pending = None, None, []
        if self._tracking is None or self._failures >= _MOST_FAILURES:
            return
        sweep, tracking = self._sweep, self._tracking

        def open_it() -> Any:
            return _open(sweep, tracking, number, point, config)

        # Not waited for: the first run of a rank needs the client's import and its service.
        run = self._errands.send(open_it)
        self._opening = _Opening((sweep, number, generation), run, time.monotonic() + START)

    def log(self, *rows: Mapping[str, float]) -> None:
        """Log the metrics of epochs, each with its number, from 1, as `epoch`."""
        self._pending.extend(rows)
        if (fragment := self._opened()) is not None:
            fragment.log(*self._pending)
            self._pending = []

    def _opened(self, seconds: float = 0.0) -> _Fragment | None:
        """Return the trial's run, if it is open by now; else wait for it."""
        opening = self._opening
        if opening is None:
            return self._open
        left = opening.deadline - time.monotonic()
        if not (seconds or left < 0 or opening.run.done()):
            return None
        self._opening = None
        try:
            if left < 0 and not opening.run.done():
                self._errands.give_up()
                raise TrackingError(f"no answer within {START:g} s")
            run = self._errands.wait(opening.run, max(0.0, min(left, seconds)))
            self._open = _Fragment(*opening.identity, run, self._errands, level=self._level())
        except Exception as error:
            number = opening.identity[1]
            logger.log(self._level(), "W&B cannot start, trial %d goes on without it: %s", number, say(error))
            self._failed()
        return self._open

    def conclude(self, ending: TrialEnding) -> None:
        """End the run of the trial.

        Parameters
        ----------
        ending : TrialResult or str
            The published result; or `released`, if another owner will go on with the trial, or `abandoned`, if one has
            it already.
        """
        fragment, self._open = self._opened(START if isinstance(ending, TrialResult) else HURRY), None
        if fragment is None:
            return
        try:
            fragment.log(*self._pending)
            is_whole = fragment.end(ending)
        except Exception as error:
            is_whole = False
            logger.debug("the run of a trial was not ended", exc_info=error)
        if is_whole:
            return
        # What failed before was said before.
        level = self._level() if fragment.run.is_whole else logging.INFO
        logger.log(level, "W&B has not got all of a trial; `glrnn sync` takes it from the local records")
        self._failed()

    def close(self) -> None:
        """End W&B's service; the end of the process would wait for it."""
        if "wandb" in sys.modules and self._tracking is not None:
            try:
                self._errands.run(_stop_service, _CLOSING)
            except Exception as error:
                logger.debug("W&B's service was not ended", exc_info=error)

    def _level(self) -> int:
        """Warn of the first failure only."""
        return logging.INFO if self._failures else logging.WARNING

    def _failed(self) -> None:
        self._failures += 1
        with contextlib.suppress(Exception):  # W&B may be absent
            self._errands.mend()


def record_trial(sweep: layout.SweepFolder, number: int) -> layout.Fragment:
    """Write the offline run of a trial that has a result from its local records.

    Raises
    ------
    TrackingError
        If the trial has no result, or W&B's client cannot write the run.
    """
    tracking, trial = Tracking.of(sweep), sweep.trial(number)
    if tracking is None or not trial.result.exists():
        raise TrackingError(f"{trial.root}: has no result, or its sweep is not tracked; there is no run to write.")
    result = read_trial_result(trial)
    config = load_yaml(trial.config) if trial.config.exists() else {}
    errands = Errands()
    offline = replace(tracking, mode="offline")
    try:
        run = errands.run(lambda: _open(sweep, offline, number, result.point, config), START)
        fragment = _Fragment(sweep, number, result.generation, run, errands)
        fragment.log(*read_metrics(trial.metrics).rows)
        is_whole = fragment.end(result)
    except Exception as error:
        with contextlib.suppress(Exception):  # W&B may be absent
            errands.mend()
        raise TrackingError(f"{trial.root}: W&B cannot write its run: {say(error)}") from error
    if not is_whole:
        raise TrackingError(f"{trial.root}: W&B could not write the whole run; is there room on the disk?")
    return trial.fragments()[-1]


@dataclass(frozen=True)
class _Opening:
    """A run that is being opened."""

    identity: tuple[layout.SweepFolder, int, int]
    run: concurrent.futures.Future[Any]
    deadline: float


def _open(
    sweep: layout.SweepFolder, tracking: Tracking, number: int, point: Mapping[str, Any], config: Mapping[str, Any]
) -> Any:
    """Return a new run for a trial; to be called by an errand."""
    constants, method = _of_sweep(sweep)
    arguments: dict[str, Any] = {
        "id": tracking.run_id(number),
        "project": tracking.project,
        "entity": tracking.entity,
        "group": tracking.group,
        "job_type": "trial",
        "name": f"trial {number}",
        "tags": [method],
        "config": json.loads(json.dumps({**constants, **point, **config})),
        # Beside a run of the user's own in this process.
        "reinit": "create_new",
        "settings": {"sweep_id": tracking.sweep_id},
    }
    return open_run(sweep.trial(number).root, tracking.mode, **arguments)


class _Fragment:
    """The run of one trial, as one owner tells it."""

    def __init__(
        self,
        sweep: layout.SweepFolder,
        number: int,
        generation: int,
        run: Any,
        errands: Errands,
        level: int = logging.WARNING,
    ) -> None:
        self._trial = sweep.trial(number)
        self._generation = generation
        self._epochs: set[int] = set()
        self._last = 0
        self.run = TrackedRun(run, dict(run.config), errands, level=level)
        self._folder = layout.Fragment(Path(run.dir).parent)
        self._write("running")
        self.run.summarize({"state": "running"})
        self.run.save(sweep.sweep)

    def log(self, *rows: Mapping[str, float]) -> None:
        self.run.log(*rows)
        self._epochs |= {int(row["epoch"]) for row in rows}
        self._last = max(self._epochs, default=0)

    def end(self, ending: TrialEnding) -> bool:
        """End the run; return whether all of it is there."""
        result = ending if isinstance(ending, TrialResult) else None
        state = ending.state if isinstance(ending, TrialResult) else _STATES[ending]
        if result is not None and result.generation != self._generation:
            state = "abandoned"  # another owner's result was the first
        if result is None:
            self.run.hurry()
        if state == "abandoned":
            self.run.finish(_GIVEN_BACK, is_preempted=True)
            layout.remove_folder(self._folder.root)
            return True
        if result is not None:
            self._describe(result)
        self.run.summarize({"state": state})
        exit_code = {"failed": 1, "given back": _GIVEN_BACK}.get(state, 0)
        self.run.finish(exit_code, is_preempted=state == "given back")
        log = read_log(self._folder.log)
        is_whole = self.run.is_whole and log.exit_code == exit_code and log.n_rows == len(self._epochs)
        if is_whole:
            self._write(state)
        if is_whole and result is not None:
            for fragment in self._trial.fragments():
                if fragment.root != self._folder.root:
                    layout.remove_folder(fragment.root)
        return is_whole

    def _describe(self, result: TrialResult) -> None:
        """Tell what came out: the summary is that of the best epoch, whose model is kept."""
        metrics = dict(result.metrics or {})
        tests = {name: value for name, value in metrics.items() if name.startswith("test_")}
        if self._epochs:
            self.run.log({"epoch": self._last, **tests}, is_last=True)
        known = without_missing({"epochs": result.epochs, "best_epoch": result.best_epoch})
        if result.error is not None:
            known["error"] = result.error[:_LONGEST_ERROR]
        self.run.summarize({**metrics, **known})
        if result.state != "finished":
            self.run.tag(result.state)
        trial = self._trial
        files = (trial.config, trial.train_stats, *(trial.model(weights_only=only) for only in (False, True)))
        self.run.save(*(file for file in files if file.exists()))

    def _write(self, state: str) -> None:
        content = {"generation": self._generation, "state": state, "epochs": self._last}
        layout.write_json(self._folder.record, content)


def _of_sweep(sweep: layout.SweepFolder) -> tuple[dict[str, Any], str]:
    """Return the constants of a sweep and its method."""
    content = load_yaml(sweep.sweep)
    entries: Iterable[tuple[str, Any]] = content["parameters"].items()
    constants = {name: entry["value"] for name, entry in entries if isinstance(entry, Mapping) and "value" in entry}
    return constants, str(content["method"])


def _start_service() -> None:
    import wandb

    wandb.setup()


def _stop_service() -> None:
    import wandb

    if wandb.run is None:  # else it is the user's, in whose process this rank works
        wandb.teardown()
