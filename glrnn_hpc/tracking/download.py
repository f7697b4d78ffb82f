"""Download of the best run of a sweep from W&B's server, with all its files."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.errors import SweepError, TrackingError, one_line
from glrnn_hpc.search.goal import Order, sign_of
from glrnn_hpc.tracking import names
from glrnn_hpc.tracking.bounded_calls import BoundedCalls
from glrnn_hpc.tracking.server import require_server

logger = logging.getLogger(__name__)

#: Seconds to wait for a list of runs, and for the files of one.
ANSWER_SECONDS, FILES_SECONDS = 120.0, 3600.0

#: Folder of the downloaded runs, in WANDB_DIR or the current folder.
FOLDER = Path("wandb", "downloads")


def download_best(sweep: str, order: Order | None = None) -> Path:
    """Download the best finished run of a sweep.

    Parameters
    ----------
    sweep : str
        entity/project/id.
    order : Order, optional
        What ranks the runs; by default the metric and the goal of the sweep.

    Returns
    -------
    Path
        wandb/downloads/entity/project/run: all files of the run; what was there before is replaced.

    Raises
    ------
    ConfigError
        If W&B's client refuses one of its variables.
    SweepError
        If the server has no such sweep, or no finished run of it with that metric; deleted runs do not count.
    TrackingError
        If the server cannot be reached, there is no key for it, or a file does not arrive.
    """
    names.check_environment()
    require_server()
    calls = BoundedCalls()
    try:
        run = calls.call(lambda: _find_best_run(sweep, order), ANSWER_SECONDS)
        return calls.call(lambda: _download(run), FILES_SECONDS)
    except (SweepError, TrackingError):
        raise
    except Exception as error:
        raise TrackingError(f"{sweep}: cannot be read from W&B's server: {one_line(error)}") from error


def _find_best_run(path: str, given: Order | None) -> Any:
    import wandb

    entity, project, name = path.split("/")
    api: Any = wandb.Api(timeout=30)
    try:
        sweep = api.sweep(path)
    except (ValueError, wandb.errors.CommError) as error:
        raise SweepError(f"{path}: W&B's server shows no such sweep: {one_line(error)}") from error
    optimised = sweep.config.get("metric") or {}
    best_first = given or Order(str(optimised.get("name", "val_loss")), optimised.get("goal", "minimize"))
    metric = best_first.metric
    order = f"{'+' if sign_of(best_first.goal) > 0 else '-'}summary_metrics.{metric}"
    unsuitable = []
    for run in api.runs(f"{entity}/{project}", filters={"$and": [{"sweep": name}]}, order=order):
        value = run.summary.get(metric)
        is_number = isinstance(value, int | float) and math.isfinite(value)
        state = str(run.summary.get("state", run.state))  # pruned is a word of this package's own
        if run.state == "finished" and state == "finished" and is_number:
            logger.info("the best run of %s is %s: %s %g", path, run.id, metric, value)
            return run
        unsuitable.append(f"{run.id} ({state if state != 'finished' else f'has no {metric}'})")
    raise SweepError(
        f"{path}: W&B's server has no finished run of this sweep with a value of {metric}; "
        f"it has {', '.join(unsuitable) or 'none at all'}; runs that were deleted there are lost."
    )


def _download(run: Any) -> Path:
    parts = (run.entity, run.project, run.id)
    name = "/".join(parts)
    if any(part in ("", ".", "..") or "/" in part for part in parts):
        # The server's answer becomes the name of a folder that is replaced.
        raise TrackingError(
            f"run {name!r}: W&B's server gives it a name that is no name of a folder; nothing is downloaded."
        )
    target = Path(os.environ.get("WANDB_DIR") or Path.cwd()).joinpath(FOLDER, *parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = layout.partial_folder(target)
    try:
        partial.mkdir()
        for file in run.files():
            try:
                file.download(root=str(partial), replace=True).close()
            except Exception as error:
                raise TrackingError(f"run {name}: {file.name} cannot be downloaded: {one_line(error)}") from error
        layout.replace_folder(partial, target)
    finally:
        layout.remove_folder(partial)
    files = ", ".join(sorted(path.name for path in target.iterdir()))
    logger.info("run %s is in %s: %s", name, target, files or "it has no files; were they deleted?")
    return target
