"""W&B run of one trial, as one of its owners writes it; steps are epochs, counted from 1."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from glrnn_hpc import layout
from glrnn_hpc.config import load_yaml
from glrnn_hpc.records.json_types import JsonObject, JsonValue, Point, without_missing
from glrnn_hpc.records.metrics import EpochMetrics
from glrnn_hpc.records.tracking_settings import TrackingSettings
from glrnn_hpc.records.trial_result import TrialEnding, TrialResult
from glrnn_hpc.tracking.bounded_calls import BoundedCalls
from glrnn_hpc.tracking.offline_log import read_log
from glrnn_hpc.tracking.offline_runs import LEFT_STATES, OfflineRun, RunState, offline_runs
from glrnn_hpc.tracking.run import TrackedRun, open_run

if TYPE_CHECKING:
    import wandb

#: Exit code of a run that another owner will go on with: the status of a worker that leaves.
_RELEASED_EXIT_CODE = 75

#: Characters of an error that the summary holds.
_LONGEST_ERROR = 1000


def open_trial_run(
    sweep: layout.SweepFolder,
    settings: TrackingSettings,
    number: int,
    point: Point,
    config: Mapping[str, JsonValue],
) -> wandb.Run:
    """Return a new run of W&B for a trial; it may hang, so that it belongs into a bounded call.

    Parameters
    ----------
    sweep, settings : SweepFolder, TrackingSettings
        The sweep, and how it is tracked.
    number : int
        Of the trial.
    point, config : mapping
        The trial's point, and its full configuration.
    """
    constants, method = settings.constants, settings.method
    if constants is None or method is None:
        constants, method = _constants_and_method(sweep)
    return open_run(
        sweep.trial(number).root,
        settings.mode,
        id=settings.run_id(number),
        project=settings.project,
        entity=settings.entity,
        group=settings.group,
        job_type="trial",
        name=f"trial {number}",
        tags=[method],
        config=json.loads(json.dumps({**constants, **point, **config})),
        # Beside a run of the user's own in this process.
        reinit="create_new",
        settings={"sweep_id": settings.sweep_id},
    )


class TrialRun:
    """The run of one trial, written by one owner.

    Parameters
    ----------
    sweep : SweepFolder
        The sweep.
    number, generation : int
        Of the trial and its owner.
    run : wandb.Run
        The run that was opened for it.
    calls : BoundedCalls
        Calls of W&B's client.
    level : int
        Level of the message about a failure.
    """

    def __init__(
        self,
        sweep: layout.SweepFolder,
        number: int,
        generation: int,
        run: wandb.Run,
        calls: BoundedCalls,
        level: int = logging.WARNING,
    ) -> None:
        self._trial = sweep.trial(number)
        self._generation = generation
        self._epochs: set[int] = set()
        self._last_epoch = 0
        self._run = TrackedRun(run, dict(run.config), calls, level=level)
        self._folder = layout.WandbRunFolder(Path(run.dir).parent)
        self._write_record("running")
        self._run.update_summary({"state": "running"})
        self._run.save(sweep.sweep)

    @property
    def is_complete(self) -> bool:
        """Whether the run holds all that was logged to it."""
        return self._run.is_complete

    def log(self, *rows: EpochMetrics) -> None:
        """Log the metrics of epochs."""
        self._run.log(*rows)
        self._epochs |= {int(row["epoch"]) for row in rows}
        self._last_epoch = max(self._epochs, default=0)

    def finish(self, ending: TrialEnding) -> bool:
        """End the run as the trial ended; return whether its log is complete."""
        if not isinstance(ending, TrialResult):
            self._run.shorten_waits()
        if ending == "abandoned" or self._is_of_another_owner(ending):
            self._run.finish(_RELEASED_EXIT_CODE, is_preempted=True)
            layout.remove_folder(self._folder.root)
            return True
        if isinstance(ending, TrialResult):
            self._log_result(ending)
            state: RunState = ending.state
        else:
            state = LEFT_STATES[ending]
        self._run.update_summary({"state": state})
        exit_code = {"failed": 1, "given back": _RELEASED_EXIT_CODE}.get(state, 0)
        self._run.finish(exit_code, is_preempted=ending == "released")
        log = read_log(self._folder.log)
        is_complete = self.is_complete and log.exit_code == exit_code and log.n_rows == len(self._epochs)
        if is_complete:
            self._write_record(state)
        if is_complete and isinstance(ending, TrialResult):
            self._remove_others()
        return is_complete

    def _is_of_another_owner(self, ending: TrialEnding) -> bool:
        """Whether the result of another owner was the first."""
        return isinstance(ending, TrialResult) and ending.generation != self._generation

    def _log_result(self, result: TrialResult) -> None:
        """Log the result of the trial: the summary is that of the best epoch, whose model is kept."""
        metrics = dict(result.metrics or {})
        tests = {name: value for name, value in metrics.items() if name.startswith("test_")}
        if self._epochs:
            self._run.log({"epoch": self._last_epoch, **tests}, is_last=True)
        summary = without_missing({"epochs": result.epochs, "best_epoch": result.best_epoch})
        if result.error is not None:
            summary["error"] = result.error[:_LONGEST_ERROR]
        self._run.update_summary({**metrics, **summary})
        if result.state != "finished":
            self._run.tag(result.state)
        trial = self._trial
        files = (trial.config, trial.train_stats, *(trial.model(weights_only=only) for only in (False, True)))
        self._run.save(*(file for file in files if file.exists()))

    def _remove_others(self) -> None:
        for other in offline_runs(self._trial):
            if other.folder.root != self._folder.root:
                layout.remove_folder(other.folder.root)

    def _write_record(self, state: RunState) -> None:
        OfflineRun(self._folder, self._generation, state, self._last_epoch).write_record()


def _constants_and_method(sweep: layout.SweepFolder) -> tuple[JsonObject, str]:
    """Return the constants of a sweep of an earlier version, read from its file, and its method."""
    content = load_yaml(sweep.sweep)
    entries: JsonObject = content["parameters"]
    constants = {
        name: entry["value"] for name, entry in entries.items() if isinstance(entry, Mapping) and "value" in entry
    }
    return constants, str(content["method"])
