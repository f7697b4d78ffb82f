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
from glrnn_hpc.collector.training_domain import Range, TrainingDomain, check_unit, list_extrapolations
from glrnn_hpc.errors import ConfigError

logger = logging.getLogger(__name__)

#: GrainLearning cannot learn a distribution of fewer samples.
_FEWEST_SAMPLES = 10


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
    experiment = surrogate.trained.experiment
    units = {parameter.name: parameter.unit for parameter in experiment.extra_parameters()}
    for name, value in known.items():
        if not np.isfinite(value):
            raise ConfigError(f"{name}={value}: a known parameter must be a finite number.")
        check_unit("known parameter", name, [value], surrogate.trained.param_ranges.get(name), units.get(name, ""))
        experiment.check_parameter(name, value)
    codes = experiment.type_codes
    if experiment_type is not None and experiment_type not in codes:
        raise ConfigError(f"experiment type: {experiment_type!r} is not one of {', '.join(codes)}.")
    usual = surrogate.config.get("experiment_type")
    if isinstance(usual, str) and usual in codes:
        if experiment_type not in (None, usual):
            raise ConfigError(f"experiment type: {experiment_type} is given, the model was trained with {usual} tests.")
        experiment_type = usual
    if experiment_type is None:
        return known, known.get("experiment_type")
    number = codes[experiment_type]
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


def warn_of_contradictions(seen: Observation, known: Mapping[str, float], type_code: float | None) -> None:
    """Warn of a type or of parameters that do not agree with what was observed."""
    first = dict(zip(seen.names, seen.values[0].tolist(), strict=True))
    spans = {} if seen.e_range is None else {"e": seen.e_range}
    for sentence in seen.experiment.contradictions(first, spans, known, type_code):
        logger.warning("%s: %s", seen.path, sentence)
