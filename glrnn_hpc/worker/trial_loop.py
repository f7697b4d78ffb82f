"""Loop of a rank over the trials of a sweep: claim or adopt, train, publish, settle."""

from __future__ import annotations

import errno
import logging
import time
import traceback
from collections.abc import Callable
from typing import TypeAlias

from glrnn_hpc.errors import GlrnnError, StorageError
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import Timing, read_sweep_state
from glrnn_hpc.records.trial_result import TrialEnding, TrialOutcome, TrialResult
from glrnn_hpc.study.liveness import Observer, Watchdog, clean_up
from glrnn_hpc.study.study import Claim, SweepStudy

logger = logging.getLogger(__name__)

#: Errors of the file system, not of the trial: another rank, or the same one later, will do better.
_NOT_THE_TRIALS_FAULT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOTCONN})

#: Attempts to settle a trial in a study that cannot be reached, with doubling pauses of seconds between.
_SETTLING_ATTEMPTS = 8


class Abandoned(Exception):
    """Another rank has adopted the trial; what this one does with it no longer counts."""


class Interrupted(Exception):
    """The sweep was cancelled, or this worker is to leave; the trial is released."""


class Guard:
    """Check between the steps of a training whether the trial is still this rank's and the sweep still runs."""

    def __init__(
        self,
        study: SweepStudy,
        claim: Claim,
        seconds: float,
        watchdog: Watchdog,
        is_leaving_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_leaving_requested = is_leaving_requested
        self._folder = study.folder
        self._lease = claim.lease
        self._seconds = seconds
        self._watchdog = watchdog
        self._last_check = time.monotonic()

    def step(self) -> None:
        """Note that the training goes on; read the files at most once per heartbeat.

        Raises
        ------
        Abandoned, Interrupted
            Like `check`.
        """
        self._watchdog.progress()
        if self._is_leaving_requested() or time.monotonic() - self._last_check >= self._seconds:
            self.check()

    def check(self) -> None:
        """Check whether the training may go on.

        Raises
        ------
        Abandoned
            If the trial was adopted, or has a result already.
        Interrupted
            If the sweep was cancelled, or this worker is to leave.
        """
        self._watchdog.progress()
        self._last_check = time.monotonic()
        if not self._lease.is_newest() or self._lease.folder.result.exists():
            raise Abandoned
        if self._is_leaving_requested() or read_sweep_state(self._folder).state == "cancelled":
            raise Interrupted


Train: TypeAlias = Callable[[Claim, Guard], TrialOutcome]

#: Called after each trial with its published result, or with `released` or `abandoned`.
OnTrialEnd: TypeAlias = Callable[[Claim, TrialEnding], None]


def work_on_trials(
    study: SweepStudy,
    owner: Owner,
    timing: Timing,
    train: Train,
    watchdog: Watchdog,
    begin: Callable[[str], None] = lambda _: None,
    is_leaving_requested: Callable[[], bool] = lambda: False,
    on_trial_end: OnTrialEnd = lambda claim, ending: None,
    is_ending_requested: Callable[[bool], bool] = lambda has_trained: False,
) -> None:
    """Train one trial after the other until every slot is final or the sweep is ended.

    Trials that were released come first, then those of dead owners, then waiting ones; while trials wait, rank 0 of
    a worker alone looks for dead owners, as thousands of ranks would read thousands of files. A rank without work
    stays to adopt the trials of those that die.

    Parameters
    ----------
    study : SweepStudy
        The sweep.
    owner : Owner
        This rank.
    timing : Timing
        Intervals at which other workers are observed.
    train : callable
        Trains a claimed trial and returns its outcome; calls the guard between steps.
    watchdog : Watchdog
        Notes every progress.
    begin : callable
        Called with the kind of time that begins: `gap` or `idle`.
    is_leaving_requested : callable
        Whether the worker is to leave; the trial is then released at the next step.
    on_trial_end : callable
        Called after each trial; raises nothing.
    is_ending_requested : callable
        Whether the worker is to end between two trials; called before each with whether this rank has trained one.

    Raises
    ------
    OSError, StorageError
        If the file system or the study cannot be used; the trial stays to be adopted.
    """
    observer = Observer(study.folder, timing)
    pause = min(timing.heartbeat, 1.0)
    last_search = -timing.heartbeat

    def adopt() -> Claim | None:
        nonlocal last_search
        if time.monotonic() - last_search < timing.heartbeat:
            return None
        last_search = time.monotonic()
        return study.adopt(owner, observer.is_dead)

    has_trained = False
    begin("gap")
    while not is_leaving_requested() and _is_running(study, owner):
        if is_ending_requested(has_trained) and not study.is_finished():
            break
        watchdog.progress()
        claim = study.adopt_released(owner)
        if claim is None and owner.rank == 0:
            claim = adopt()
        claim = claim or study.claim(owner) or adopt()
        if claim is not None:
            begin("gap")
            run(
                study, claim, train, Guard(study, claim, timing.heartbeat, watchdog, is_leaving_requested), on_trial_end
            )
            has_trained = True
        elif study.is_finished():
            study.end_if_finished()
            clean_up(study.folder)
        else:
            begin("idle")
            time.sleep(pause)


def _is_running(study: SweepStudy, owner: Owner) -> bool:
    """Return whether the sweep runs; if not, mark this rank's worker as leaving.

    `resume` writes the state and then looks for the mark; here the mark comes first and the state is read again. So one
    of the two sees the other, and no sweep is left running without a worker.
    """
    if read_sweep_state(study.folder).state == "running":
        return True
    leaving = study.folder.worker(owner.job).leaving
    if leaving.parent.exists():
        leaving.touch()
    if read_sweep_state(study.folder).state != "running":
        return False
    leaving.unlink(missing_ok=True)
    return True


def run(
    study: SweepStudy,
    claim: Claim,
    train: Train,
    guard: Guard,
    on_trial_end: OnTrialEnd = lambda claim, ending: None,
) -> None:
    """Train a claimed trial, publish its result once, settle it; a trial that raises is recorded as failed.

    Raises
    ------
    OSError, StorageError
        If the file system or the study cannot be used.
    """
    ending: TrialEnding = "released"
    try:
        ending = _run(study, claim, train, guard)
    finally:
        on_trial_end(claim, ending)


def _run(study: SweepStudy, claim: Claim, train: Train, guard: Guard) -> TrialEnding:
    started = time.time()
    logger.info("trial %d begins, generation %d: %s", claim.number, claim.lease.generation, claim.point)
    try:
        outcome = train(claim, guard)
    except Abandoned:
        logger.warning("trial %d was adopted by another worker; this one abandons it", claim.number)
        claim.lease.discard()
        return "abandoned"
    except Interrupted:
        study.release(claim)
        logger.info("trial %d is released after epoch %d", claim.number, claim.lease.n_epochs())
        return "released"
    except Exception as error:
        if not claim.lease.is_newest() or claim.lease.folder.result.exists():
            logger.warning("trial %d was adopted by another worker; here it ended with %r", claim.number, error)
            return "abandoned"
        if isinstance(error, StorageError) or _is_of_the_file_system(error):
            raise
        outcome = _failure(claim.number, error)
    result = claim.result_of(outcome, started=started, seconds=time.time() - started)
    # Without a result, the adopter goes on; with one, its publisher may have died before it could settle the trial.
    if not claim.lease.publish(result) and not claim.lease.folder.result.exists():
        logger.warning("trial %d was adopted by another worker; this result is dropped", claim.number)
        return "abandoned"
    result = _settle(study, claim.number)
    logger.info("trial %d %s: %s", claim.number, result.state, result.metrics or result.error)
    return result


def _failure(number: int, error: Exception) -> TrialOutcome:
    if isinstance(error, GlrnnError):
        logger.warning("trial %d failed: %s", number, error)
        return TrialOutcome(state="failed", error=str(error))
    logger.error("trial %d failed", number, exc_info=error)
    text = "".join(traceback.format_exception(error))
    return TrialOutcome(state="failed", error=f"{type(error).__name__}: {error}", traceback=text)


def _settle(study: SweepStudy, number: int) -> TrialResult:
    for attempt in range(_SETTLING_ATTEMPTS - 1):
        try:
            return study.settle(number)
        except StorageError as error:
            logger.warning("trial %d cannot be settled in the study yet: %s", number, error)
            time.sleep(2**attempt)
    return study.settle(number)


def _is_of_the_file_system(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NOT_THE_TRIALS_FAULT:
            return True
        error = error.__cause__ or error.__context__
    return False
