"""Bayesian calibration with GrainLearning, a trained model in the place of the DEM code."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.calibration import input_checks
from glrnn_hpc.calibration.observation import Observation, observe
from glrnn_hpc.calibration.posterior import Posterior, Samples, error_scales
from glrnn_hpc.calibration.surrogate import Recorder, Surrogate, SurrogateCallback
from glrnn_hpc.collector.training_domain import Range, TrainingDomain
from glrnn_hpc.errors import ConfigError, GlrnnError, ModelError

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: A response that is farther from the observation, in errors of the surrogate, is not that of the experiment.
_POOR_FIT = 3.0

#: Samples that tell the spread, at a time, to each one of an iteration.
_EXPLORED = 5


def surrogate_callback(
    model_dir: str | Path, extra_params: Mapping[str, float] | None = None, load: Array | None = None
) -> SurrogateCallback:
    """Make a GrainLearning callback out of a trained model.

    Parameters
    ----------
    model_dir : path
        Folder of a trial, a single run, an export, or one that GrainLearning wrote; or the name of a shipped model.
    extra_params : mapping, optional
        Parameters of the model that are not sought, by name: `pressure` in MPa, `experiment_type` (1 drained, 0
        undrained), `e0`.
    load : ndarray, shape (T, n_inputs), optional
        The load sequence. If it is not given, `ctrl_data` of the system is taken, ``(T,)`` or, time last,
        ``(n_inputs, T)``.

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
    """Find the parameters with which a model answers as an experiment did.

    Parameters
    ----------
    model_dir : path
        Folder of the model, or the name of a shipped one.
    observation : path
        A table whose first line names its columns: the strain ``e_z`` and labels of the model, such as ``e p q``.
    ranges : mapping of str to (float, float)
        The parameters that are sought.
    out : path, optional
        Folder to write: `calibration.json`, `samples.csv`, `posterior.png`, `response.png`. It must not hold anything.
    known : mapping, optional
        The other parameters of the model, such as ``{'pressure': 0.2}`` in MPa. `e0` is the first void ratio of the
        observation if it is not given.
    experiment_type : str, optional
        `drained` or `undrained`.
    observed : sequence of str, optional
        The labels to compare; all of the observation by default.
    control : str, optional
        The strain that the steps follow; ``e_z`` by default.
    n_samples, n_iterations : int
        Of GrainLearning: sets of parameters in an iteration, and iterations at most.
    tolerance : float
        GrainLearning ends when its sigma falls below.
    n_components : int
        Gaussian components at most from which GrainLearning draws new samples.
    seed : int
        Of these draws; the first samples are always the same Halton sequence.

    Returns
    -------
    dict
        `most_probable`, `spread`, `mean`, `deviation`, `interval`, `iterations`, `seconds`, `seconds_per_prediction`
        and more, as `calibration.json` holds them.

    Raises
    ------
    ConfigError, DataError, ModelError, WindowError
        If the input is wrong, or GrainLearning is not installed.
    """
    began = time.perf_counter()
    input_checks.check_settings(ranges, n_samples, n_iterations, tolerance, n_components, seed)
    if out is not None:
        input_checks.check_out(Path(out))
    grainlearning = _grainlearning()
    surrogate = Surrogate(model_dir)
    trained = surrogate.trained
    given, type_number = input_checks.known_parameters(surrogate, ranges, dict(known or {}), experiment_type)
    seen = observe(Path(observation), trained, observed, control, type_number)
    if "e0" in trained.param_names and "e0" not in {**ranges, **given} and seen.e0 is not None:
        given["e0"] = seen.e0
    trained.parameter_order(list(ranges), given)
    beyond = input_checks.check_ranges(trained, ranges, given)
    input_checks.warn_of_contradictions(seen, given, type_number)
    for note in seen.notes:
        logger.info("%s: %s", observation, note)

    if out is not None:
        input_checks.make_out(Path(out))
    callback = SurrogateCallback(surrogate, given, seen.load)
    recorder = Recorder(callback, ranges)
    compared = seen.values[trained.first :].T
    errors = trained.errors_at(seen.names, compared)
    settings = {
        "num_iter": n_iterations,
        "callback": recorder,
        "save_fig": -1,
        "system": {
            "param_names": list(ranges),
            "param_min": [low for low, _ in ranges.values()],
            "param_max": [high for _, high in ranges.values()],
            "num_samples": n_samples,
            "obs_names": list(seen.names),
            "obs_data": compared,
            "inv_obs_weight": _weights(compared, errors),
            "ctrl_name": seen.control,
            "ctrl_data": seen.load.T,
            "sigma_tol": tolerance,
        },
        "inference": {
            # Errors in parts of the largest value: the default, parts of each value, allows none where q begins at 0.
            "Bayes_filter": {"ess_target": 0.3, "scale_cov_with_max": True},
            "sampling": {"max_num_components": n_components, "random_state": seed},
        },
    }
    calibration = grainlearning.BayesianCalibration.from_dict(settings)
    best, response = _run(calibration, recorder)
    residuals = compared - response
    posterior = recorder.samples.explore(
        lambda params: callback.answer(list(ranges), params, seen.names),
        compared,
        error_scales(residuals, errors),
        _EXPLORED * n_samples,
        seed,
    )
    found = _summary(trained, seen, ranges, given, posterior, best, residuals, errors, calibration)
    found["notes"] += _doubts(found)
    found |= {
        "outside_training": beyond,
        "samples": n_samples,
        "seed": seed,
        "seconds": time.perf_counter() - began,
        "seconds_per_prediction": statistics.median(callback.seconds),
    }
    if out is not None:
        _write(Path(out), found, posterior, recorder.samples, seen, trained.first, response)
        found["output"] = str(out)
    return found


def _grainlearning() -> Any:
    try:
        import grainlearning
    except ImportError as error:
        raise ConfigError(
            f"GrainLearning is needed to calibrate, and cannot be imported here ({error}): "
            "pip install 'glrnn_hpc[calibration]' (it needs numpy 1)."
        ) from error
    return grainlearning


def _weights(observed: Array, errors: Array) -> list[float] | None:
    """Return the factors that make GrainLearning's errors of the labels go as those of the surrogate.

    GrainLearning takes errors in proportion to the largest value of each label; None leaves it so, where the errors of
    the surrogate are not known.
    """
    if (errors == 0).any() or (observed.max(axis=1) == 0).any():
        return None
    weights: list[float] = ((errors / observed.max(axis=1)) ** 2).tolist()
    return weights


def _run(calibration: Any, recorder: Recorder) -> tuple[Array, Array]:
    """Run a calibration; return the most probable parameters and the response to them. What it prints is left out.

    Raises
    ------
    ModelError
        If GrainLearning cannot complete the first iteration.
    """
    try:
        # Its numbers over- and underflow while it looks for sigma, and scikit-learn warns of few distinct samples.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            calibration.run()
        recorder.complete(calibration.inference.posterior)
    except GlrnnError:
        raise
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        # Where the model cannot come nearer to the observation, the likelihoods of samples that hardly differ
        # are all 0, and GrainLearning divides by their sum.
        if recorder.best is None:
            raise ModelError(
                f"GrainLearning cannot complete the first iteration: {error}. Are the ranges, the units and the known "
                "parameters those of the experiment?"
            ) from error
        logger.warning(
            "GrainLearning cannot narrow the samples further and ends after iteration %d; sigma is %.3g by then.",
            len(calibration.inference.sigma_list),
            float(np.squeeze(calibration.inference.sigma_list[-1])),
        )
    assert recorder.best is not None
    return recorder.best


def _summary(
    trained: TrainingDomain,
    seen: Observation,
    ranges: Mapping[str, Range],
    known: Mapping[str, float],
    posterior: Posterior,
    best: Array,
    residuals: Array,
    expected: Array,
    calibration: Any,
) -> dict[str, Any]:
    errors = {
        name: {
            "rmse": float(np.sqrt((row**2).mean())),
            "surrogate_rmse": trained.label_errors.get(name),
            "expected": float(error) or None,
            "unit": trained.experiment.units().get(name),
        }
        for name, row, error in zip(seen.names, residuals, expected, strict=True)
    }
    return {
        "most_probable": dict(zip(ranges, best.tolist(), strict=True)),
        "spread": posterior.spread(best),
        "mean": posterior.mean(),
        "deviation": posterior.deviation(),
        "interval": posterior.interval(),
        "effective_samples": posterior.n_effective,
        "iterations": len(calibration.inference.sigma_list),
        "reached_tolerance": bool(np.squeeze(calibration.inference.sigma_list[-1]) < calibration.system.sigma_tol),
        "sigma": [float(np.squeeze(value)) for value in calibration.inference.sigma_list],
        "errors": errors,
        "model": str(trained.folder),
        "observation": str(seen.path),
        "observed": list(seen.names),
        "control": seen.control,
        "steps": len(seen.load),
        "first_step": trained.first,
        "resampling": seen.resampling,
        "notes": list(seen.notes),
        "ranges": {name: list(each) for name, each in ranges.items()},
        "known": dict(known),
        "trained_in": {name: list(each) for name, each in trained.param_ranges.items()} or None,
        "versions": {name: metadata.version(name) for name in ("glrnn_hpc", "grainlearning", "tensorflow", "keras")},
    }


def _doubts(found: Mapping[str, Any]) -> list[str]:
    """Return in sentences what speaks against a result, and log those that it should not be used with."""
    notes = []
    for name, row in found["errors"].items():
        if row["surrogate_rmse"] is not None and row["rmse"] > _POOR_FIT * row["surrogate_rmse"]:
            unit = row["unit"] or ""
            notes.append(
                f"{name} is missed by {row['rmse']:.3g} {unit}".rstrip()
                + f", {row['rmse'] / row['surrogate_rmse']:.0f} times the error of the surrogate on its tests: no "
                "parameters in the ranges give the observation. Are unit, type, pressure and ranges those of the "
                "experiment?"
            )
            logger.warning("%s: %s", found["observation"], notes[-1])
    for name, value in found["most_probable"].items():
        low, high = found["interval"][name]
        if not low <= value <= high:
            notes.append(
                f"The most probable {name}, {value:.4g}, lies outside of its own interval {low:.4g} .. {high:.4g}: it "
                "is the best of few samples; the mean is the better estimate."
            )
    if any(row["expected"] is None for row in found["errors"].values()):
        notes.append(
            "The errors of the surrogate are not known: the spread is that of a surrogate without errors, too narrow."
        )
    return notes


def _write(
    out: Path,
    found: Mapping[str, Any],
    posterior: Posterior,
    samples: Samples,
    seen: Observation,
    first: int,
    response: Array,
) -> None:
    from glrnn_hpc.calibration import posterior_figures

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["iteration", *posterior.names, "weight"])
    iterations = np.repeat(np.arange(1, len(samples.drawn) + 1), [len(drawn) for drawn in samples.drawn])
    for number, params, weight in zip(iterations, posterior.params, posterior.weights, strict=True):
        writer.writerow([number, *(f"{value:.9g}" for value in params), f"{weight:.6g}"])
    layout.write_text(out / "samples.csv", text.getvalue())
    posterior_figures.plot_posterior(posterior, found, out / "posterior.png")
    band = posterior_figures.response_band(posterior, np.concatenate(samples.answered))
    posterior_figures.plot_response(seen, first, response, band, out / "response.png")
    layout.write_json(out / "calibration.json", found)
