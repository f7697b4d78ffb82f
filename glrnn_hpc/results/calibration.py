"""Bayesian calibration with GrainLearning, a trained model in the place of the DEM code."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
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
from glrnn_hpc.errors import ConfigError, DataError, GlrnnError, ModelError
from glrnn_hpc.predict import LABEL_UNITS
from glrnn_hpc.results.callback import Recorder, SurrogateCallback
from glrnn_hpc.results.observation import Observation, observe
from glrnn_hpc.results.spread import Posterior, Samples, error_scales
from glrnn_hpc.results.stand_in import Surrogate
from glrnn_hpc.results.trained import EXPERIMENT_TYPES, Range, Trained, check_unit, outside

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: GrainLearning cannot learn a distribution of fewer samples.
_FEWEST_SAMPLES = 10

#: A response that is farther from the observation, in errors of the surrogate, is not that of the experiment.
_POOR_FIT = 3.0

#: Samples that tell the spread, at a time, to each one of an iteration.
_EXPLORED = 5

#: No laboratory reaches this confining pressure [MPa]; it must be one in Pa.
_HIGHEST_PRESSURE = 1e3

#: By this part the first mean stress of a test may differ from its confining pressure: noise, and load before row 1.
_SAME_PRESSURE = 0.5

#: A void ratio that changes by less is that of an undrained test; one that changes by more is not, even if measured.
_LEAST_DRAINED, _MOST_UNDRAINED = 1e-3, 1e-2


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
    _check_settings(ranges, n_samples, n_iterations, tolerance, n_components, seed)
    if out is not None:
        _check_out(Path(out))
    grainlearning = _grainlearning()
    surrogate = Surrogate(model_dir)
    trained = surrogate.trained
    given, type_number = _known(surrogate, ranges, dict(known or {}), experiment_type)
    seen = observe(Path(observation), trained, observed, control, type_number)
    if "e0" in trained.param_names and "e0" not in {**ranges, **given} and seen.e0 is not None:
        given["e0"] = seen.e0
    trained.order(list(ranges), given)
    beyond = _check_ranges(trained, ranges, given)
    _warn_of_pressure(seen, given)
    _warn_of_type(seen, type_number)
    for note in seen.notes:
        logger.info("%s: %s", observation, note)

    if out is not None:
        _make_out(Path(out))
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


def _check_settings(
    ranges: Mapping[str, Range], n_samples: int, n_iterations: int, tolerance: float, n_components: int, seed: int
) -> None:
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


def _check_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is a file or holds something already; name another folder for the calibration.")


def _make_out(out: Path) -> None:
    """Make the folder before anything is calculated, which would be lost."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: the folder for the calibration cannot be made: {error.strerror}.") from error
    if not os.access(out, os.W_OK):
        raise ConfigError(f"{out}: files of the calibration may not be written there.")


def _known(
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


def _check_ranges(trained: Trained, ranges: Mapping[str, Range], known: Mapping[str, float]) -> list[str]:
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
    beyond = outside({**ranges, **{name: (value, value) for name, value in known.items()}}, trained.param_ranges)
    for each in beyond:
        logger.warning("outside of the training, where the surrogate guesses: %s", each)
    return beyond


def _warn_of_pressure(seen: Observation, known: Mapping[str, float]) -> None:
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


def _warn_of_type(seen: Observation, experiment_type: float | None) -> None:
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
    trained: Trained,
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
            "unit": LABEL_UNITS.get(name),
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
    from glrnn_hpc.results import posterior_figures

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
