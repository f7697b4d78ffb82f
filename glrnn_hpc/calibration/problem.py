"""Problem of a calibration: its checked input, and the likelihood that follows from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.calibration import input_checks
from glrnn_hpc.calibration.likelihood import (
    CorrelatedLikelihood,
    IndependentLikelihood,
    Likelihood,
    error_scales,
    implied_labels,
    reference_params,
)
from glrnn_hpc.calibration.observation import Observation, read_observation
from glrnn_hpc.calibration.settings import CalibrationSettings
from glrnn_hpc.calibration.surrogate import Surrogate
from glrnn_hpc.collector.training_domain import Range
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.surrogate.error_covariance import BlockErrors

logger = logging.getLogger(__name__)

Array = NDArray[Any]


@dataclass(frozen=True)
class Problem:
    """Checked input of a calibration.

    Attributes
    ----------
    surrogate : Surrogate
    ranges : mapping of str to (float, float)
        Of the sought parameters.
    known : dict of str to float
        The other parameters.
    observation : Observation
    compared : ndarray, shape (n_labels, n_steps)
        The observation from the first step on that the model predicts.
    expected_errors : ndarray, shape (n_labels,)
        RMSE of the surrogate that is expected in this observation; 0 where it is not known.
    errors : BlockErrors or None
        Covariance of the errors of the surrogate in the compared labels; None if the model does not tell it.
    outside_training : list of str
        Ranges and values outside of those of the training.
    """

    surrogate: Surrogate
    ranges: Mapping[str, Range]
    known: dict[str, float]
    observation: Observation
    compared: Array
    expected_errors: Array
    errors: BlockErrors | None
    outside_training: list[str]


def read_problem(
    model_dir: str | Path, path: Path, ranges: Mapping[str, Range], settings: CalibrationSettings
) -> Problem:
    """Read model and observation, and check them and the parameters.

    Raises
    ------
    ConfigError, DataError, ModelError, WindowError
        If the input is wrong.
    """
    surrogate = Surrogate(model_dir)
    domain = surrogate.domain
    given = input_checks.known_parameters(surrogate, ranges, settings.known, settings.experiment_type)
    observation = read_observation(path, domain, settings.labels, settings.control, given.type_code)
    known = dict(given.values)
    for name, value in domain.experiment.initial_parameters(observation.first_values).items():
        if name in domain.param_names and name not in {**ranges, **known}:
            known[name] = value
    domain.parameter_order(list(ranges), known)  # refuses names that are unknown, missing or given twice
    outside_training = input_checks.check_ranges(domain, ranges, known)
    input_checks.warn_of_contradictions(domain.experiment, observation, known, given.type_code)
    errors = None
    if surrogate.error_covariance is not None:
        observation = _without_implied(observation, domain.experiment, given.type_code, known)
        errors = surrogate.error_covariance.at(observation.labels, len(observation.load), given.type_code)
    for note in observation.notes:
        logger.info("%s: %s", path, note)
    compared = observation.values[domain.first :].T
    expected_errors = domain.errors_at(observation.labels, compared)
    return Problem(surrogate, ranges, known, observation, compared, expected_errors, errors, outside_training)


def _without_implied(
    observation: Observation, experiment: Experiment, type_code: float | None, known: Mapping[str, float]
) -> Observation:
    """Return an observation without the labels that follow from others and from what is known.

    A surrogate that knows the relation meets them exactly, whatever the sought parameters are.
    """
    types = {code: name for name, code in experiment.type_codes.items()}
    given = {*known, *observation.load_names}
    implied = implied_labels(experiment, None if type_code is None else types.get(type_code), given, observation.labels)
    kept = [name for name in observation.labels if name not in implied]
    if not kept:
        raise ConfigError(
            f"{observation.path}: {', '.join(implied)} follows from the load and the known parameters, whatever "
            f"{'the sought ones are'}; compare other labels, too (--observe)."
        )
    if not implied:
        return observation
    note = f"Not compared, as it follows from other columns and the known parameters: {', '.join(implied)}."
    columns = [observation.labels.index(name) for name in kept]
    return replace(
        observation, labels=tuple(kept), values=observation.values[:, columns], notes=(*observation.notes, note)
    )


def likelihood_of(problem: Problem, residuals: Array) -> Likelihood:
    """Return the likelihood of the observation; `residuals` are those of the most probable response."""
    if problem.errors is None:
        return IndependentLikelihood(
            problem.compared,
            error_scales(residuals, problem.expected_errors),
            error_scales(residuals, np.zeros_like(problem.expected_errors)),
        )
    covariance, domain = problem.surrogate.error_covariance, problem.surrogate.domain
    assert covariance is not None
    labels = problem.observation.labels
    return CorrelatedLikelihood(
        replace(covariance.space, label_names=labels),
        reference_params(covariance.space.param_names, problem.known, problem.ranges),
        covariance.lows[domain.label_columns(labels)],
        domain.first,
        problem.compared,
        problem.errors,
    )
