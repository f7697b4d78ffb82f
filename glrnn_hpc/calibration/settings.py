"""Settings of a calibration and their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from glrnn_hpc.errors import ConfigError

#: GrainLearning cannot fit a distribution to fewer samples.
_FEWEST_SAMPLES = 10


@dataclass(frozen=True)
class CalibrationSettings:
    """Settings of a calibration besides the model, the observation and the sought parameters.

    Attributes
    ----------
    known : mapping of str to float
        The parameters of the model that are not sought, such as ``{'pressure': 0.2}`` in MPa.
    experiment_type : str or None
        Type of the experiment, such as `drained`.
    labels : sequence of str or None
        The labels to compare; all of the observation if None.
    control : str or None
        The strain that the steps follow; ``e_z``, or the model's only load feature, if None.
    n_samples, n_iterations : int
        Samples in an iteration, and iterations at most.
    tolerance : float
        The calibration ends when GrainLearning's sigma is below.
    n_components : int
        Gaussian components at most from which GrainLearning draws new samples.
    seed : int
        Of these draws; the samples of the first iteration are the same Halton sequence for every seed.

    Raises
    ------
    ConfigError
        If GrainLearning cannot work with a number.
    """

    known: Mapping[str, float] = field(default_factory=dict)
    experiment_type: str | None = None
    labels: Sequence[str] | None = None
    control: str | None = None
    n_samples: int = 50
    n_iterations: int = 20
    tolerance: float = 1e-3
    n_components: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, number, least in (
            ("samples", self.n_samples, _FEWEST_SAMPLES),
            ("iterations", self.n_iterations, 1),
            ("components", self.n_components, 1),
        ):
            if number < least:
                raise ConfigError(f"{name}: at least {least} are needed, {number} was given.")
        if not (np.isfinite(self.tolerance) and self.tolerance > 0):
            raise ConfigError(f"tolerance: a number above 0 is needed, {self.tolerance} was given.")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed: a number from 0 to {2**32 - 1} is needed, {self.seed} was given.")
