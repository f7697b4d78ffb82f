"""Bring offline runs to the W&B server: those of a sweep's trials, or of single trainings."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.errors import TrackingError
from glrnn_hpc.tracking.offline_log import Log, read_log
from glrnn_hpc.tracking.server import server_url
from glrnn_hpc.tracking.sync_marks import Mark, add_marks, marks_of, new_mark
from glrnn_hpc.tracking.trial_tracker import Tracking, record_trial
from glrnn_hpc.tracking.upload import Patience, Server, send

logger = logging.getLogger(__name__)

#: Runs that one process of the client sends.
BATCH = 50


@dataclass(frozen=True)
class Candidate:
    """A run that could be sent.

    Attributes
    ----------
    name : str
        For the user: of the trial, or of the run's folder.
    fragment : Fragment or None
        Its folder; None if it is to be written from the records of the trial.
    is_finished : bool
        Whether nothing will be added to it.
    number : int or None
        Of the trial.
    """

    name: str
    fragment: layout.Fragment | None
    is_finished: bool
    number: int | None = None

    def marks(self) -> list[Mark]:
        """Return what is known of the servers that have it."""
        return marks_of(self.fragment) if self.fragment else []


@dataclass(frozen=True)
class Outcome:
    """What became of one run: `state` is synced, skipped, failed, or would sync; `reason` says why."""

    name: str
    state: str
    reason: str
    path: str | None = None


def sync(
    root: Path,
    *,
    is_dry: bool = False,
    include_unfinished: bool = False,
    patience: Patience | None = None,
) -> list[Outcome]:
    """Send the runs below a folder that the server does not have.

    Parameters
    ----------
    root : Path
        Folder of a sweep or of a single training.
    is_dry : bool
        Whether nothing is sent, and no server asked.
    include_unfinished : bool
        Whether runs are sent, too, that are still written; they are sent again later.
    patience : Patience, optional
        How long things are waited for.

    Returns
    -------
    list of Outcome
        One for each run, in the order of the trials.

    Raises
    ------
    TrackingError
        If there is no run in `root`, another process sends them, the server cannot be reached, or there is no key for
        it. Nothing has been marked then as sent.
    """
    found = candidates(root)
    if not found:
        raise TrackingError(
            f"{root}: holds no run of W&B; the folder of a sweep or of a training that was tracked is needed "
            "(--wandb offline)."
        )
    if is_dry:
        return [_foreseen(candidate, include_unfinished) for candidate in found]
    sweep = layout.SweepFolder(root)
    with _alone(sweep):
        return _Syncing(sweep, include_unfinished, patience or Patience()).run(candidates(root))


def candidates(root: Path) -> list[Candidate]:
    """Return the runs below a folder: of each trial the newest fragment, in which all of the older ones is."""
    sweep = layout.SweepFolder(root)
    if not sweep.sweep.exists():
        return [_of_training(layout.Fragment(path.parent)) for path in sorted((root / "wandb").glob("*run-*/*.wandb"))]
    if Tracking.of(sweep) is None:
        return []
    numbers = sorted(int(path.name) for path in sweep.trials.glob("[0-9]*") if path.name.isdigit())
    return [candidate for number in numbers if (candidate := _of_trial(sweep, number)) is not None]


def _of_trial(sweep: layout.SweepFolder, number: int) -> Candidate | None:
    trial, name = sweep.trial(number), f"trial {number}"
    fragments = trial.fragments()
    newest = fragments[-1] if fragments else None
    if trial.result.exists():
        is_whole = newest is not None and newest.is_final()
        return Candidate(name, newest if is_whole else None, is_finished=True, number=number)
    return None if newest is None else Candidate(name, newest, is_finished=False, number=number)


def _of_training(fragment: layout.Fragment) -> Candidate:
    return Candidate(fragment.root.name, fragment, is_finished=read_log(fragment.log).exit_code is not None)


def _foreseen(candidate: Candidate, include_unfinished: bool) -> Outcome:
    if reason := _reason_to_skip(candidate, include_unfinished):
        return Outcome(candidate.name, "skipped", reason)
    reason = "" if candidate.fragment else "from the records of the trial"
    if marks := candidate.marks():
        reason = f"is on {', '.join(mark.server for mark in marks)}, not known to be on {server_url()}"
    return Outcome(candidate.name, "would sync", reason)


def _reason_to_skip(candidate: Candidate, include_unfinished: bool) -> str:
    for mark in candidate.marks():
        # Only then, as it imports W&B's client.
        if mark.server == server_url():
            return f"synced already: {mark.path} on {mark.server}"
    if not candidate.is_finished and not include_unfinished:
        return "is not finished"
    return ""


@dataclass(frozen=True)
class _Ready:
    """A run that can be sent."""

    candidate: Candidate
    fragment: layout.Fragment
    run: Log

    def is_claimed(self) -> bool:
        return self.fragment.client_mark.exists() or not self.fragment.is_offline()


class _Syncing:
    """One pass over the runs of a folder."""

    def __init__(self, sweep: layout.SweepFolder, include_unfinished: bool, patience: Patience) -> None:
        self._sweep, self._include_unfinished, self._patience = sweep, include_unfinished, patience
        self._outcomes: dict[str, Outcome] = {}
        self._lacks: dict[str, str] = {}

    def run(self, found: Sequence[Candidate]) -> list[Outcome]:
        """Send what is to be sent."""
        todo = []
        for candidate in found:
            if reason := _reason_to_skip(candidate, self._include_unfinished):
                self._outcomes[candidate.name] = Outcome(candidate.name, "skipped", reason)
            else:
                todo.append(candidate)
        if todo:
            self._server = Server()
            self._send_all(todo)
        return [self._outcomes[candidate.name] for candidate in found]

    def _send_all(self, todo: Sequence[Candidate]) -> None:
        for start in range(0, len(todo), BATCH):
            try:
                self._send(todo[start : start + BATCH])
            except TrackingError as error:
                if not any(outcome.state == "synced" for outcome in self._outcomes.values()):
                    raise
                for candidate in todo:
                    if candidate.name not in self._outcomes:
                        self._note(candidate, "failed", str(error))
                return
            n_done = sum(candidate.name in self._outcomes for candidate in todo)
            logger.info("%d of %d runs are done", n_done, len(todo))

    def _send(self, batch: Sequence[Candidate]) -> None:
        pairs = [ready for candidate in batch if (ready := self._ready(candidate)) is not None]
        # The client has sent these already: by hand, in a sync that was interrupted, or while they were online.
        claimed = [ready for ready in pairs if ready.candidate.is_finished and ready.is_claimed()]
        if claimed:
            lacks = self._server.missing([(ready.run, ready.fragment.files) for ready in claimed], seconds=0)
            for ready, lack in zip(claimed, lacks, strict=True):
                if not lack:
                    self._mark(ready, "skipped", "the server has it already")
        if left := self._left(pairs):
            self._send_and_confirm(left)

    def _ready(self, candidate: Candidate) -> _Ready | None:
        """Read the log of a run, or write it from the records of the trial; None, and a failure, if it is broken."""
        fragment, log, marks = candidate.fragment, None, candidate.marks()
        try:
            if fragment is not None:
                log = read_log(fragment.log)
            if candidate.number is not None and candidate.is_finished and (log is None or log.exit_code is None):
                # W&B did not write it, or its log was damaged since.
                fragment = record_trial(self._sweep, candidate.number)
                add_marks(fragment, marks)  # the old log is gone, and its marks with it
                log = read_log(fragment.log)
            if fragment is None or log is None or log.run_id is None:
                where = fragment.log if fragment else candidate.name
                raise TrackingError(f"{where}: is empty or broken; W&B's client was ended before it wrote of its run.")
            return _Ready(candidate, fragment, log)
        except TrackingError as error:
            self._note(candidate, "failed", str(error))
            return None

    def _send_and_confirm(self, pairs: Sequence[_Ready]) -> None:
        for ready in pairs:
            # An older one may lie: the client leaves it also if the server refused a part of the run.
            ready.fragment.client_mark.unlink(missing_ok=True)
        asked: set[str] = set()

        def confirm_what_is_sent() -> None:
            """Mark at once what has arrived: whatever happens to the rest, it is not sent again."""
            for ready in pairs:
                if ready.candidate.name not in asked and ready.fragment.client_mark.exists():
                    asked.add(ready.candidate.name)
                    self._confirm([ready], seconds=0)

        said: list[str] = []
        try:
            logs = [ready.fragment.log for ready in pairs]
            said = send(logs, self._server.url, self._patience, confirm_what_is_sent)
            self._confirm(self._left(pairs), self._patience.confirmation)
        finally:
            for ready in self._left(pairs):
                ready.fragment.client_mark.unlink(missing_ok=True)
        for ready in self._left(pairs):
            self._note(ready.candidate, "failed", self._lacks.get(ready.candidate.name, "") + _error_in(said, ready))

    def _confirm(self, pairs: Sequence[_Ready], seconds: float) -> None:
        lacks = self._server.missing([(ready.run, ready.fragment.files) for ready in pairs], seconds)
        for ready, lack in zip(pairs, lacks, strict=True):
            self._lacks[ready.candidate.name] = lack
            if not lack:
                self._mark(ready, "synced", "")

    def _left(self, pairs: Sequence[_Ready]) -> list[_Ready]:
        return [ready for ready in pairs if ready.candidate.name not in self._outcomes]

    def _mark(self, ready: _Ready, state: str, reason: str) -> None:
        path = self._server.path(ready.run)
        if ready.candidate.is_finished:
            add_marks(ready.fragment, [new_mark(self._server.url, path)])
            ready.fragment.client_mark.touch()  # for `wandb sync` and `wandb clean`
        else:
            ready.fragment.client_mark.unlink(missing_ok=True)
            reason = "so far; it is not finished"
        self._note(ready.candidate, state, reason, path)

    def _note(self, candidate: Candidate, state: str, reason: str, path: str | None = None) -> None:
        self._outcomes[candidate.name] = Outcome(candidate.name, state, reason, path)


def _error_in(said: Sequence[str], ready: _Ready) -> str:
    """Return the last error that the client said of a run."""
    marks = (f"/{ready.run.run_id}]", ready.fragment.root.name)
    errors = [line for line in said if "ERROR" in line and any(mark in line for mark in marks)]
    return f" ({errors[-1].partition('ERROR')[2].strip()})" if errors else ""


@contextlib.contextmanager
def _alone(sweep: layout.SweepFolder) -> Iterator[None]:
    """Keep other processes from sending the same runs; the lock ends with its process.

    Raises
    ------
    TrackingError
        If another process does.
    """
    with sweep.sync_lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrackingError(f"{sweep.root}: another `glrnn sync` is at work here; wait until it ends.") from error
        except OSError as error:
            logger.warning("%s cannot be locked (%s): start no other `glrnn sync` of it meanwhile", file.name, error)
        yield
