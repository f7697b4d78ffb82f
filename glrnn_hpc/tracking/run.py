"""W&B run of a training; the training goes on whatever W&B does."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glrnn_hpc import layout
from glrnn_hpc.errors import ConfigError, TrackingError, one_line
from glrnn_hpc.records.json_types import JsonObject, JsonValue
from glrnn_hpc.tracking import names
from glrnn_hpc.tracking.bounded_calls import BoundedCalls
from glrnn_hpc.tracking.offline_log import read_log

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(__name__)

#: Seconds that W&B is waited for: to start a run, to take something, and to finish a run, which uploads it if online.
START_SECONDS, STEP_SECONDS = 60.0, 30.0
FINISH_SECONDS = {"offline": 60.0, "online": 600.0}

#: The same for a process that is about to be ended.
LEAVING_SECONDS = 10.0

#: Seconds until the log of a finished run is on the disk.
_WRITING_SECONDS = 3.0

#: Settings that leave out what costs time or space: who trained what is in the configuration.
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
        The configuration of the training.
    calls : BoundedCalls
        Calls of W&B's client.
    is_ours : bool
        Whether this package opened the run: then its steps are epochs.
    level : int
        Level of the message about a failure.

    Attributes
    ----------
    config : dict
        The configuration of the training: `wandb.config` of the run, or what was given.
    is_ours : bool
        Whether this package opened the run.
    is_complete : bool
        Whether the run holds all that was logged to it.
    """

    def __init__(
        self,
        run: wandb.Run | None,
        config: JsonObject,
        calls: BoundedCalls,
        *,
        is_ours: bool = True,
        level: int = logging.WARNING,
    ) -> None:
        self._run = run
        self._calls = calls
        self.is_ours = is_ours
        self._level = level
        self._step_seconds, self._finish_seconds = STEP_SECONDS, FINISH_SECONDS
        self.config = config
        self.is_complete = run is not None

    @property
    def folder(self) -> Path | None:
        """Folder of the run's files; None without a run."""
        return Path(self._run.dir) if self._run is not None and self.is_complete else None

    @property
    def is_of_agent(self) -> bool:
        """Whether an agent of a W&B sweep has chosen the run's configuration, which then comes first."""
        return self.is_complete and getattr(self._run, "sweep_id", None) is not None

    def shorten_waits(self) -> None:
        """Wait less for W&B from now on: the process is about to be ended."""
        self._step_seconds = LEAVING_SECONDS
        self._finish_seconds = dict.fromkeys(FINISH_SECONDS, LEAVING_SECONDS)

    def log(self, *rows: Mapping[str, float], is_last: bool = False) -> None:
        """Log rows of metrics, one for each epoch; the metrics of the last row belong to the epoch before it."""

        def log(run: wandb.Run) -> None:
            for row in rows:
                # In a run of the user's own the steps are the user's.
                step = int(row["epoch"]) if self.is_ours else None
                run.log(dict(row), step=step, commit=True if is_last or not self.is_ours else None)

        self._call(log)

    def update_summary(self, values: Mapping[str, JsonValue]) -> None:
        """Set values of the summary; metrics that are logged later replace theirs."""
        self._call(lambda run: run.summary.update(dict(values)))

    def update_config(self, config: Mapping[str, JsonValue]) -> None:
        """Show the whole configuration, defaults too, in the run."""
        self._call(lambda run: run.config.update(dict(config), allow_val_change=True))  # type: ignore[no-untyped-call]

    def tag(self, tag: str) -> None:
        """Add a tag."""

        def add(run: wandb.Run) -> None:
            run.tags = (*(run.tags or ()), tag)

        self._call(add)

    def save(self, *files: Path) -> None:
        """Keep `files` in the folder of the run, and upload them with it."""
        for file in files:
            self._call(functools.partial(_save, file))

    def _call(self, action: Callable[[wandb.Run], object]) -> None:
        """Do something with the run; after the first failure, which is logged, nothing is done any more."""
        if self._run is None or not self.is_complete:
            return
        try:
            self._calls.call(functools.partial(action, self._run), self._step_seconds)
        except Exception as error:
            self.is_complete = False
            logger.log(self._level, "W&B failed, the training goes on without it: %s", one_line(error))

    def finish(self, exit_code: int, *, is_preempted: bool = False) -> None:
        """End the run, and wait until it is on the disk; one that is preempted will go on later."""
        if self._run is None:
            return
        finish = functools.partial(_finish, self._run, exit_code, is_preempted)
        try:
            self._calls.call(finish, self._finish_seconds["offline" if self._run.offline else "online"])
        except Exception as error:
            if self.is_complete:
                logger.log(self._level, "W&B could not finish the run: %s", one_line(error))
            self.is_complete = False
        if not self.is_complete:
            self._forget()

    def _forget(self) -> None:
        """Let the client forget a run that it could not end, and a service that is gone: other runs may come."""
        import wandb

        if wandb.run is self._run:
            wandb.run = None
        self._calls.recover()


def _finish(run: wandb.Run, exit_code: int, is_preempted: bool) -> None:
    """End a run and wait for the end of its log: the service closes it a moment after it has answered."""
    if is_preempted:
        run.mark_preempting()
    run.finish(exit_code=exit_code)
    log = layout.WandbRunFolder(Path(run.dir).parent).log
    end = time.monotonic() + _WRITING_SECONDS
    while read_log(log).exit_code is None:
        if time.monotonic() > end:
            # The service reports a full disk to nobody.
            raise TrackingError(f"{log} has no end; is there room on the disk?")
        time.sleep(0.01)


def _save(file: Path, run: wandb.Run) -> None:
    kept = Path(run.dir) / file.name
    if not kept.exists():
        _link_or_copy(file, kept)
    # W&B uploads a config.yaml of its own.
    if file.name != "config.yaml":
        run.save(str(kept), base_path=run.dir, policy="now", glob=False)


def _link_or_copy(file: Path, kept: Path) -> None:
    """Make `kept` the same as `file`; W&B's own link to its name would be dead once the folder is moved."""
    # config.yaml is copied: W&B's client writes its own over it.
    if file.name != "config.yaml":
        with contextlib.suppress(OSError):
            os.link(file, kept)
            return
    shutil.copyfile(file, kept)


def open_run(folder: Path, mode: str | None, **arguments: Any) -> wandb.Run:
    """Return a new run of W&B whose files go to `folder`/wandb; it may hang, so that it belongs into a bounded call.

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
def tracked_run(
    config: Mapping[str, object] | None, mode: str | None = None, folder: Path | None = None
) -> Iterator[TrackedRun]:
    """Yield the run of this training: the one that is open already, or a new one that is finished at the end.

    Parameters
    ----------
    config : mapping, optional
        The configuration; a run of `wandb agent` brings its own.
    mode : str, optional
        offline, online or disabled, or another name that W&B has for one of them; by default WANDB_MODE, else W&B's
        own choice for a run of `wandb agent`, else offline.
    folder : Path, optional
        Where the folder `wandb/` goes; WANDB_DIR comes first.

    Raises
    ------
    ConfigError
        If there is no such mode, or W&B's client refuses one of its variables.
    """
    agents = None if "WANDB_SWEEP_ID" in os.environ else "offline"
    chosen = names.chosen_mode(mode) or agents
    given = dict(config or {})
    calls = BoundedCalls()
    if chosen == "disabled":
        yield TrackedRun(None, given, calls)
        return
    # Always given: wandb remembers the current directory of the first run in this process.
    target = Path(os.environ.get("WANDB_DIR") or folder or Path.cwd())

    def start() -> tuple[wandb.Run, bool]:
        import wandb

        if wandb.run is not None:
            return wandb.run, False
        names.check_environment()
        # As W&B makes it: scripts and users look for the last run by this name.
        return open_run(target, chosen, config=given or None, settings={"symlink": True}), True

    run: wandb.Run | None = None
    is_ours = False
    try:
        run, is_ours = calls.call(start, START_SECONDS)
        merged = dict(run.config)
    except ConfigError:
        raise
    except Exception as error:
        logger.warning("W&B cannot start, the training goes on without it: %s", one_line(error))
        run, merged = None, given
    opened = TrackedRun(run, merged, calls, is_ours=is_ours)
    if run is not None and not is_ours:
        opened.config = {**given, **merged} if opened.is_of_agent else {**merged, **given}
    exit_code = 1
    try:
        yield opened
        exit_code = 0
    finally:
        if is_ours:
            opened.finish(exit_code)
