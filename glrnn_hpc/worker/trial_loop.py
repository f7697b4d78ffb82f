"""Pull trials until the sweep has none left: what a rank does, whatever it trains."""

from __future__ import annotations

import errno
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from glrnn_hpc.errors import GlrnnError, StorageError
from glrnn_hpc.study.leases import Owner
from glrnn_hpc.study.liveness import Observer, Timing, Watchdog, clean_up
from glrnn_hpc.study.study import Claim, SweepStudy

logger = logging.getLogger(__name__)

#: Errors of the file system, not of the trial: another rank, or the same one later, will do better.
_NOT_THE_TRIALS_FAULT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOTCONN})

#: How often a result is told to a study that cannot be reached, with doubling pauses of seconds between.
_TELLS = 8


class Abandoned(Exception):
    """Another rank adopted the trial; what this one does with it no longer counts."""


class Interrupted(Exception):
    """The sweep was cancelled, or this worker is to make room; the trial is given back."""


class Guard:
    """What a training asks between its steps: whether the trial is still this rank's and the sweep still wanted."""

    def __init__(
        self,
        study: SweepStudy,
        claim: Claim,
        seconds: float,
        watchdog: Watchdog,
        is_told_to_leave: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_told_to_leave = is_told_to_leave
        self._folder = study.folder
        self._lease = claim.lease
        self._seconds = seconds
        self._watchdog = watchdog
        self._looked = time.monotonic()

    def step(self) -> None:
        """Note that the training goes on; look at the files at most once per heartbeat.

        Raises
        ------
        Abandoned, Interrupted
            Like `look`.
        """
        self._watchdog.progress()
        if self._is_told_to_leave() or time.monotonic() - self._looked >= self._seconds:
            self.look()

    def look(self) -> None:
        """Look whether the training may go on.

        Raises
        ------
        Abandoned
            If the trial was adopted, or has a result already.
        Interrupted
            If the sweep was cancelled, or this worker is told to leave.
        """
        self._watchdog.progress()
        self._looked = time.monotonic()
        if not self._lease.is_newest() or self._lease.folder.result.exists():
            raise Abandoned
        if self._is_told_to_leave() or self._folder.current_state() == "cancelled":
            raise Interrupted


Train = Callable[[Claim, Guard], dict[str, Any]]

#: Told how a trial ended here: its published result, or a mapping with the state `given back` or `abandoned`.
Conclude = Callable[[Claim, dict[str, Any]], None]


def pull(
    study: SweepStudy,
    owner: Owner,
    timing: Timing,
    train: Train,
    watchdog: Watchdog,
    begin: Callable[[str], None] = lambda _: None,
    is_told_to_leave: Callable[[], bool] = lambda: False,
    conclude: Conclude = lambda claim, ending: None,
) -> None:
    """Train one trial after the other until every slot is final or the sweep is ended.

    Trials that were given back come first, then those of dead owners, then waiting ones; while trials wait, rank 0 of
    a worker alone looks for dead owners, as thousands of ranks would read thousands of files. A rank without work
    stays to adopt the trials of those that die.

    Parameters
    ----------
    study : SweepStudy
        The sweep.
    owner : Owner
        This rank.
    timing : Timing
        How often to look at others.
    train : callable
        Trains a claimed trial and returns its result; calls the guard between steps.
    watchdog : Watchdog
        Told of every progress.
    begin : callable
        Told how the time goes from now on: `gap` or `idle`.
    is_told_to_leave : callable
        Whether the worker is to make room; the trial is then given back at the next step.
    conclude : callable
        Told of each trial that ended here; raises nothing.

    Raises
    ------
    OSError, StorageError
        If the file system or the study cannot be used; the trial stays to be adopted.
    """
    observer = Observer(study.folder, timing)
    pause = min(timing.heartbeat, 1.0)
    looked = -timing.heartbeat

    def adopt() -> Claim | None:
        nonlocal looked
        if time.monotonic() - looked < timing.heartbeat:
            return None
        looked = time.monotonic()
        return study.adopt(owner, observer.is_dead)

    begin("gap")
    while not is_told_to_leave() and _goes_on(study, owner):
        watchdog.progress()
        claim = study.adopt_released(owner)
        if claim is None and owner.rank == 0:
            claim = adopt()
        claim = claim or study.claim(owner) or adopt()
        if claim is not None:
            begin("gap")
            run(study, claim, train, Guard(study, claim, timing.heartbeat, watchdog, is_told_to_leave), conclude)
        elif study.is_finished():
            study.end_if_finished()
            clean_up(study.folder)
        else:
            begin("idle")
            time.sleep(pause)


def _goes_on(study: SweepStudy, owner: Owner) -> bool:
    """Return whether the sweep runs; if not, mark this rank's worker as leaving.

    Whoever resumes the sweep writes its state and then looks for the mark; here the mark comes first and the state is
    read again. So one of the two learns of the other, and no sweep is left running without a worker.
    """
    if study.folder.current_state() == "running":
        return True
    leaving = study.folder.worker(owner.job).leaving
    if leaving.parent.exists():
        leaving.touch()
    if study.folder.current_state() != "running":
        return False
    leaving.unlink(missing_ok=True)
    return True


def run(
    study: SweepStudy,
    claim: Claim,
    train: Train,
    guard: Guard,
    conclude: Conclude = lambda claim, ending: None,
) -> None:
    """Train a claimed trial, publish its result once, tell the study; a trial that raises is recorded as failed.

    Raises
    ------
    OSError, StorageError
        If the file system or the study cannot be used.
    """
    ending: dict[str, Any] = {"state": "given back"}
    try:
        ending = _run(study, claim, train, guard)
    finally:
        conclude(claim, ending)


def _run(study: SweepStudy, claim: Claim, train: Train, guard: Guard) -> dict[str, Any]:
    abandoned = {"state": "abandoned"}
    started = time.time()
    logger.info("trial %d begins, generation %d: %s", claim.number, claim.lease.generation, claim.point)
    try:
        result = train(claim, guard)
    except Abandoned:
        logger.warning("trial %d was adopted by another worker; this one abandons it", claim.number)
        claim.lease.discard()
        return abandoned
    except Interrupted:
        logger.info("trial %d is given back after epoch %d", claim.number, claim.lease.n_epochs())
        study.release(claim)
        return {"state": "given back"}
    except Exception as error:
        if not claim.lease.is_newest() or claim.lease.folder.result.exists():
            logger.warning("trial %d was adopted by another worker; here it ended with %r", claim.number, error)
            return abandoned
        if isinstance(error, StorageError) or _is_of_the_file_system(error):
            raise
        result = _failure(claim.number, error)
    result |= {"number": claim.number, "point": claim.point, "started": started, "seconds": time.time() - started}
    # Without a result, whoever adopted the trial goes on; with one, its publisher may have died before it could tell.
    if not claim.lease.publish(result) and not claim.lease.folder.result.exists():
        logger.warning("trial %d was adopted by another worker; this result is dropped", claim.number)
        return abandoned
    result = _settle(study, claim.number)
    logger.info("trial %d %s: %s", claim.number, result["state"], result.get("metrics", result.get("error")))
    return result


def _failure(number: int, error: Exception) -> dict[str, Any]:
    if isinstance(error, GlrnnError):
        logger.warning("trial %d failed: %s", number, error)
        return {"state": "failed", "error": str(error)}
    logger.error("trial %d failed", number, exc_info=error)
    text = "".join(traceback.format_exception(error))
    return {"state": "failed", "error": f"{type(error).__name__}: {error}", "traceback": text}


def _settle(study: SweepStudy, number: int) -> dict[str, Any]:
    for attempt in range(_TELLS - 1):
        try:
            return study.settle(number)
        except StorageError as error:
            logger.warning("the study cannot be told of trial %d yet: %s", number, error)
            time.sleep(2**attempt)
    return study.settle(number)


def _is_of_the_file_system(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NOT_THE_TRIALS_FAULT:
            return True
        error = error.__cause__ or error.__context__
    return False
