"""Training of a trial: the configuration of its point, from the newest checkpoint that an earlier owner left."""

from __future__ import annotations

import functools
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import keras

from glrnn_hpc.config import RunConfig
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.data.shared import DemData
from glrnn_hpc.errors import GlrnnError, ModelError, StorageError
from glrnn_hpc.gather import copies_on_gpu
from glrnn_hpc.preprocessor.base import Preprocessor
from glrnn_hpc.preprocessor.from_file import preprocessor_of_file
from glrnn_hpc.records.json_types import JsonObject, Point
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.records.trial_result import TrialEnding, TrialOutcome
from glrnn_hpc.search import hyperband
from glrnn_hpc.search.sweep import RAW_SUFFIX, build_preprocessor, is_raw_metric, preprocessor_of, trial_config
from glrnn_hpc.study.liveness import Watchdog
from glrnn_hpc.study.study import Claim, SweepStudy
from glrnn_hpc.surrogate.data_parallel import EndedByOtherRank
from glrnn_hpc.surrogate.model_cache import ModelCache
from glrnn_hpc.tracking.trial_tracker import TrialTracker
from glrnn_hpc.train import Outcome, run_training
from glrnn_hpc.versions import Software
from glrnn_hpc.worker.timeline import Timeline
from glrnn_hpc.worker.trial_loop import Guard

logger = logging.getLogger(__name__)


class Trainer:
    """Trainer of claimed trials on data that stay in memory between them; the ranks of a trial group work together.

    Parameters
    ----------
    study : SweepStudy
        The sweep.
    data : DemData or None
        Its data, None if its preprocessor has its own.
    group : Ranks
        The ranks that train each trial. Rank 0 calls the trainer and `dismiss`, the others `follow`.
    watchdog : Watchdog
        Notes every progress.
    timeline : Timeline
        Counts the time of this rank.
    tracker : TrialTracker, optional
        Logs each trial to W&B, on rank 0 of the group.
    software : dict, optional
        Versions in this worker, for the results.
    """

    def __init__(
        self,
        study: SweepStudy,
        data: DemData | None,
        group: Ranks,
        watchdog: Watchdog,
        timeline: Timeline,
        tracker: TrialTracker | None = None,
        software: Software | None = None,
    ) -> None:
        self._study = study
        self._software = software
        self._data = data
        self._group = group
        self._watchdog = watchdog
        self._timeline = timeline
        self._tracker = tracker or TrialTracker(study.folder, watchdog.progress)
        self._models = ModelCache(group)
        self._copies = copies_on_gpu()

    def __call__(self, claim: Claim, guard: Guard) -> TrialOutcome:
        """Train the trial and return its outcome; see `worker.trial_loop`. Collective: the others are in `follow`."""
        spec = self._study.spec
        pruning = Pruning(self._study, claim.number)
        trial, generation = claim.lease.folder, claim.lease.generation
        with self._timeline.during("track"):
            self._tracker.begin(claim.number, generation, claim.point, trial_config(spec, claim.point).as_dict())
        assignment = _Assignment(claim.number, generation, claim.point, claim.lease.earlier_checkpoints())
        self._group.bcast_idle(assignment)
        epoch_log = EpochLog(self._tracker, self._timeline, trial.generation(generation).metrics)
        aliases = [RawLossAlias()] if is_raw_metric(spec.metric) else []
        outcome = self._train(assignment, [*aliases, GuardCallback(guard), pruning, epoch_log])
        value = outcome.metrics[spec.metric]
        if not math.isfinite(value):
            return TrialOutcome(state="failed", error=f"{spec.metric} is {value}", metrics=outcome.metrics)
        return TrialOutcome(
            state="pruned" if pruning.is_pruned else "finished",
            value=value,
            metrics=outcome.metrics,
            epochs=outcome.epochs,
            best_epoch=outcome.best_epoch,
            software=self._software,
        )

    def log_end(self, claim: Claim, ending: TrialEnding) -> None:
        """Log to W&B how a trial ended; see `worker.trial_loop`."""
        with self._timeline.during("track"):
            self._tracker.conclude(ending)

    def dismiss(self) -> None:
        """Release the other ranks of the group: there are no more trials. Collective."""
        self._group.bcast_idle(None)

    def follow(self) -> None:
        """Train what rank 0 of the group trains, until it dismisses this rank. Collective."""
        self._timeline.begin("wait")
        while (assignment := self._group.bcast_idle(None, self._watchdog.progress)) is not None:
            self._timeline.begin("gap")
            try:
                self._train(assignment, [ProgressCallback(self._watchdog)])
            except (EndedByOtherRank, GlrnnError):
                pass  # the root logs why
            except Exception as error:
                logger.warning("trial %d ended on rank %d of its group: %r", assignment.number, self._group.rank, error)
            self._timeline.begin("wait")

    def _train(self, assignment: _Assignment, callbacks: list[keras.callbacks.Callback]) -> Outcome:
        config, preprocessor = self._group.agreed(lambda: self._prepare(assignment))
        trial = self._study.folder.trial(assignment.number)
        train = functools.partial(
            run_training,
            preprocessor,
            config,
            trial,
            callbacks=[TimelineCallback(self._timeline), *callbacks],
            model_folder=trial.generation(assignment.generation).root,
            checkpoint=trial.checkpoint_file(assignment.generation),
            group=self._group,
            models=self._models,
            copies=self._copies,
        )
        try:
            for earlier in assignment.checkpoints:
                try:
                    return train(resume_from=earlier)
                except ModelError as error:
                    logger.warning("trial %d: %s; an older checkpoint is used, or none", assignment.number, error)
            return train()
        finally:
            self._timeline.begin("gap")
            self._timeline.write(assignment.number)

    def _prepare(self, assignment: _Assignment) -> tuple[RunConfig, Preprocessor]:
        spec = self._study.spec
        config = trial_config(spec, assignment.point)
        if preprocessor_of(spec) is None:
            return config, preprocessor_of_file(config.as_dict(), self._data)
        return config, build_preprocessor(spec, assignment.point, self._data)


@dataclass(frozen=True)
class _Assignment:
    """Trial that the root of a group gives to the others, and the checkpoints to try, the newest first."""

    number: int
    generation: int
    point: Point
    checkpoints: list[Path]


class GuardCallback(keras.callbacks.Callback):
    """Call the guard after each batch and each epoch; what it raises ends the training."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Go on, or raise."""
        self._guard.step()

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Go on, or raise."""
        self._guard.step()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Check before the files of this epoch are written: a trial that was adopted is another rank's."""
        self._guard.check()


class RawLossAlias(keras.callbacks.Callback):
    """Give the losses of a network that learns the labels themselves the names of raw losses: they are the same."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Add them to the metrics of the epoch, where a training has none."""
        if logs is not None:
            for name in ("loss", "val_loss"):
                logs.setdefault(f"{name}{RAW_SUFFIX}", logs[name])


class ProgressCallback(keras.callbacks.Callback):
    """Note the progress of a training for the watchdog of a rank that is no root."""

    def __init__(self, watchdog: Watchdog) -> None:
        super().__init__()
        self._watchdog = watchdog

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Note it."""
        self._watchdog.progress()

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Note it."""
        self._watchdog.progress()


class TimelineCallback(keras.callbacks.Callback):
    """Count the time of a training by kinds. The first batch of a kind is traced and compiled: that is no work.

    It comes first of the callbacks, so that what the others write at the end of an epoch counts as `checkpoint`.
    """

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self._timeline = timeline
        self._traced: set[str] = set()

    def _begin(self, kind: str) -> None:
        self._timeline.begin(kind if kind in self._traced else "trace")

    def _end_of_batch(self, kind: str) -> None:
        if kind not in self._traced:
            self._traced.add(kind)
            self._timeline.begin(kind)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Train from here on."""
        self._begin("fit")

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count as work from the second one on."""
        self._end_of_batch("fit")

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Evaluate from here on."""
        self._begin("evaluate")

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Count as work from the second one on."""
        self._end_of_batch("evaluate")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write from here on."""
        self._timeline.begin("checkpoint")


class EpochLog(keras.callbacks.Callback):
    """Log each epoch to W&B, those before the checkpoint too.

    It comes after what may end the training, so that an epoch that does not count is not logged.
    """

    def __init__(self, tracker: TrialTracker, timeline: Timeline, metrics: Path) -> None:
        super().__init__()
        self._tracker = tracker
        self._timeline = timeline
        self._metrics = metrics

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Log the epochs that are done: the file holds those of the checkpoint."""
        with self._timeline.during("track"):
            self._tracker.log(*read_metrics(self._metrics).rows)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Log this epoch."""
        with self._timeline.during("track"):
            self._tracker.log({"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}})


class Pruning(keras.callbacks.Callback):
    """Report to the study at the bands of hyperband and stop the training where its rule says so.

    Attributes
    ----------
    is_pruned : bool
        Whether the rule stopped the training.
    """

    def __init__(self, study: SweepStudy, number: int) -> None:
        super().__init__()
        self._study = study
        self._number = number
        self._history: list[float] = []
        self.is_pruned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report and decide, if this epoch is a band."""
        spec = self._study.spec
        if spec.early_terminate is None:
            return
        self._history.append(float((logs or {})[spec.metric]))
        pruner = hyperband.HyperbandPruner(spec.early_terminate, spec.goal)
        if (at_band := pruner.report_of(self._history)) is None:
            return
        try:
            is_worse = self._study.report(self._number, at_band)
        except StorageError as error:
            logger.warning("trial %d is not compared with others after epoch %d: %s", self._number, epoch + 1, error)
            return
        # After its last epoch, by number or by patience, there is nothing left to stop: the trial is finished.
        is_last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        self.is_pruned = is_worse and not is_last
        if self.is_pruned:
            self.model.stop_training = True

    def get_state(self) -> JsonObject:
        """Return what a checkpoint keeps."""
        return {"history": self._history, "is_pruned": self.is_pruned}

    def set_state(self, state: JsonObject) -> None:
        """Go on from a checkpoint."""
        self._history = list(state["history"])
        self.is_pruned = bool(state["is_pruned"])
