"""Best model of a sweep, here or on W&B's server, and the data that its training has never seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from glrnn_hpc import layout
from glrnn_hpc.config import SPLIT_SEED, load_yaml
from glrnn_hpc.errors import DataError, ModelError
from glrnn_hpc.experiments.registry import KEY as EXPERIMENT
from glrnn_hpc.experiments.registry import is_built_in
from glrnn_hpc.preprocessor.base import Preprocessor
from glrnn_hpc.preprocessor.fingerprint import check_fingerprint
from glrnn_hpc.preprocessor.from_file import preprocessor_of_model
from glrnn_hpc.search.goal import order_of
from glrnn_hpc.search.sweep import PREPROCESSOR, build_preprocessor, preprocessor_of
from glrnn_hpc.study import ranking
from glrnn_hpc.tracking.download import download_best

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BestRun:
    """The best run of a sweep.

    Attributes
    ----------
    name : str
        For messages.
    folder : RunFolder
        Its files.
    trial : BestTrial or None
        The trial in the sweep's folder; None if the run comes from W&B's server.
    """

    name: str
    folder: layout.RunFolder
    trial: ranking.BestTrial | None = None


def find_best(sweep: str | Path, order: str | None = None) -> BestRun:
    """Return the best run of a sweep: of a folder, or of entity/project/id on W&B's server, downloaded then.

    Parameters
    ----------
    sweep : path or str
        The folder, or entity/project/id.
    order : str, optional
        Metric that ranks the runs, as W&B's client writes it; see `search.goal.order_of`. By default that of the sweep.

    Raises
    ------
    ConfigError
        If `order` names no metric, or none that the trials have.
    SweepError
        If there is no such sweep, or it has no finished run.
    ModelError
        If the server has not all files of a model.
    TrackingError
        If the server cannot be reached.
    """
    ranked_by = None if order is None else order_of(order)
    root = Path(sweep)
    if root.is_dir() or root.is_absolute() or len(str(sweep).split("/")) != 3 or "" in str(sweep).split("/"):
        trial = ranking.best_trial(root, ranked_by)
        return BestRun(f"trial {trial.number}", trial.folder, trial)
    folder = layout.RunFolder(download_best(str(sweep), ranked_by))
    _require_model(str(sweep), folder)
    return BestRun(f"run {folder.root.name}", folder)


def _require_model(sweep: str, folder: layout.RunFolder) -> None:
    models = [folder.model(weights_only=False), folder.model(weights_only=True)]
    missing = [path.name for path in (folder.config, folder.train_stats) if not path.exists()]
    if not any(path.exists() for path in models):
        missing.append(" or ".join(path.name for path in models))
    if missing:
        has = ", ".join(sorted(path.name for path in folder.root.iterdir()))
        raise ModelError(
            f"{sweep}: its best run, {folder.root.name}, has no {', no '.join(missing)} on W&B's server (it has "
            f"{has or 'no files'}); they were deleted there or never uploaded."
        )


def unseen_data(
    best: BestRun, stats: Mapping[str, Any], config: Mapping[str, Any], preprocessor: Preprocessor | None = None
) -> tf.data.Dataset | None:
    """Return the test split of the training; None with a warning where it is not known any more.

    `preprocessor` prepares it where one is given.
    """
    try:
        prepares = preprocessor or _preprocessor(best, stats, config)
        return prepares.prepare_datasets(stats.get("split_seed", SPLIT_SEED))[0]["test"]
    except (DataError, FileNotFoundError) as error:
        logger.warning("%s is loaded without its test data: %s", best.name, error)
        return None


def _preprocessor(best: BestRun, stats: Mapping[str, Any], config: Mapping[str, Any]) -> Preprocessor:
    if best.trial is not None and preprocessor_of(best.trial.spec) is not None:
        own: Preprocessor = build_preprocessor(best.trial.spec, best.trial.point)
        return own
    if best.trial is None and PREPROCESSOR in load_yaml(best.folder.config):
        # Code that a downloaded file names must not run here.
        raise DataError("its sweep has a preprocessor of its own; prepare the data with it yourself.")
    if best.trial is None and not is_built_in(config.get(EXPERIMENT)):
        raise DataError("its sweep has an experiment of its own; prepare the data with it yourself.")
    preprocessor = preprocessor_of_model(config)
    check_fingerprint(config["raw_data"], preprocessor.fingerprint(), stats.get("fingerprint"))
    return preprocessor
