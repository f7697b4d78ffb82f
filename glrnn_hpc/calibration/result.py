"""Result of a calibration: estimates of the parameters, errors of the labels, and their summary."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glrnn_hpc.calibration.posterior import Array, Interval, Posterior

logger = logging.getLogger(__name__)

#: A response whose RMSE is more than this multiple of the surrogate's own does not fit the observation.
_POOR_FIT = 3.0


@dataclass(frozen=True)
class ParameterEstimate:
    """Estimate of one sought parameter.

    Attributes
    ----------
    most_probable : float
        Of the sample that GrainLearning takes for the most probable.
    spread : float
        Root mean square distance of the posterior from `most_probable`.
    mean, deviation : float
        Mean and standard deviation of the posterior.
    interval : (float, float)
        Central interval of the posterior with the probability `posterior.INTERVAL`.
    search_range : (float, float)
        The range in which the parameter was sought.
    surrogate_share : float or None
        Part of the posterior's variance that is due to the errors of the surrogate; None if these are not known.
    """

    most_probable: float
    spread: float
    mean: float
    deviation: float
    interval: Interval
    search_range: Interval
    surrogate_share: float | None = None


@dataclass(frozen=True)
class LabelFit:
    """Agreement of the most probable response with the observation in one label, in the unit of the label.

    Attributes
    ----------
    rmse : float
        Of the response to the observation.
    surrogate_rmse : float or None
        Of the surrogate on its test split; None if it is not known.
    expected : float or None
        The surrogate's RMSE in proportion to the magnitude of the label in this observation.
    unit : str or None
        None if the label has no unit.
    """

    rmse: float
    surrogate_rmse: float | None
    expected: float | None
    unit: str | None


@dataclass(frozen=True)
class CalibrationSummary:
    """Summary of a calibration, as `calibration.json` holds it.

    Attributes
    ----------
    parameters : dict of str to ParameterEstimate
        The sought parameters.
    known : dict of str to float
        The other parameters of the model.
    labels : dict of str to LabelFit
        The compared labels.
    effective_samples : float
        Effective number of samples of the posterior.
    sigma : tuple of float
        GrainLearning's sigma after each iteration.
    reached_tolerance : bool
        Whether the last sigma is below the tolerance.
    model, observation : str
        Paths of the model's folder and of the table.
    control : str
        The strain that the steps follow.
    n_steps, first_step : int
        Steps of the load, and the first one that the model predicts.
    resampling : str
        How the rows of the table became the steps of the model.
    notes : tuple of str
        What was derived or assumed, and what contradicts the result.
    training_ranges : dict of str to (float, float)
        Ranges of the parameters in the training, as far as they are known.
    outside_training : tuple of str
        Ranges and values outside of these.
    n_samples, seed : int
        Samples of an iteration, and the seed of their draws.
    seconds, seconds_per_prediction : float
        Of the whole calibration, and the median of the predictions of an iteration.
    versions : dict of str to str
        Of the packages.
    output : Path or None
        Folder of the files.
    """

    parameters: dict[str, ParameterEstimate]
    known: dict[str, float]
    labels: dict[str, LabelFit]
    effective_samples: float
    sigma: tuple[float, ...]
    reached_tolerance: bool
    model: str
    observation: str
    control: str
    n_steps: int
    first_step: int
    resampling: str
    notes: tuple[str, ...]
    training_ranges: dict[str, Interval]
    outside_training: tuple[str, ...]
    n_samples: int
    seed: int
    seconds: float
    seconds_per_prediction: float
    versions: dict[str, str]
    output: Path | None = None

    @property
    def n_iterations(self) -> int:
        return len(self.sigma)

    def as_dict(self) -> dict[str, Any]:
        """Return the plain dict that users get and `calibration.json` holds; `output` only if it is set."""
        parameters = self.parameters.items()
        content = {
            "most_probable": {name: estimate.most_probable for name, estimate in parameters},
            "spread": {name: estimate.spread for name, estimate in parameters},
            "mean": {name: estimate.mean for name, estimate in parameters},
            "deviation": {name: estimate.deviation for name, estimate in parameters},
            "interval": {name: list(estimate.interval) for name, estimate in parameters},
            "surrogate_share": {name: estimate.surrogate_share for name, estimate in parameters},
            "effective_samples": self.effective_samples,
            "iterations": self.n_iterations,
            "reached_tolerance": self.reached_tolerance,
            "sigma": list(self.sigma),
            "errors": {name: asdict(fit) for name, fit in self.labels.items()},
            "model": self.model,
            "observation": self.observation,
            "observed": list(self.labels),
            "control": self.control,
            "steps": self.n_steps,
            "first_step": self.first_step,
            "resampling": self.resampling,
            "notes": list(self.notes),
            "ranges": {name: list(estimate.search_range) for name, estimate in parameters},
            "known": dict(self.known),
            "trained_in": {name: list(bounds) for name, bounds in self.training_ranges.items()} or None,
            "versions": dict(self.versions),
            "outside_training": list(self.outside_training),
            "samples": self.n_samples,
            "seed": self.seed,
            "seconds": self.seconds,
            "seconds_per_prediction": self.seconds_per_prediction,
        }
        return content if self.output is None else {**content, "output": str(self.output)}


def parameter_estimates(
    posterior: Posterior,
    most_probable: Array,
    ranges: Mapping[str, Interval],
    shares: Mapping[str, float] | None = None,
) -> dict[str, ParameterEstimate]:
    """Return the estimates of all sought parameters.

    Parameters
    ----------
    posterior : Posterior
        Weighted samples.
    most_probable : ndarray, shape (n_params,)
        The sample that GrainLearning takes for the most probable.
    ranges : mapping of str to (float, float)
        In which the parameters were sought.
    shares : mapping of str to float, optional
        Of the surrogate in the posterior's variance.
    """
    spread, mean, deviation = posterior.rms_distance(most_probable), posterior.mean(), posterior.deviation()
    interval = posterior.interval()
    return {
        name: ParameterEstimate(
            value, spread[name], mean[name], deviation[name], interval[name], ranges[name], (shares or {}).get(name)
        )
        for name, value in zip(posterior.names, most_probable.tolist(), strict=True)
    }


def label_fits(
    residuals: Mapping[str, Array],
    surrogate_rmse: Mapping[str, float],
    expected: Mapping[str, float],
    units: Mapping[str, str],
) -> dict[str, LabelFit]:
    """Return the agreement in all compared labels.

    Parameters
    ----------
    residuals : mapping of str to ndarray, shape (n_steps,)
        Observation minus response, by label.
    surrogate_rmse : mapping of str to float
        Of the labels for which it is known.
    expected : mapping of str to float
        0 where it is not known.
    units : mapping of str to str
        Of the labels that have one.
    """
    return {
        name: LabelFit(
            rmse=float(np.sqrt((values**2).mean())),
            surrogate_rmse=surrogate_rmse.get(name),
            expected=expected[name] or None,
            unit=units.get(name),
        )
        for name, values in residuals.items()
    }


def contradictions(
    parameters: Mapping[str, ParameterEstimate], labels: Mapping[str, LabelFit], observation: Path
) -> list[str]:
    """Return sentences about what contradicts a result, and log those after which it should not be used."""
    notes = []
    for name, fit in labels.items():
        if fit.surrogate_rmse is not None and fit.rmse > _POOR_FIT * fit.surrogate_rmse:
            notes.append(
                f"{name} is missed by {fit.rmse:.3g} {fit.unit or ''}".rstrip()
                + f", {fit.rmse / fit.surrogate_rmse:.0f} times the error of the surrogate on its tests: no "
                "parameters in the ranges give the observation. Are unit, type, pressure and ranges those of the "
                "experiment?"
            )
            logger.warning("%s: %s", observation, notes[-1])
    for name, estimate in parameters.items():
        low, high = estimate.interval
        if not low <= estimate.most_probable <= high:
            notes.append(
                f"The most probable {name}, {estimate.most_probable:.4g}, lies outside of its own interval {low:.4g} "
                f".. {high:.4g}: it is the best of few samples; the mean is the better estimate."
            )
    if any(fit.expected is None for fit in labels.values()):
        notes.append(
            "The errors of the surrogate are not known: the spread is that of a surrogate without errors, too narrow."
        )
    return notes
