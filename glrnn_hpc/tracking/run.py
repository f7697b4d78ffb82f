"""A training's run in W&B: the one owner of wandb. Whatever W&B does, the training goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class TrackedRun:
    """A W&B run, or the place of one that could not be started.

    Attributes
    ----------
    config : dict
        The configuration that decides: `wandb.config` of the run, or what was given.
    """

    def __init__(self, run: Any, config: dict[str, Any]) -> None:
        self._run = run
        self.config = config

    @property
    def folder(self) -> Path | None:
        """Folder of the run's files; None without a run."""
        return None if self._run is None else Path(self._run.dir)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log one row of metrics."""
        self._guarded(lambda: self._run.log(dict(metrics)))

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Show the whole configuration, defaults too, in the run."""
        self._guarded(lambda: self._run.config.update(dict(config), allow_val_change=True))

    def save(self, *files: Path) -> None:
        """Keep copies of `files` in the folder of the run."""
        for file in files:
            self._guarded(lambda file=file: self._save(file))

    def _save(self, file: Path) -> None:
        kept = Path(self._run.dir) / file.name
        # A copy: W&B's own way is a link, which is dead once the training's folder is moved or renamed.
        if not kept.exists():
            shutil.copyfile(file, kept)
        # W&B uploads a config.yaml of its own.
        if file.name != "config.yaml":
            self._run.save(str(kept), base_path=self._run.dir, policy="now")

    def _guarded(self, action: Any) -> None:
        if self._run is None:
            return
        try:
            action()
        except Exception as error:
            logger.warning("W&B failed, the training goes on without it: %s", error)
            self._run = None


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
        offline, online or disabled; by default WANDB_MODE, else offline.
    folder : Path, optional
        Where the folder `wandb/` goes; WANDB_DIR comes first.
    """
    # Any: wandb itself refuses a mode that it does not know.
    chosen: Any = mode or os.environ.get("WANDB_MODE") or "offline"
    given = dict(config or {})
    if chosen == "disabled":
        yield TrackedRun(None, given)
        return
    run, is_ours = None, False
    try:
        import wandb

        is_ours = wandb.run is None
        # Always said: wandb remembers the current directory of the first run in this process.
        target = Path(os.environ.get("WANDB_DIR") or folder or Path.cwd())
        target.mkdir(parents=True, exist_ok=True)
        run = wandb.run or wandb.init(
            config=given or None,
            mode=chosen,
            dir=str(target),
            settings=wandb.Settings(x_disable_stats=True, silent=True),
        )
        merged = {**dict(run.config), **given} if not is_ours else dict(run.config)
    except Exception as error:
        logger.warning("W&B cannot start, the training goes on without it: %s", error)
        run, merged = None, given
    exit_code = 1
    try:
        yield TrackedRun(run, merged)
        exit_code = 0
    finally:
        if run is not None and is_ours:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                logger.warning("W&B could not finish the run: %s", error)
