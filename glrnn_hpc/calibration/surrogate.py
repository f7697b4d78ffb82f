"""Trained model in place of the DEM code: the callback that GrainLearning calls, and the record of its calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.calibration.posterior import Samples
from glrnn_hpc.collector.training_domain import Range, read_training_domain
from glrnn_hpc.errors import DataError, ModelError, WindowError
from glrnn_hpc.predict import get_pretrained_model, predict_sequences
from glrnn_hpc.preprocessor.splits import scaling_of
from glrnn_hpc.surrogate.kernels import one_load_kernel
from glrnn_hpc.surrogate.legacy import run_folder
from glrnn_hpc.surrogate.shipped import folder_of

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: Draws that tell which part of a Gaussian mixture lies within the ranges.
_DRAWS = 4096


class Surrogate:
    """A trained model for many sets of parameters under one load.

    Parameters
    ----------
    folder : path
        Of a trial, a single run, an export, or one that GrainLearning wrote; or the name of a shipped model.

    Attributes
    ----------
    trained : TrainingDomain
        What it was trained with.
    config : dict
        Configuration of the training.

    Raises
    ------
    ModelError
        If a file is missing, broken, or the model does not fit its description.
    """

    def __init__(self, folder: str | Path) -> None:
        root = run_folder(folder_of(folder))
        self._model, self._stats, self.config = get_pretrained_model(root)
        self.trained = read_training_domain(root, self._stats, self.config)
        self._kernel = one_load_kernel(self._model, self.trained.window_size)
        if self._kernel is None:
            logger.info("%s: is a network of another structure; Keras runs it, which is slower.", root)

    def respond(self, load: Array, params: Array) -> Array:
        """Predict the responses to one load sequence, in one call.

        Parameters
        ----------
        load : ndarray, shape (T, n_inputs)
            From its first step on, not padded; in the order of `input_names`.
        params : ndarray, shape (n, n_params)
            In the order of `param_names`.

        Returns
        -------
        ndarray, shape (n, T - first, n_labels), float32
            In original units; element ``k`` is the response at step ``first + k``.

        Raises
        ------
        WindowError
            If the load has no more steps than a window.
        ModelError
            If the numbers of columns are not those of the model, or it gives values that are not finite.
        """
        trained = self.trained
        for what, given, expected in (
            ("load features", load.shape[1], trained.n_inputs),
            ("parameters", params.shape[1], trained.n_params),
        ):
            if given != expected:
                raise ModelError(f"{trained.folder}: was trained with {expected} {what}, {given} are given.")
        if len(load) <= trained.first:
            raise WindowError(
                f"a load of {len(load)} steps is too short for window_size={trained.window_size}; "
                f"at least {trained.first + 1} steps are needed."
            )
        load = np.concatenate([np.repeat(load[:1], trained.pad_length, axis=0), load]).astype("float32")
        params = params.astype("float32")
        if self._kernel is None:
            responses = predict_sequences(
                self._model, np.repeat(load[None], len(params), axis=0), params, self._stats, self.config
            )
        else:
            responses = self._run_kernel(load, params)
        if not np.isfinite(responses).all():
            raise ModelError(f"{trained.folder}: the model gives values that are not finite; it is of no use.")
        return responses

    def _run_kernel(self, load: Array, params: Array) -> Array:
        assert self._kernel is not None
        if self.config.get("standardize_inputs", False):
            load, params = scaling_of(self._stats, "inputs_")(load), scaling_of(self._stats, "params_")(params)
        responses: Array = self._kernel(load, params).numpy()
        if self.config.get("standardize_outputs", True):
            labels = scaling_of(self._stats)
            responses = responses * labels.divisor().astype("float32") + labels.mean.astype("float32")
        return responses


class SurrogateCallback:
    """What GrainLearning calls in each iteration: it answers for all samples in one compiled call.

    Parameters
    ----------
    surrogate : Surrogate
        The model.
    extra_params : mapping, optional
        Parameters that are not sought, by name: `pressure` in MPa, `experiment_type` (1 drained, 0 undrained), `e0`.
    load : ndarray, shape (T, n_inputs), optional
        The load sequence; `ctrl_data` of the system at the first call if it is not given.

    Attributes
    ----------
    seconds : list of float
        How long each call took.
    """

    def __init__(
        self, surrogate: Surrogate, extra_params: Mapping[str, float] | None = None, load: Array | None = None
    ) -> None:
        self._surrogate = surrogate
        self._extra = dict(extra_params or {})
        self._load = load
        self.seconds: list[float] = []

    def __call__(self, calibration: Any) -> None:
        """Set `sim_data` of the calibration's system; take a system itself too, as older versions hand it over.

        Raises
        ------
        ConfigError
            If a parameter is unknown, or neither sought nor given.
        DataError
            If the load and the observation do not have the same steps.
        ModelError, WindowError
            If the load does not fit the model.
        """
        began = time.perf_counter()
        system = getattr(calibration, "system", calibration)
        if self._load is None:
            self._load = _load_of(system, self._surrogate.trained.n_inputs)
            self._cut_observation(system, len(self._load))
        observed = list(system.obs_names or self._surrogate.trained.label_names)
        system.set_sim_data(self.answer(list(system.param_names or []), system.param_data, observed))
        self.seconds.append(time.perf_counter() - began)

    def answer(self, names: Sequence[str], params: Array, observed: Sequence[str]) -> Array:
        """Return the responses to sets of the parameters that are sought, before any observation is looked at.

        Parameters
        ----------
        names : sequence of str
            Of the parameters that are sought.
        params : ndarray, shape (n, n_names)
            Their values.
        observed : sequence of str
            The labels that are wanted.

        Returns
        -------
        ndarray, shape (n, n_observed, n_steps)
        """
        assert self._load is not None
        order = self._surrogate.trained.parameter_order(names, self._extra)
        sought = dict(zip(names, np.asarray(params, "float64").T, strict=True))
        columns = [sought[name] if name in sought else np.full(len(params), self._extra[name]) for name in order]
        responses = self._surrogate.respond(self._load, np.column_stack(columns))
        return responses[:, :, self._surrogate.trained.label_columns(observed)].transpose(0, 2, 1)

    def _cut_observation(self, system: Any, n_steps: int) -> None:
        """Take the steps from the observation that the model does not answer, unless that was done before."""
        first = self._surrogate.trained.first
        n_observed = system.obs_data.shape[1]
        if n_observed == n_steps and first:
            logger.info("the observation is compared from step %d on, which the model answers first.", first)
            system.set_obs_data(system.obs_data[:, first:])
            system.num_steps = n_steps - first
            system.normalization_factor = system.normalization_factor[first:]
        elif n_observed != n_steps - first:
            raise DataError(
                f"ctrl_data has {n_steps} steps and obs_data {n_observed}: ctrl_data is the whole load sequence, "
                f"obs_data as long, or without the first {first} steps, which the model does not answer."
            )


class Recorder:
    """A callback that keeps what each iteration drew and was answered, and the density it drew from.

    Parameters
    ----------
    callback : SurrogateCallback
        What answers.
    ranges : mapping of str to (float, float)
        Of the parameters that are sought.

    Attributes
    ----------
    samples : Samples
        What was kept.
    best : tuple of ndarray or None
        The most probable parameters of the last iteration that was completed, and the response to them.
    """

    def __init__(self, callback: SurrogateCallback, ranges: Mapping[str, Range]) -> None:
        self._callback = callback
        self.samples = Samples(ranges)
        self.best: tuple[Array, Array] | None = None

    def __call__(self, calibration: Any) -> None:
        """Answer, and keep it all."""
        if self.samples.drawn:
            self.complete(calibration.inference.posterior)
        self._callback(calibration)
        system, sampling = calibration.system, calibration.inference.sampling
        density = self.samples.even_density
        if sampling.gmm is not None:
            inside = len(sampling.draw_samples_within_bounds(system, _DRAWS)) / _DRAWS
            density = _log_density(sampling.gmm, sampling.min_params, sampling.max_params, inside)
        self.samples.add(system.param_data, system.sim_data, density)
        n = len(self.samples.drawn)
        logger.info("iteration %d: %d predictions in %.2f s", n, system.num_samples, self._callback.seconds[-1])

    def complete(self, posterior: Array) -> None:
        """Note the best of the last iteration by the probabilities that GrainLearning gave its samples."""
        at = int(np.argmax(posterior))
        self.best = self.samples.drawn[-1][at], self.samples.answered[-1][at]


def _log_density(mixture: Any, least: Array, greatest: Array, inside: float) -> Any:
    """Return the log density of a mixture that was learnt between `least` and `greatest`, cut at the ranges."""
    scale = np.log(greatest - least).sum() + np.log(max(inside, 1 / _DRAWS))
    return lambda params: mixture.score_samples((params - least) / (greatest - least)) - scale


def _load_of(system: Any, n_inputs: int) -> Array:
    """Return `ctrl_data` with time first.

    Raises
    ------
    DataError
        If it is missing or has another number of load features than the model.
    """
    if system.ctrl_data is None:
        raise DataError("the system has no ctrl_data: the load sequence of the model must be there.")
    load = np.asarray(system.ctrl_data, "float64")
    load = load[None] if load.ndim == 1 else load
    if load.shape[0] != n_inputs:
        raise DataError(
            f"ctrl_data has the shape {load.shape}; the model needs {n_inputs} load features, time last: "
            f"({n_inputs}, n_steps)."
        )
    return load.T
