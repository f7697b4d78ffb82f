"""Checks of the input of a calibration: errors for what cannot be, warnings for what contradicts the observation."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from glrnn_hpc.calibration.observation import Observation
from glrnn_hpc.calibration.surrogate import Surrogate
from glrnn_hpc.collector.training_domain import Range, TrainingDomain, check_unit, list_extrapolations
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.experiments.base import Experiment

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownParameters:
    """Parameters that are not sought.

    Attributes
    ----------
    values : dict of str to float
        By name.
    type_code : float or None
        Number of the experiment type, such as 1 for drained; None if the type is not known.
    """

    values: dict[str, float]
    type_code: float | None


def check_sought(ranges: Mapping[str, Range]) -> None:
    """Refuse a calibration without sought parameters, or with an empty range of one.

    Raises
    ------
    ConfigError
        If there is no range, or one that does not ascend or is not finite.
    """
    if not ranges:
        raise ConfigError("no parameter is sought; give at least one with its range, such as --param mu=15:50.")
    for name, (low, high) in ranges.items():
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ConfigError(f"{name}={low:g}:{high:g}: the first number must be below the second, both finite.")


def make_out(out: Path) -> None:
    """Make the folder before anything is calculated, which would be lost."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{out}: the folder for the calibration cannot be made: {error.strerror}; name another one."
        ) from error
    if not os.access(out, os.W_OK):
        raise ConfigError(f"{out}: files may not be written there; name another folder for the calibration.")


def known_parameters(
    surrogate: Surrogate, ranges: Mapping[str, Range], given: Mapping[str, float], experiment_type: str | None
) -> KnownParameters:
    """Check the known parameters, and complete them by the type of the experiment.

    Raises
    ------
    ConfigError
        If a value is not finite, or the type is unknown or not that of the model or of the known parameters.
    DataError
        If a value is in another unit than in the training.
    """
    domain = surrogate.domain
    units = {parameter.name: parameter.unit for parameter in domain.experiment.extra_parameters()}
    for name, value in given.items():
        if not np.isfinite(value):
            raise ConfigError(f"{name}={value}: a known parameter must be a finite number.")
        check_unit("known parameter", name, [value], domain.param_ranges.get(name), units.get(name, ""))
        domain.experiment.check_parameter(name, value)
    codes = domain.experiment.type_codes
    if experiment_type is not None and experiment_type not in codes:
        raise ConfigError(f"experiment type: {experiment_type!r} is not one of {', '.join(codes)}.")
    usual = surrogate.config.get("experiment_type")
    if isinstance(usual, str) and usual in codes:
        if experiment_type not in (None, usual):
            raise ConfigError(f"experiment type: {experiment_type} is given, the model was trained with {usual} tests.")
        experiment_type = usual
    if experiment_type is None:
        return KnownParameters(dict(given), given.get("experiment_type"))
    code = codes[experiment_type]
    if given.get("experiment_type", code) != code:
        raise ConfigError(
            f"experiment_type={given['experiment_type']:g} is given as known, but the experiment is {experiment_type} "
            f"({code:g})."
        )
    is_needed = "experiment_type" in domain.param_names and "experiment_type" not in ranges
    return KnownParameters({**given, "experiment_type": code} if is_needed else dict(given), code)


def check_ranges(domain: TrainingDomain, ranges: Mapping[str, Range], known: Mapping[str, float]) -> list[str]:
    """Return and log the parameters outside of the ranges of the training, where the surrogate extrapolates.

    Raises
    ------
    ConfigError
        If a range and that of the training have nothing in common.
    """
    if not domain.param_ranges:
        logger.warning(
            "%s: does not tell the ranges of the parameters that it was trained with; make sure that yours lie within.",
            domain.folder,
        )
    for name, (least, greatest) in ranges.items():
        low, high = domain.param_ranges.get(name, (least, greatest))
        if greatest < low or least > high:
            raise ConfigError(
                f"{name}={least:g}:{greatest:g}: the model was trained with {name} in "
                f"{low:.4g}..{high:.4g} and knows nothing of this range. Is it in another unit?"
            )
    outside_training = list_extrapolations(
        {**ranges, **{name: (value, value) for name, value in known.items()}}, domain.param_ranges
    )
    for each in outside_training:
        logger.warning("outside of the training, where the surrogate guesses: %s", each)
    return outside_training


def warn_of_contradictions(
    experiment: Experiment, observation: Observation, known: Mapping[str, float], type_code: float | None
) -> None:
    """Warn of known parameters and of a type that contradict the observation."""
    for sentence in experiment.contradictions(observation.first_values, observation.spans, known, type_code):
        logger.warning("%s: %s", observation.path, sentence)
