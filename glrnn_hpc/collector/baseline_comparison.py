"""Comparison of a network with the Gaussian-process baseline of its data, which is fitted once for a sweep."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.baseline.fit import NoBaseline, baseline_key, fit_baseline
from glrnn_hpc.collector.verify import Verified
from glrnn_hpc.config import PreprocessingConfig
from glrnn_hpc.errors import GlrnnError, SweepError
from glrnn_hpc.experiments.registry import experiment_named
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.preprocessor.splits import label_scaling
from glrnn_hpc.records.baseline import BaselineComparison, BaselineFit, BaselineKey, read_baseline, write_baseline
from glrnn_hpc.records.provenance import Provenance, write_provenance
from glrnn_hpc.records.train_stats import TrainStats
from glrnn_hpc.surrogate.feed import FitData
from glrnn_hpc.windows import first_predicted_step

logger = logging.getLogger(__name__)


def note_comparison(
    folder: layout.SweepFolder, trials: Sequence[Verified], provenance: Provenance, target: Path
) -> BaselineComparison:
    """Compare an exported model or ensemble with the baseline, and note the result in the export's provenance.

    Parameters
    ----------
    folder : SweepFolder
        Sweep of the export.
    trials : sequence of Verified
        Trials of the same data and split: the baseline is given the data of the one with the load features of the
        export, else of the first one.
    provenance : Provenance
        Of the export.
    target : Path
        Folder of the export.

    Raises
    ------
    SweepError
        If the provenance cannot be written.
    """
    names = {column.name for column in provenance.load_features}
    files = next((each for each in trials if names == set(each.stats.get("input_names", ()))), trials[0])
    first_step = first_predicted_step(provenance.window_size or 0, provenance.pad_length or 0)
    errors = {name: each.rmse for name, each in provenance.errors["test"].items()}
    comparison = compare_with_baseline(
        folder, files.config, files.stats, errors, lambda: files.data, first_step=first_step
    )
    path = layout.RunFolder(target).provenance
    try:
        write_provenance(path, provenance.model_copy(update={"baseline": comparison}))
    except OSError as error:
        raise SweepError(f"{path}: cannot be written: {error.strerror}.") from error
    return comparison


def compare_with_baseline(
    folder: layout.SweepFolder,
    config: PreprocessingConfig,
    stats: TrainStats,
    network_rmse: Mapping[str, float],
    data: Callable[[], PreparedData | FitData],
    first_step: int | None = None,
) -> BaselineComparison:
    """Compare the errors of a network on the test split with those of the baseline.

    Parameters
    ----------
    folder : SweepFolder
        The sweep; `baseline.json` in it holds a baseline that was fitted before.
    config, stats
        Of the network, or of a member of an ensemble.
    network_rmse : mapping of str to float
        Root mean square error of each label on the test split in its unit, from the first step that is predicted.
    data : callable
        Returns the data of the training; called where the baseline is not known yet.
    first_step : int, optional
        First step that is compared, without padding; by default the first that the network predicts.

    Returns
    -------
    BaselineComparison
        With the reason in place of numbers where there is no baseline: no error of it is one of the caller.
    """
    try:
        key = baseline_key(stats, config, first_step)
        fit = read_baseline(folder.baseline, key) or _fitted(folder, config, key, data)
    except GlrnnError as error:
        return BaselineComparison(reason=str(error).rstrip("."))
    scaling = label_scaling(stats)
    divisor = np.ones(len(key.labels)) if scaling is None else scaling.divisor()
    return BaselineComparison(
        mse=_mean_square(fit.rmse, key, divisor),
        network_mse=_mean_square(network_rmse, key, divisor),
        rmse=fit.rmse,
        network_rmse=dict(network_rmse),
        first_step=key.first_step,
        n_train=fit.n_train,
        n_fitted=fit.n_fitted,
        n_test=fit.n_test,
        n_components=fit.n_components,
        seconds=fit.seconds,
    )


def _fitted(
    folder: layout.SweepFolder,
    config: PreprocessingConfig,
    key: BaselineKey,
    data: Callable[[], PreparedData | FitData],
) -> BaselineFit:
    prepared = data()
    if isinstance(prepared, FitData):
        raise NoBaseline("the preprocessor of the sweep gives batches and no arrays")
    fit = fit_baseline(prepared, config, experiment_named(config.experiment), key)
    write_baseline(folder.baseline, fit)
    return fit


def _mean_square(rmse: Mapping[str, float], key: BaselineKey, divisor: NDArray[Any]) -> float:
    """Return the mean over the labels of the squared errors in standardised units."""
    return float(np.mean([(rmse[name] / scale) ** 2 for name, scale in zip(key.labels, divisor, strict=True)]))
