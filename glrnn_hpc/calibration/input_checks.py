"""What a calibration is asked for: refuse what cannot be, warn of what does not agree."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from glrnn_hpc import layout
from glrnn_hpc.calibration.observation import Observation
from glrnn_hpc.calibration.surrogate import Surrogate
from glrnn_hpc.collector.training_domain import EXPERIMENT_TYPES, Range, TrainingDomain, check_unit, list_extrapolations
from glrnn_hpc.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

#: GrainLearning cannot learn a distribution of fewer samples.
_FEWEST_SAMPLES = 10

#: No laboratory reaches this confining pressure [MPa]; it must be one in Pa.
_HIGHEST_PRESSURE = 1e3

#: By this part the first mean stress of a test may differ from its confining pressure: noise, and load before row 1.
_SAME_PRESSURE = 0.5

#: A void ratio that changes by less is that of an undrained test; one that changes by more is not, even if measured.
_LEAST_DRAINED, _MOST_UNDRAINED = 1e-3, 1e-2


def check_settings(
    ranges: Mapping[str, Range], n_samples: int, n_iterations: int, tolerance: float, n_components: int, seed: int
) -> None:
    """Refuse numbers that GrainLearning cannot work with."""
    if not ranges:
        raise ConfigError("no parameter is sought; give at least one with its range, such as --param mu=15:50.")
    for name, (low, high) in ranges.items():
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise ConfigError(f"{name}={low:g}:{high:g}: the first number must be below the second, both finite.")
    for what, value, least in (
        ("samples", n_samples, _FEWEST_SAMPLES),
        ("iterations", n_iterations, 1),
        ("components", n_components, 1),
    ):
        if value < least:
            raise ConfigError(f"{what}: at least {least} are needed, {value} was given.")
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise ConfigError(f"tolerance: a number above 0 is needed, {tolerance} was given.")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed: a number from 0 to {2**32 - 1} is needed, {seed} was given.")


def check_out(out: Path) -> None:
    """Refuse a folder that holds something."""
    layout.check_free(out, "choose another one for the calibration.")


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
    surrogate: Surrogate, ranges: Mapping[str, Range], known: dict[str, float], experiment_type: str | None
) -> tuple[dict[str, float], float | None]:
    """Return the parameters that are known, and the type of the experiment as a number, where it can be told."""
    for name, value in known.items():
        if not np.isfinite(value):
            raise ConfigError(f"{name}={value}: a known parameter must be a finite number.")
        unit = "MPa" if name == "pressure" else ""
        check_unit("known parameter", name, [value], surrogate.trained.param_ranges.get(name), unit)
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
        return known, known.get("experiment_type")
    number = EXPERIMENT_TYPES[experiment_type]
    if known.get("experiment_type", number) != number:
        raise ConfigError(
            f"experiment_type={known['experiment_type']:g} is given as known, but the experiment is {experiment_type} "
            f"({number:g})."
        )
    if "experiment_type" in surrogate.trained.param_names and "experiment_type" not in ranges:
        known["experiment_type"] = number
    return known, number


def check_ranges(trained: TrainingDomain, ranges: Mapping[str, Range], known: Mapping[str, float]) -> list[str]:
    """Return and log which parameters leave the ranges of the training, in which alone a surrogate holds.

    Raises
    ------
    ConfigError
        If all of a range that is sought is outside.
    """
    if not trained.param_ranges:
        logger.warning(
            "%s: does not tell the ranges of the parameters that it was trained with; make sure that yours lie within.",
            trained.folder,
        )
    for name, (least, greatest) in ranges.items():
        low, high = trained.param_ranges.get(name, (least, greatest))
        if greatest < low or least > high:
            raise ConfigError(
                f"{name}={least:g}:{greatest:g}: the model was trained with {name} in "
                f"{low:.4g}..{high:.4g} and knows nothing of this range. Is it in another unit?"
            )
    beyond = list_extrapolations(
        {**ranges, **{name: (value, value) for name, value in known.items()}}, trained.param_ranges
    )
    for each in beyond:
        logger.warning("outside of the training, where the surrogate guesses: %s", each)
    return beyond


def warn_of_pressure(seen: Observation, known: Mapping[str, float]) -> None:
    """Warn of a confining pressure that is not the one at which the observation begins."""
    if "pressure" not in known or "p" not in seen.names:
        return
    begins, given = float(seen.values[0, seen.names.index("p")]), known["pressure"]
    if abs(begins - given) > _SAME_PRESSURE * max(abs(begins), abs(given)):
        logger.warning(
            "%s: begins with p=%.4g MPa, but pressure=%.4g MPa is given as known; a triaxial test begins at its "
            "confining pressure. Is this the pressure of the experiment?",
            seen.path,
            begins,
            given,
        )


def warn_of_type(seen: Observation, experiment_type: float | None) -> None:
    """Warn of a void ratio that does not change in a drained test, or does in an undrained one."""
    if seen.e_range is None:
        return
    found = None
    if experiment_type == EXPERIMENT_TYPES["drained"] and seen.e_range < _LEAST_DRAINED:
        found = "drained", "does not change, as in an undrained test"
    elif experiment_type == EXPERIMENT_TYPES["undrained"] and seen.e_range > _MOST_UNDRAINED:
        found = "undrained", f"changes by {seen.e_range:.3g}, as in a drained test"
    if found:
        logger.warning(
            "%s: the experiment is taken for %s, but its void ratio %s. Is this the type of the experiment?",
            *(seen.path, *found),
        )
