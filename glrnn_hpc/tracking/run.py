"""A training's run in W&B. Whatever W&B does, the training goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.errors import TrackingError
from glrnn_hpc.tracking.bounded_calls import Errands
from glrnn_hpc.tracking.offline_log import read_log

logger = logging.getLogger(__name__)

MODES = ("offline", "online", "disabled")

#: Seconds that W&B is waited for: to start a run, to take something, and to finish a run, which uploads it if online.
START, STEP = 60.0, 30.0
FINISH = {"offline": 60.0, "online": 600.0}

#: Seconds until the log of a finished run is on the disk.
_WRITING = 3.0

#: The same for a process that has been told to leave.
HURRY = 10.0

#: What is not worth its time or place in a run of this package: who trained what is in the configuration.
_QUIET = {
    "silent": True,
    "console": "off",
    "symlink": False,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
}


class TrackedRun:
    """A W&B run, or the place of one that could not be started.

    Parameters
    ----------
    run : wandb.Run or None
        The run.
    config : dict
        The configuration that decides.
    errands : Errands
        Who calls W&B.
    is_ours : bool
        Whether this package opened the run: then its steps are epochs.
    level : int
        Of the message that tells of a failure.

    Attributes
    ----------
    config : dict
        The configuration that decides: `wandb.config` of the run, or what was given.
    is_ours : bool
        Whether this package opened the run.
    is_whole : bool
        Whether the run has got all that it was told.
    """

    def __init__(
        self,
        run: Any,
        config: dict[str, Any],
        errands: Errands,
        *,
        is_ours: bool = True,
        level: int = logging.WARNING,
    ) -> None:
        self._run = run
        self._errands = errands
        self.is_ours = is_ours
        self._level = level
        self._step, self._finish = STEP, FINISH
        self.config = config
        self.is_whole = run is not None

    @property
    def folder(self) -> Path | None:
        """Folder of the run's files; None without a run."""
        return Path(self._run.dir) if self.is_whole else None

    @property
    def decides(self) -> bool:
        """Whether the run's configuration comes first: an agent of a W&B sweep has chosen it."""
        return self.is_whole and getattr(self._run, "sweep_id", None) is not None

    def hurry(self) -> None:
        """Wait less for W&B from now on: the process is about to be ended."""
        self._step = HURRY
        self._finish = dict.fromkeys(FINISH, HURRY)

    def log(self, *rows: Mapping[str, float], is_last: bool = False) -> None:
        """Log rows of metrics, one for each epoch; the metrics of the last row belong to the epoch before it."""

        def log() -> None:
            for row in rows:
                # In a run of the user's own the steps are the user's.
                step = int(row["epoch"]) if self.is_ours else None
                self._run.log(dict(row), step=step, commit=True if is_last or not self.is_ours else None)

        self.do(log)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Set values of the summary; metrics that are logged later replace theirs."""
        self.do(lambda: self._run.summary.update(dict(values)))

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Show the whole configuration, defaults too, in the run."""
        self.do(lambda: self._run.config.update(dict(config), allow_val_change=True))

    def tag(self, tag: str) -> None:
        """Add a tag."""

        def add() -> None:
            self._run.tags = (*self._run.tags, tag)

        self.do(add)

    def save(self, *files: Path) -> None:
        """Keep `files` in the folder of the run, and upload them with it."""
        for file in files:
            self.do(lambda file=file: self._save(file))

    def _save(self, file: Path) -> None:
        kept = Path(self._run.dir) / file.name
        if not kept.exists():
            _keep(file, kept)
        # W&B uploads a config.yaml of its own.
        if file.name != "config.yaml":
            self._run.save(str(kept), base_path=self._run.dir, policy="now", glob=False)

    def do(self, action: Any) -> None:
        """Do something with the run; after the first failure, which is logged, nothing is done any more."""
        if not self.is_whole:
            return
        try:
            self._errands.run(action, self._step)
        except Exception as error:
            self.is_whole = False
            logger.log(self._level, "W&B failed, the training goes on without it: %s", say(error))

    def finish(self, exit_code: int, *, is_preempted: bool = False) -> None:
        """End the run, and wait until it is on the disk; one that is preempted will go on later."""
        if self._run is None:
            return

        def finish() -> None:
            if is_preempted:
                self._run.mark_preempting()
            self._run.finish(exit_code=exit_code)
            self._wait_until_written()

        try:
            self._errands.run(finish, self._finish["offline" if self._run.offline else "online"])
        except Exception as error:
            if self.is_whole:
                logger.log(self._level, "W&B could not finish the run: %s", say(error))
            self.is_whole = False
        if not self.is_whole:
            self._forget()

    def _forget(self) -> None:
        """Let the client forget a run that it could not end, and a service that is gone: others may come."""
        import wandb

        if wandb.run is self._run:
            wandb.run = None
        self._errands.mend()

    def _wait_until_written(self) -> None:
        """Wait for the end of the log: the service closes it a moment after it has said that the run is finished."""
        log = layout.Fragment(Path(self._run.dir).parent).log
        end = time.monotonic() + _WRITING
        while read_log(log).exit_code is None:
            if time.monotonic() > end:
                # The service tells nobody of a full disk.
                raise TrackingError(f"{log} has no end; is there room on the disk?")
            time.sleep(0.01)


def say(error: BaseException) -> str:
    """Return an error in one line; some of W&B's have no text."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _keep(file: Path, kept: Path) -> None:
    """Make `kept` the same as `file`; W&B's own way is a link to its name, which is dead once the folder is moved."""
    # config.yaml is copied: W&B's client writes its own over it.
    if file.name != "config.yaml":
        with contextlib.suppress(OSError):
            os.link(file, kept)
            return
    shutil.copyfile(file, kept)


def open_run(folder: Path, mode: str | None, **arguments: Any) -> Any:
    """Return a new run of W&B whose files go to `folder`/wandb; to be called by an errand.

    Raises
    ------
    OSError
        If nothing can be written there: W&B would go to another folder, where nobody finds the run.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder}: cannot be written")
    settings = wandb.Settings(**{**_QUIET, **arguments.pop("settings", {})})
    # Any: wandb itself refuses a mode that it does not know.
    known: Any = {"dir": str(folder), "mode": mode}
    return wandb.init(**known, **arguments, settings=settings)


@contextlib.contextmanager
def tracked(
    config: Mapping[str, Any] | None, mode: str | None = None, folder: Path | None = None
) -> Iterator[TrackedRun]:
    """Give the run of this training: the one that is open already, or a new one that is finished at the end.

    Parameters
    ----------
    config : mapping, optional
        The configuration; a run of `wandb agent` brings its own.
    mode : str, optional
        offline, online or disabled; by default WANDB_MODE, else W&B's own choice for a run of `wandb agent`, else
        offline.
    folder : Path, optional
        Where the folder `wandb/` goes; WANDB_DIR comes first.
    """
    agents = None if "WANDB_SWEEP_ID" in os.environ else "offline"
    chosen = mode or os.environ.get("WANDB_MODE") or agents
    given = dict(config or {})
    errands = Errands()
    if chosen == "disabled":
        yield TrackedRun(None, given, errands)
        return
    # Always said: wandb remembers the current directory of the first run in this process.
    target = Path(os.environ.get("WANDB_DIR") or folder or Path.cwd())

    def start() -> tuple[Any, bool]:
        import wandb

        if wandb.run is not None:
            return wandb.run, False
        return open_run(target, chosen, config=given or None), True

    run, is_ours = None, False
    try:
        run, is_ours = errands.run(start, START)
        merged = dict(run.config)
    except Exception as error:
        logger.warning("W&B cannot start, the training goes on without it: %s", say(error))
        run, merged = None, given
    opened = TrackedRun(run, merged, errands, is_ours=is_ours)
    if run is not None and not is_ours:
        opened.config = {**given, **merged} if opened.decides else {**merged, **given}
    exit_code = 1
    try:
        yield opened
        exit_code = 0
    finally:
        if is_ours:
            opened.finish(exit_code)
