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
from glrnn_hpc.collector.training_domain import EXPERIMENT_TYPES, Range, TrainingDomain, check_unit, list_extrapolations
from glrnn_hpc.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

#: No laboratory reaches this confining pressure [MPa]: the value is in Pa.
_HIGHEST_PRESSURE = 1e3

#: The first mean stress of a test may differ from its confining pressure by this part: noise, and load before row 1.
_PRESSURE_TOLERANCE = 0.5

#: The void ratio changes by more in a drained test, and by less in an undrained one, noise included.
_LEAST_DRAINED_CHANGE, _MOST_UNDRAINED_CHANGE = 1e-3, 1e-2


@dataclass(frozen=True)
class KnownParameters:
    """Parameters that are not sought.

    Attributes
    ----------
    values : dict of str to float
        By name.
    experiment_type : float or None
        1 drained, 0 undrained; None if it is not known.
    """

    values: dict[str, float]
    experiment_type: float | None


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


def check_out(out: Path) -> None:
    """Refuse a folder that holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is a file or holds something already; name another folder for the calibration.")


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
    for name, value in given.items():
        if not np.isfinite(value):
            raise ConfigError(f"{name}={value}: a known parameter must be a finite number.")
        unit = "MPa" if name == "pressure" else ""
        check_unit("known parameter", name, [value], domain.param_ranges.get(name), unit)
        if name == "pressure" and value > _HIGHEST_PRESSURE:
            raise DataError(f"known parameter: pressure={value:g} cannot be in MPa; divide by 1e6 if it is in Pa.")
    if experiment_type is not None and experiment_type not in EXPERIMENT_TYPES:
        raise ConfigError(f"experiment type: {experiment_type!r} is not one of {', '.join(EXPERIMENT_TYPES)}.")
    usual = surrogate.config.get("experiment_type")
    if isinstance(usual, str) and usual in EXPERIMENT_TYPES:
        if experiment_type not in (None, usual):
            raise ConfigError(f"experiment type: {experiment_type} is given, the model was trained with {usual} tests.")
        experiment_type = usual
    if experiment_type is None:
        return KnownParameters(dict(given), given.get("experiment_type"))
    code = EXPERIMENT_TYPES[experiment_type]
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


def warn_of_pressure(observation: Observation, known: Mapping[str, float]) -> None:
    """Warn of a known confining pressure that is not the first mean stress of the observation."""
    if "pressure" not in known or "p" not in observation.labels:
        return
    first, given = float(observation.values[0, observation.labels.index("p")]), known["pressure"]
    if abs(first - given) > _PRESSURE_TOLERANCE * max(abs(first), abs(given)):
        logger.warning(
            "%s: begins with p=%.4g MPa, but pressure=%.4g MPa is given as known; a triaxial test begins at its "
            "confining pressure. Is this the pressure of the experiment?",
            observation.path,
            first,
            given,
        )


def warn_of_type(observation: Observation, experiment_type: float | None) -> None:
    """Warn of a void ratio that does not change in a drained test, or does in an undrained one."""
    change = observation.e_range
    if change is None:
        return
    if experiment_type == EXPERIMENT_TYPES["drained"] and change < _LEAST_DRAINED_CHANGE:
        name, contradiction = "drained", "does not change, as in an undrained test"
    elif experiment_type == EXPERIMENT_TYPES["undrained"] and change > _MOST_UNDRAINED_CHANGE:
        name, contradiction = "undrained", f"changes by {change:.3g}, as in a drained test"
    else:
        return
    logger.warning(
        "%s: the experiment is taken for %s, but its void ratio %s. Is this the type of the experiment?",
        observation.path,
        name,
        contradiction,
    )
