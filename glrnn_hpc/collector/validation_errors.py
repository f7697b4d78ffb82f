"""Covariance of the errors of an exported model on its validation split, for calibrations with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.collector.ensemble_candidates import Truth, truth_of
from glrnn_hpc.collector.verify import Verified
from glrnn_hpc.experiments.registry import experiment_named
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.records.error_covariance import write_error_covariance
from glrnn_hpc.surrogate.ensemble import Member, input_names_of, label_names_of, param_names_of
from glrnn_hpc.surrogate.error_covariance import fit_error_covariance
from glrnn_hpc.surrogate.intervals import LabelSpace

Array = NDArray[Any]

#: Parameter that tells the type of an experiment.
_TYPE = "experiment_type"


def write_errors_of_trial(path: Path, files: Verified) -> None:
    """Write the covariance of a single model; nothing where its preprocessor gives no whole sequences."""
    if not isinstance(files.data, PreparedData):
        return
    truth = truth_of(files, "val")
    names = input_names_of(files.stats)
    member = Member(files.model, files.stats, files.config.as_dict(), names)
    predicted = member.predict(truth.input_array(names), truth.params)
    write_errors(path, files, truth, predicted, member.first_step)


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
    params = param_names_of(files.stats)
    transforms = tuple(experiment_named(files.config.experiment).label_transforms())
    covariance = fit_error_covariance(
        LabelSpace(tuple(label_names_of(files.stats)), tuple(params), transforms),
        first_step,
        np.asarray(predicted, "float64"),
        np.asarray(truth.labels[:, first_step:], "float64"),
        truth.params,
        truth.params[:, params.index(_TYPE)] if _TYPE in params else None,
    )
    if covariance is not None:
        write_error_covariance(path, covariance.as_record())
