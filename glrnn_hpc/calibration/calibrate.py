"""Bayesian calibration with GrainLearning and a surrogate in place of the DEM code."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.calibration import input_checks
from glrnn_hpc.calibration.posterior import ImportanceSamples, Posterior
from glrnn_hpc.calibration.problem import Problem, likelihood_of, read_problem
from glrnn_hpc.calibration.result import CalibrationSummary, contradictions, label_fits, parameter_estimates
from glrnn_hpc.calibration.settings import CalibrationSettings
from glrnn_hpc.calibration.surrogate import SamplingCallback, Surrogate, SurrogateCallback
from glrnn_hpc.calibration.surrogate_share import surrogate_shares
from glrnn_hpc.collector.training_domain import Range
from glrnn_hpc.errors import ConfigError, GlrnnError, ModelError

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: Samples in a batch of the posterior, as a multiple of those in an iteration.
_POSTERIOR_BATCH = 5


def surrogate_callback(
    model_dir: str | Path, extra_params: Mapping[str, float] | None = None, load: Array | None = None
) -> SurrogateCallback:
    """Return a GrainLearning callback that predicts with a trained model.

    Parameters
    ----------
    model_dir : path
        Folder of a trial, a single run, an export, or one that GrainLearning wrote; or the name of a shipped model.
    extra_params : mapping, optional
        Parameters of the model that are not sought, by name: `pressure` in MPa, `experiment_type` (1 drained, 0
        undrained), `e0`.
    load : ndarray, shape (T, n_inputs), optional
        The load sequence. By default it is `ctrl_data` of the system, ``(T,)`` or, time last, ``(n_inputs, T)``.

    Returns
    -------
    SurrogateCallback
        For `BayesianCalibration`; it reads `param_names`, `param_data` and `obs_names` of the system and sets its
        `sim_data`, ``(n_samples, n_observed, n_steps)``.

    Raises
    ------
    ModelError
        If the model cannot be loaded.
    """
    return SurrogateCallback(Surrogate(model_dir), extra_params, load)


def calibrate(
    model_dir: str | Path,
    observation: str | Path,
    ranges: Mapping[str, Range],
    out: str | Path | None = None,
    *,
    known: Mapping[str, float] | None = None,
    experiment_type: str | None = None,
    observed: Sequence[str] | None = None,
    control: str | None = None,
    n_samples: int = 50,
    n_iterations: int = 20,
    tolerance: float = 1e-3,
    n_components: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Find the parameters with which a model reproduces an experiment.

    Parameters
    ----------
    model_dir : path
        Folder of the model, or the name of a shipped one.
    observation : path
        A table whose first line names its columns: the strain ``e_z`` and labels of the model, such as ``e p q``.
    ranges : mapping of str to (float, float)
        The sought parameters, and the range of each.
    out : path, optional
        Folder to write: `calibration.json`, `samples.csv`, `posterior.png`, `response.png`. It must be empty.
    known : mapping, optional
        The other parameters of the model, such as ``{'pressure': 0.2}`` in MPa. `e0` is the first void ratio of the
        observation if it is not given.
    experiment_type : str, optional
        `drained` or `undrained`.
    observed : sequence of str, optional
        The labels to compare; all of the observation by default.
    control : str, optional
        The strain that the steps follow; ``e_z`` by default.
    n_samples, n_iterations, tolerance, n_components, seed
        As in `settings.CalibrationSettings`.

    Returns
    -------
    dict
        `most_probable`, `spread`, `mean`, `deviation`, `interval`, `iterations`, `seconds`, `seconds_per_prediction`
        and more: the content of `calibration.json`, and `output` if there is a folder.

    Raises
    ------
    ConfigError, DataError, ModelError, WindowError
        If the input is wrong, or GrainLearning is not installed.
    """
    settings = CalibrationSettings(
        known or {}, experiment_type, observed, control, n_samples, n_iterations, tolerance, n_components, seed
    )
    return run_calibration(model_dir, Path(observation), ranges, settings, None if out is None else Path(out)).as_dict()


def run_calibration(
    model_dir: str | Path,
    observation_path: Path,
    ranges: Mapping[str, Range],
    settings: CalibrationSettings,
    out: Path | None = None,
) -> CalibrationSummary:
    """Calibrate as `calibrate` does, and return the typed summary.

    Raises
    ------
    ConfigError, DataError, ModelError, WindowError
        If the input is wrong, or GrainLearning is not installed.
    """
    start = time.perf_counter()
    input_checks.check_sought(ranges)
    if out is not None:
        layout.check_free(out, "choose another one for the calibration.")
    grainlearning = _import_grainlearning()
    problem = read_problem(model_dir, observation_path, ranges, settings)
    if out is not None:
        input_checks.make_out(out)

    observation, domain = problem.observation, problem.surrogate.domain
    predicting = SurrogateCallback(problem.surrogate, problem.known, observation.load)
    sampling = SamplingCallback(predicting, ranges)
    calibration = _configure(grainlearning, sampling, problem, settings)
    most_probable, response = _run(calibration, sampling)
    residuals = problem.compared - response
    likelihood = likelihood_of(problem, residuals)
    posterior = sampling.samples.extend(
        lambda params: predicting.respond(list(ranges), params, observation.labels),
        likelihood.log,
        _POSTERIOR_BATCH * settings.n_samples,
        settings.seed,
    )
    is_known = problem.errors is not None or bool(problem.expected_errors.all())
    shares = surrogate_shares(posterior, sampling.samples, likelihood) if is_known else {}
    parameters = parameter_estimates(posterior, most_probable, ranges, shares)
    labels = label_fits(
        dict(zip(observation.labels, residuals, strict=True)),
        domain.label_errors,
        dict(zip(observation.labels, problem.expected_errors.tolist(), strict=True)),
        domain.experiment.units(),
    )
    sigma = [float(np.squeeze(value)) for value in calibration.inference.sigma_list]
    summary = CalibrationSummary(
        parameters=parameters,
        known=problem.known,
        labels=labels,
        effective_samples=posterior.n_effective,
        sigma=tuple(sigma),
        reached_tolerance=sigma[-1] < settings.tolerance,
        model=str(domain.folder),
        observation=str(observation_path),
        control=observation.control,
        n_steps=len(observation.load),
        first_step=domain.first,
        resampling=observation.resampling,
        notes=(*observation.notes, *contradictions(parameters, labels, observation_path)),
        training_ranges=domain.param_ranges,
        outside_training=tuple(problem.outside_training),
        n_samples=settings.n_samples,
        seed=settings.seed,
        seconds=time.perf_counter() - start,
        seconds_per_prediction=statistics.median(predicting.seconds),
        versions={name: metadata.version(name) for name in ("glrnn_hpc", "grainlearning", "tensorflow", "keras")},
    )
    if out is None:
        return summary
    _write(out, summary, posterior, sampling.samples, problem, response)
    return replace(summary, output=out)


def _import_grainlearning() -> Any:
    try:
        import grainlearning
    except ImportError as error:
        raise ConfigError(
            f"GrainLearning is needed to calibrate, and cannot be imported here ({error}): "
            "pip install 'glrnn_hpc[calibration]' (it needs numpy 1)."
        ) from error
    return grainlearning


def _configure(grainlearning: Any, callback: SamplingCallback, problem: Problem, settings: CalibrationSettings) -> Any:
    """Return GrainLearning's `BayesianCalibration` of a problem."""
    bounds = problem.ranges.values()
    return grainlearning.BayesianCalibration.from_dict(
        {
            "num_iter": settings.n_iterations,
            "callback": callback,
            "save_fig": -1,
            "system": {
                "param_names": list(problem.ranges),
                "param_min": [low for low, _ in bounds],
                "param_max": [high for _, high in bounds],
                "num_samples": settings.n_samples,
                "obs_names": list(problem.observation.labels),
                "obs_data": problem.compared,
                "inv_obs_weight": _weights(problem.compared, problem.expected_errors),
                "ctrl_name": problem.observation.control,
                "ctrl_data": problem.observation.load.T,
                "sigma_tol": settings.tolerance,
            },
            "inference": {
                # Errors in parts of the largest value: in parts of each value, the default, none is allowed at q = 0.
                "Bayes_filter": {"ess_target": 0.3, "scale_cov_with_max": True},
                "sampling": {"max_num_components": settings.n_components, "random_state": settings.seed},
            },
        }
    )


def _weights(observed: Array, errors: Array) -> list[float] | None:
    """Return the weights that make GrainLearning's errors of the labels proportional to those of the surrogate.

    Where these are unknown they are proportional to the size of each label. GrainLearning's own scale is the largest
    value, which of a label that is mostly negative, as q in extension, is no size. None: its scale serves.
    """
    scales = observed.max(axis=1)
    sizes = np.abs(observed).max(axis=1)
    if (scales == 0).any() or ((errors == 0).any() and (sizes == scales).all()):
        return None
    weights: list[float] = (((sizes if (errors == 0).any() else errors) / scales) ** 2).tolist()
    return weights


def _run(calibration: Any, callback: SamplingCallback) -> tuple[Array, Array]:
    """Run GrainLearning silently; return the most probable parameters and the response to them.

    Raises
    ------
    ModelError
        If GrainLearning cannot complete the first iteration.
    """
    try:
        # Its numbers over- and underflow during the search for sigma, and scikit-learn warns of few distinct samples.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            calibration.run()
        callback.complete_iteration(calibration.inference.posterior)
    except GlrnnError:
        raise
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        # Where the model cannot come nearer to the observation, the likelihoods of samples that hardly differ
        # are all 0, and GrainLearning divides by their sum.
        if callback.best is None:
            raise ModelError(
                f"GrainLearning cannot complete the first iteration: {error}. Are the ranges, the units and the known "
                "parameters those of the experiment?"
            ) from error
        logger.warning(
            "GrainLearning cannot narrow the samples further and ends after iteration %d; sigma is %.3g by then.",
            len(calibration.inference.sigma_list),
            float(np.squeeze(calibration.inference.sigma_list[-1])),
        )
    assert callback.best is not None
    return callback.best


def _write(
    out: Path,
    summary: CalibrationSummary,
    posterior: Posterior,
    samples: ImportanceSamples,
    problem: Problem,
    response: Array,
) -> None:
    from glrnn_hpc.calibration import posterior_figures

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["iteration", *posterior.names, "weight"])
    sizes = [len(batch.params) for batch in samples.batches]
    iterations = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    for number, params, weight in zip(iterations, posterior.params, posterior.weights, strict=True):
        writer.writerow([number, *(f"{value:.9g}" for value in params), f"{weight:.6g}"])
    layout.write_text(out / "samples.csv", text.getvalue())
    experiment = problem.surrogate.domain.experiment
    posterior_figures.plot_posterior(posterior, summary.parameters, experiment.parameter_units(), out / "posterior.png")
    band = posterior_figures.response_band(posterior, np.concatenate([batch.responses for batch in samples.batches]))
    posterior_figures.plot_response(
        problem.observation, experiment, summary.first_step, response, band, out / "response.png"
    )
    layout.write_json(out / "calibration.json", summary.as_dict())
