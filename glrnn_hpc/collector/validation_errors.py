"""Covariance of the errors of an exported model on its validation split, for calibrations with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.collector.ensemble_candidates import Truth, label_space, predictions_of, truth_of
from glrnn_hpc.collector.verify import Verified
from glrnn_hpc.experiments.base import TYPE_PARAMETER
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.records.error_covariance import write_error_covariance
from glrnn_hpc.surrogate.error_covariance import fit_error_covariance

Array = NDArray[Any]


def write_errors_of_trial(path: Path, files: Verified) -> None:
    """Write the covariance of a single model; nothing where its preprocessor gives no whole sequences."""
    if not isinstance(files.data, PreparedData):
        return
    truth = truth_of(files, "val")
    first_step, predicted = predictions_of(files, truth)
    write_errors(path, files, truth, predicted, first_step)


def write_errors(path: Path, files: Verified, truth: Truth, predicted: Array, first_step: int) -> None:
    """Write the covariance of the errors on the validation split; nothing if it has too few sequences.

    Parameters
    ----------
    path : Path
        File to write.
    files : Verified
        A trial with the columns of the model.
    truth : Truth
        The validation split.
    predicted : ndarray, shape (n, n_steps - first_step, n_labels)
        Predictions in the units of the labels.
    first_step : int
        Step of the first prediction, counted without padding.
    """
    space = label_space(files)
    names = space.param_names
    covariance = fit_error_covariance(
        space,
        first_step,
        np.asarray(predicted, "float64"),
        np.asarray(truth.labels[:, first_step:], "float64"),
        truth.params,
        truth.params[:, names.index(TYPE_PARAMETER)] if TYPE_PARAMETER in names else None,
    )
    if covariance is not None:
        write_error_covariance(path, covariance.as_record())
