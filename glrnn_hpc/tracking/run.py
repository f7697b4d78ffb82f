"""A training's run in W&B: the one owner of wandb. Whatever W&B does, the training goes on."""

from __future__ import annotations

import contextlib
import logging
import os
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

    def save(self, *files: Path) -> None:
        """Keep copies of `files` with the run."""
        for file in files:
            self._guarded(lambda file=file: self._run.save(str(file), base_path=str(file.parent), policy="now"))

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
    mode = mode or os.environ.get("WANDB_MODE", "offline")
    given = dict(config or {})
    if mode == "disabled":
        yield TrackedRun(None, given)
        return
    run, is_ours = None, False
    try:
        import wandb

        is_ours = wandb.run is None
        target = os.environ.get("WANDB_DIR") or (str(folder) if folder else None)
        run = wandb.run or wandb.init(
            config=given or None,
            mode="offline" if mode == "offline" else None,
            dir=target,
            settings=wandb.Settings(x_disable_stats=True, silent=True),
        )
        merged = {**dict(run.config), **given} if not is_ours else dict(run.config)
    except Exception as error:
        logger.warning("W&B cannot start, the training goes on without it: %s", error)
        run, merged = None, given
    try:
        yield TrackedRun(run, merged)
    finally:
        if run is not None and is_ours:
            try:
                run.finish()
            except Exception as error:
                logger.warning("W&B could not finish the run: %s", error)
