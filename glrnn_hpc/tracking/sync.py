"""Sync of offline runs with W&B's server: those of a sweep's trials, or of single trainings."""

from __future__ import annotations

import contextlib
import fcntl
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.errors import ConfigError, TrackingError
from glrnn_hpc.records.tracking_settings import read_tracking_settings
from glrnn_hpc.tracking import names
from glrnn_hpc.tracking.confirmation import RunConfirmation
from glrnn_hpc.tracking.offline_log import OfflineLog, read_log
from glrnn_hpc.tracking.run_from_records import write_run_from_records
from glrnn_hpc.tracking.server import server_url
from glrnn_hpc.tracking.sync_candidates import Candidate, find_candidates
from glrnn_hpc.tracking.sync_marks import SyncMark, add_marks
from glrnn_hpc.tracking.upload import SyncTimeouts, upload

logger = logging.getLogger(__name__)

#: Runs that one process of the client sends.
BATCH = 50


@dataclass(frozen=True)
class SyncOutcome:
    """Outcome of the sync of one run: `state` is synced, skipped, failed, or would sync; `reason` says why."""

    name: str
    state: str
    reason: str
    path: str | None = None


def sync(
    root: Path,
    *,
    is_dry: bool = False,
    include_unfinished: bool = False,
    timeouts: SyncTimeouts | None = None,
) -> list[SyncOutcome]:
    """Send the runs below a folder that the server does not have.

    Parameters
    ----------
    root : Path
        Folder of a sweep or of a single training.
    is_dry : bool
        Whether nothing is sent, and no server asked.
    include_unfinished : bool
        Whether runs are sent, too, that are still written; they are sent again later.
    timeouts : SyncTimeouts, optional
        How long the client and the server are waited for.

    Returns
    -------
    list of SyncOutcome
        One for each run, in the order of the trials.

    Raises
    ------
    ConfigError
        If the settings of the sweep name a project or an entity that W&B does not take.
    TrackingError
        If there is no run in `root`, another process sends them, the server cannot be reached, or there is no key for
        it. Nothing has been marked then as sent.
    """
    names.check_environment()
    sweep = layout.SweepFolder(root)
    _check_names(sweep)
    candidates = find_candidates(root)
    if not candidates:
        raise TrackingError(
            f"{root}: holds no run of W&B; the folder of a sweep or of a training that was tracked is needed "
            "(--wandb offline)."
        )
    if is_dry:
        return [_expected_outcome(candidate, include_unfinished) for candidate in candidates]
    with _sync_lock(sweep):
        return _Sync(sweep, include_unfinished, timeouts or SyncTimeouts()).run(find_candidates(root))


def _check_names(sweep: layout.SweepFolder) -> None:
    """Check the names in the settings of a sweep, which earlier versions took as they were."""
    settings = read_tracking_settings(sweep)
    if settings is None:
        return
    try:
        names.check_project(f"{sweep.tracking}: project", settings.project)
        if settings.entity is not None:
            names.check_entity(f"{sweep.tracking}: entity", settings.entity)
    except ConfigError as error:
        raise ConfigError(
            f"{error} Correct it there and remove {sweep.trials}/*/wandb: the runs are then written anew."
        ) from error


def _expected_outcome(candidate: Candidate, include_unfinished: bool) -> SyncOutcome:
    if reason := candidate.reason_to_skip(include_unfinished):
        return SyncOutcome(candidate.name, "skipped", reason)
    reason = "" if candidate.folder else "from the records of the trial"
    if marks := candidate.marks():
        reason = f"is on {', '.join(mark.server for mark in marks)}, not known to be on {server_url()}"
    return SyncOutcome(candidate.name, "would sync", reason)


@dataclass(frozen=True)
class _ReadableRun:
    """A run whose log was read, so that it can be sent."""

    candidate: Candidate
    folder: layout.WandbRunFolder
    log: OfflineLog

    def was_sent_by_client(self) -> bool:
        return self.folder.client_mark.exists() or not self.folder.is_offline()


class _Sync:
    """One pass over the runs of a folder."""

    def __init__(self, sweep: layout.SweepFolder, include_unfinished: bool, timeouts: SyncTimeouts) -> None:
        self._sweep, self._include_unfinished, self._timeouts = sweep, include_unfinished, timeouts
        self._outcomes: dict[str, SyncOutcome] = {}
        self._missing: dict[str, str] = {}

    def run(self, candidates: Sequence[Candidate]) -> list[SyncOutcome]:
        """Send the candidates that the server does not have."""
        to_send = []
        for candidate in candidates:
            if reason := candidate.reason_to_skip(self._include_unfinished):
                self._set_outcome(candidate, "skipped", reason)
            else:
                to_send.append(candidate)
        if to_send:
            self._confirmation = RunConfirmation()
            self._send_in_batches(to_send)
        return [self._outcomes[candidate.name] for candidate in candidates]

    def _send_in_batches(self, to_send: Sequence[Candidate]) -> None:
        for start in range(0, len(to_send), BATCH):
            try:
                self._send(to_send[start : start + BATCH])
            except TrackingError as error:
                if not any(outcome.state == "synced" for outcome in self._outcomes.values()):
                    raise
                for candidate in to_send:
                    if candidate.name not in self._outcomes:
                        self._set_outcome(candidate, "failed", str(error))
                return
            n_done = sum(candidate.name in self._outcomes for candidate in to_send)
            logger.info("%d of %d runs are done", n_done, len(to_send))

    def _send(self, batch: Sequence[Candidate]) -> None:
        runs = [run for candidate in batch if (run := self._readable(candidate)) is not None]
        # The client has sent these already: by hand, in a sync that was interrupted, or while they were online.
        sent = [run for run in runs if run.candidate.is_finished and run.was_sent_by_client()]
        if sent:
            missing = self._confirmation.missing([(run.log, run.folder.files) for run in sent], seconds=0)
            for run, lack in zip(sent, missing, strict=True):
                if not lack:
                    self._mark(run, "skipped", "the server has it already")
        if pending := self._pending(runs):
            self._upload_and_confirm(pending)

    def _readable(self, candidate: Candidate) -> _ReadableRun | None:
        """Read the log of a run, or write it from the records of the trial; None, and a failure, if it is broken."""
        folder, log, marks = candidate.folder, None, candidate.marks()
        try:
            if folder is not None:
                log = read_log(folder.log)
            if candidate.number is not None and candidate.is_finished and (log is None or log.exit_code is None):
                # W&B did not write it, or its log was damaged since.
                folder = write_run_from_records(self._sweep, candidate.number).folder
                add_marks(folder, marks)  # the old log is gone, and its marks with it
                log = read_log(folder.log)
            if folder is None or log is None or log.run_id is None:
                where = folder.log if folder else candidate.name
                raise TrackingError(f"{where}: is empty or broken; W&B's client was ended before it wrote of its run.")
            return _ReadableRun(candidate, folder, log)
        except TrackingError as error:
            self._set_outcome(candidate, "failed", str(error))
            return None

    def _upload_and_confirm(self, runs: Sequence[_ReadableRun]) -> None:
        for run in runs:
            # An older one may lie there: the client leaves it also if the server refused a part of the run.
            run.folder.client_mark.unlink(missing_ok=True)
        checked: set[str] = set()

        def confirm_sent_runs() -> list[Path]:
            """Mark at once the runs that have arrived: whatever happens to the rest, they are not sent again."""
            for run in runs:
                if run.candidate.name not in checked and run.folder.client_mark.exists():
                    checked.add(run.candidate.name)
                    self._confirm([run], seconds=0)
            return [run.folder.log for run in runs if run.candidate.name not in checked]

        output: list[str] = []
        try:
            logs = [run.folder.log for run in runs]
            uploaded = upload(logs, self._confirmation.url, self._timeouts, confirm_sent_runs)
            output = uploaded.output
            for run in runs:
                if reason := uploaded.refused.get(run.folder.log):
                    self._set_outcome(run.candidate, "failed", f"{self._confirmation.path(run.log)}: {reason}")
            self._confirm(self._pending(runs), self._timeouts.confirmation)
        finally:
            for run in self._pending(runs):
                run.folder.client_mark.unlink(missing_ok=True)
        for run in self._pending(runs):
            reason = self._missing.get(run.candidate.name, "") + _error_in(output, run)
            self._set_outcome(run.candidate, "failed", reason)

    def _confirm(self, runs: Sequence[_ReadableRun], seconds: float) -> None:
        missing = self._confirmation.missing([(run.log, run.folder.files) for run in runs], seconds)
        for run, lack in zip(runs, missing, strict=True):
            self._missing[run.candidate.name] = lack
            if not lack:
                self._mark(run, "synced", "")

    def _pending(self, runs: Sequence[_ReadableRun]) -> list[_ReadableRun]:
        return [run for run in runs if run.candidate.name not in self._outcomes]

    def _mark(self, run: _ReadableRun, state: str, reason: str) -> None:
        path = self._confirmation.path(run.log)
        if run.candidate.is_finished:
            add_marks(run.folder, [SyncMark.now(self._confirmation.url, path)])
            run.folder.client_mark.touch()  # for `wandb sync` and `wandb clean`
        else:
            run.folder.client_mark.unlink(missing_ok=True)
            reason = "so far; it is not finished"
        self._set_outcome(run.candidate, state, reason, path)

    def _set_outcome(self, candidate: Candidate, state: str, reason: str, path: str | None = None) -> None:
        self._outcomes[candidate.name] = SyncOutcome(candidate.name, state, reason, path)


def _error_in(output: Sequence[str], run: _ReadableRun) -> str:
    """Return the last error that the client printed about a run, in brackets."""
    identities = (f"/{run.log.run_id}]", run.folder.root.name)
    errors = [line for line in output if "ERROR" in line and any(identity in line for identity in identities)]
    return f" ({errors[-1].partition('ERROR')[2].strip()})" if errors else ""


@contextlib.contextmanager
def _sync_lock(sweep: layout.SweepFolder) -> Iterator[None]:
    """Keep other processes from sending the same runs; the lock ends with its process.

    Raises
    ------
    TrackingError
        If another process holds the lock.
    """
    with sweep.sync_lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrackingError(f"{sweep.root}: another `glrnn sync` is at work here; wait until it ends.") from error
        except OSError as error:
            logger.warning("%s cannot be locked (%s): start no other `glrnn sync` of it meanwhile", file.name, error)
        yield
