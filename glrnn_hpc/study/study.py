"""Optuna study behind a sweep: its slots, claims of them, and their final states."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from glrnn_hpc import layout
from glrnn_hpc.errors import MissingSweep, StorageError
from glrnn_hpc.records.json_types import Point
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import SweepState, read_sweep_state
from glrnn_hpc.records.trial_result import TrialOutcome, TrialResult, read_trial_result
from glrnn_hpc.search import goal, hyperband, samplers
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.study import leases, resolved_sweep, storage
from glrnn_hpc.study.same_failure import reason_to_stop
from glrnn_hpc.study.slots import (
    FINAL_STATES,
    IMPUTED,
    INDEX,
    POINT,
    RELEASED,
    REPEATS,
    Slot,
    slot_of,
    waiting_slot,
    waiting_trial,
)

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

#: First waiting trials that a rank chooses from after another rank was faster.
_N_CANDIDATES = 16

#: Trials that are added while the lock of the sweep's state is held.
_N_ADDED_AT_ONCE = 100

#: Owners that may die of a trial, one after the other, before it counts as failed.
_MOST_DEATHS = 5


@dataclass(frozen=True)
class Claim:
    """A trial that this rank may train: its number, its point and its lease."""

    number: int
    point: Point
    lease: leases.Lease

    def result_of(self, outcome: TrialOutcome, *, started: float, seconds: float) -> TrialResult:
        """Return the result of the trial as its owner publishes it; times as in `TrialResult`."""
        generation = self.lease.generation
        return TrialResult.of(
            outcome, number=self.number, generation=generation, point=self.point, started=started, seconds=seconds
        )


def _with_storage_errors(method: F) -> F:
    """Turn the errors of a full disk, a lost mount or a lost database into one."""

    @functools.wraps(method)
    def call(self: SweepStudy, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (OSError, optuna.exceptions.StorageInternalError) as error:
            raise StorageError(f"{self.folder.root}: the study cannot be reached: {error}") from error

    return cast(F, call)


class SweepStudy:
    """A rank's view of the study of one sweep folder."""

    def __init__(self, folder: layout.SweepFolder) -> None:
        if not (folder.sweep.exists() and folder.state.exists()):
            raise MissingSweep(f"{folder.root}: is not a sweep folder; `glrnn sweep` makes one.")
        self.folder = folder
        directory = read_sweep_state(folder).launch.directory
        self._storage = storage.open_storage(folder)
        try:
            self._study = optuna.load_study(study_name=storage.study_name(folder), storage=self._storage)
        except KeyError as error:
            raise StorageError(
                f"{folder.root}: the study of this sweep is not in its storage any more; restore it from a copy."
            ) from error
        #: As it was made; `spec` has the path of the data as the sweep file names it now.
        self.made = resolved_sweep.kept_sweep(self._study, folder, directory)
        self.spec = resolved_sweep.with_data_of_file(self.made, folder)

    @property
    def holds_sweep(self) -> bool:
        """Whether the study itself holds the sweep, and not its file alone as in folders of earlier versions."""
        return resolved_sweep.is_kept(self._study)

    @_with_storage_errors
    def take_over(self, spec: SweepSpec) -> None:
        """Go on with a sweep that has changed in what may change."""
        resolved_sweep.keep(self._study, spec)
        self.made = self.spec = spec

    @_with_storage_errors
    def slots(self) -> list[Slot]:
        """Return all trials in the order of their numbers."""
        trials = self._trials()
        repeated = {trial.user_attrs[REPEATS] for trial in trials if REPEATS in trial.user_attrs}
        return [self._slot(trial, is_repeated=trial.number in repeated) for trial in trials]

    @_with_storage_errors
    def is_finished(self) -> bool:
        """Whether every slot is final."""
        return all(trial.state.is_finished() for trial in self._trials())

    @_with_storage_errors
    def claim(self, owner: Owner) -> Claim | None:
        """Claim a waiting trial, the first one if no other rank is faster; None if none is left.

        The study changes waiting to running for the first claimant only, so no two ranks get the same trial.
        """
        if self._end_at_target():
            return None
        first = 0
        while waiting := self._trials(TrialState.WAITING):
            # Ranks that start together would all try for the same one, again and again.
            trial = waiting[min(first, len(waiting) - 1)]
            first = random.randrange(_N_CANDIDATES)
            try:
                if not self._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                    continue
            except optuna.exceptions.UpdateFinishedTrialError:
                continue
            lease = leases.take(self.folder.trial(trial.number), owner, 1)
            if lease is not None:
                return Claim(trial.number, self._point(trial), lease)
        return None

    @_with_storage_errors
    def adopt_released(self, owner: Owner) -> Claim | None:
        """Adopt a running trial that its owner released; None if there is none."""
        # By the study alone: before each claim, thousands of ranks would look at thousands of files.
        released = [trial for trial in self._trials(TrialState.RUNNING) if RELEASED in trial.user_attrs]
        return self._adopt(released, owner, lambda _: False)

    @_with_storage_errors
    def adopt(self, owner: Owner, is_dead: Callable[[Owner], bool]) -> Claim | None:
        """Adopt a running trial whose owner is dead, or that nobody holds; None if there is none.

        A trial whose result was published by a rank that died before it could settle it is settled here.
        """
        return self._adopt(self._trials(TrialState.RUNNING), owner, is_dead)

    def _adopt(self, trials: list[FrozenTrial], owner: Owner, is_dead: Callable[[Owner], bool]) -> Claim | None:
        for trial in trials:
            folder = self.folder.trial(trial.number)
            generation = folder.newest_generation()
            holder = leases.owner_of(folder, generation)
            is_released_now = trial.user_attrs.get(RELEASED) == generation
            if not (is_released_now or holder is None or is_dead(holder)):
                continue
            if folder.result.exists():
                self.settle(trial.number)
                continue
            lease = leases.take(folder, owner, generation + 1)
            if lease is None:
                continue
            claim = Claim(trial.number, self._point(trial), lease)
            if is_released_now or not self._is_lethal(folder, generation):
                return claim
            self._fail_lethal(claim)
        return None

    @staticmethod
    def _is_lethal(folder: layout.TrialFolder, generation: int) -> bool:
        """Whether so many owners died one after the other without an epoch that the trial must be the cause."""
        newest = range(generation, max(0, generation - _MOST_DEATHS), -1)
        return len(newest) == _MOST_DEATHS and not any(folder.checkpoint_file(number).exists() for number in newest)

    def _fail_lethal(self, claim: Claim) -> None:
        error = (
            f"its worker died {_MOST_DEATHS} times before an epoch was done; "
            "the network may need more memory than there is"
        )
        outcome = TrialOutcome(state="failed", error=error)
        if claim.lease.publish(claim.result_of(outcome, started=time.time(), seconds=0.0)):
            self.settle(claim.number)

    @_with_storage_errors
    def release(self, claim: Claim) -> None:
        """Release a trial before its end, so that another rank adopts it without waiting for this one's death."""
        self._set(self._id(claim.number), RELEASED, claim.lease.generation)

    @_with_storage_errors
    def report(self, number: int, at_band: hyperband.BandReport) -> bool:
        """Report the metric of a trial at a band of hyperband; return whether the rule stops the trial."""
        if self.spec.early_terminate is None:
            return False
        pruner = hyperband.HyperbandPruner(self.spec.early_terminate, self.spec.goal)
        trial_id = self._id(number)
        self._set(trial_id, hyperband.BEST_SO_FAR, at_band.best)
        self._storage.set_trial_intermediate_value(trial_id, at_band.band, at_band.value)
        return bool(pruner.prune(self._study, self._storage.get_trial(trial_id)))

    @_with_storage_errors
    def settle(self, number: int) -> TrialResult:
        """Enter a trial's published result in the study, with its files in the trial's folder; return the result.

        Every rank that meets a published result does this, as its publisher may have died right after it.
        """
        folder = self.folder.trial(number)
        result = read_trial_result(folder)
        leases.move_to_trial(folder, result.generation)
        self._set_final(number, result)
        return result

    def _set_final(self, number: int, result: TrialResult) -> None:
        state = FINAL_STATES[result.state]
        value = result.value if state is TrialState.COMPLETE else None
        has_failed = state is TrialState.FAIL
        if has_failed and (imputed := self._imputed()) is not None:
            self._set(self._id(number), IMPUTED, True)
            state, value = TrialState.COMPLETE, imputed
        values = None if value is None else [value]
        try:
            self._storage.set_trial_state_values(self._id(number), state=state, values=values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # another rank was faster
        if has_failed:
            self._stop_at_same_failure()
        self._end_at_target()

    def _end_at_target(self) -> bool:
        if (trial := self._target_reached_by()) is None:
            return False
        self.end(f"trial {trial.number} reached metric.target={self.spec.target:g} with {trial.value:.6g}")
        return True

    def _stop_at_same_failure(self) -> None:
        """Mark a running sweep as cancelled if its first trials failed with the same error."""
        state = read_sweep_state(self.folder)
        if state.state != "running":
            return
        reason = reason_to_stop(self.folder, state, self.spec.ranks_per_trial, self._trials())
        if reason is None:
            return

        def stopped(state: SweepState) -> SweepState:
            return replace(state, state="cancelled", reason=reason) if state.state == "running" else state

        self.change_state(stopped)
        logger.error("the sweep is stopped: %s", reason)

    @_with_storage_errors
    def n_failed(self) -> int:
        """Return how many trials have failed, those that others repeat too."""
        return len(self._trials(TrialState.FAIL))

    def end(self, reason: str) -> None:
        """Mark a running sweep as finished: no rank begins another trial."""

        def ended(state: SweepState) -> SweepState:
            return replace(state, state="finished", reason=reason) if state.state == "running" else state

        self.change_state(ended)

    def end_if_finished(self) -> None:
        """Mark the sweep as finished if every trial is final, also those that were added a moment ago."""

        def ended(state: SweepState) -> SweepState:
            if state.state != "running" or not self.is_finished():
                return state
            return replace(state, state="finished", reason="every trial is final")

        self.change_state(ended)

    def change_state(self, change: Callable[[SweepState], SweepState]) -> SweepState:
        """Change the state of the sweep, one process at a time; return what it is then."""
        with self._exclusive():
            before = read_sweep_state(self.folder)
            after = change(before)
            if after != before:
                after.write(self.folder)
            return after

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other processes from changing the state or the number of trials meanwhile."""
        lock = storage.TailLock(str(self.folder.state.resolve()))
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @_with_storage_errors
    def is_target_reached(self) -> bool:
        """Whether a trial has reached metric.target, and no more trials were wanted since.

        The rank of that trial may have died before it could end the sweep.
        """
        return self._target_reached_by() is not None

    def _target_reached_by(self) -> FrozenTrial | None:
        target = self.spec.target
        if target is None or read_sweep_state(self.folder).is_past_target:
            return None
        for trial in self._trials(TrialState.COMPLETE):
            value = trial.value
            if value is None or IMPUTED in trial.user_attrs:
                continue
            if goal.is_reached(value, target, self.spec.goal):
                return trial
        return None

    @_with_storage_errors
    def add_slots(self, n_trials: int) -> int:
        """Raise the number of trials to `n_trials`, repeated ones not counted; return how many were added."""
        n_added = 0
        while True:
            # In parts, as a lock that is held for long is taken for that of a dead process.
            with self._exclusive():
                n_present = sum(REPEATS not in trial.user_attrs for trial in self._trials())
                part = range(n_present, min(n_trials, n_present + _N_ADDED_AT_ONCE))
                for index in part:
                    self._study.add_trial(waiting_slot(index))
            if not part:
                return n_added
            n_added += len(part)

    @_with_storage_errors
    def retry_failed(self) -> list[int]:
        """Add a waiting trial with the same point for each failed one; return the numbers of these."""
        with self._exclusive():
            trials = {trial.number: trial for trial in self._trials()}
            failed = [slot for slot in self.slots() if slot.state == "failed"]
            for slot in failed:
                index = trials[slot.number].user_attrs[INDEX]
                self._study.add_trial(waiting_trial({INDEX: index, POINT: slot.params, REPEATS: slot.number}))
            return [slot.number for slot in failed]

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _slot(self, trial: FrozenTrial, *, is_repeated: bool) -> Slot:
        return slot_of(trial, self.folder.trial(trial.number), is_repeated=is_repeated)

    def _point(self, trial: FrozenTrial) -> Point:
        """Return the point of a claimed trial; the first claimant draws it and the study keeps it."""
        point: Point | None = self._storage.get_trial(trial._trial_id).user_attrs.get(POINT)
        if point is None:
            index = trial.user_attrs[INDEX]
            if self.spec.method == "bayes":
                sampler = samplers.make_sampler(self.spec, index, self.spec.sampler)
                # A new study object: an old one keeps the trials that its sampler has seen first.
                study = optuna.load_study(study_name=self._study.study_name, storage=self._storage, sampler=sampler)
                point = samplers.suggest(optuna.Trial(study, trial._trial_id), self.spec.searched)
            else:
                point = samplers.point_of(self.spec, index)
            self._set(trial._trial_id, POINT, point)
        return point

    def _imputed(self) -> float | None:
        """Return the value that the search shall take for a failed trial; None if it shall take none."""
        if self.spec.method != "bayes" or self.spec.impute is None:
            return None
        finished = [slot for slot in self.slots() if slot.value is not None]
        if not finished:
            return None
        values = [slot.value for slot in finished if slot.value is not None]
        if self.spec.impute == "latest":
            return values[-1]
        choose = goal.best_of if self.spec.impute == "best" else goal.worst_of
        return choose(values, self.spec.goal)

    def _set(self, trial_id: int, key: str, value: Any) -> None:
        try:
            self._storage.set_trial_user_attr(trial_id, key, value)
        except optuna.exceptions.UpdateFinishedTrialError:
            logger.warning("a trial that is final keeps its %s", key)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
