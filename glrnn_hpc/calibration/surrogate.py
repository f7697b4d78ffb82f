"""Surrogate in place of the DEM code: callbacks of GrainLearning that predict the responses to its samples."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.calibration.posterior import ImportanceSamples, Interval, LogDensity
from glrnn_hpc.collector.training_domain import TrainingDomain, read_training_domain
from glrnn_hpc.errors import DataError, ModelError, WindowError
from glrnn_hpc.predict import get_pretrained_model
from glrnn_hpc.records.error_covariance import read_error_covariance
from glrnn_hpc.surrogate.ensemble import Ensemble
from glrnn_hpc.surrogate.error_covariance import ErrorCovariance, covariance_of_record
from glrnn_hpc.surrogate.legacy import run_folder
from glrnn_hpc.surrogate.one_load import OneLoadModel
from glrnn_hpc.surrogate.shipped import folder_of

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: Draws from a Gaussian mixture by which its probability within the ranges is estimated.
_MIXTURE_DRAWS = 4096


class Surrogate:
    """A trained model, or an ensemble of them, for many sets of parameters under one load.

    Parameters
    ----------
    folder : path
        Of a trial, a single run, an export, or one that GrainLearning wrote; or the name of a shipped model.

    Attributes
    ----------
    domain : TrainingDomain
        Columns, ranges and load steps of its training.
    config : dict
        Configuration of the training.
    ensemble : Ensemble or None
        The ensemble, whose `combine` makes intervals of what `respond_members` returns; None of a single model.
    error_covariance : ErrorCovariance or None
        Covariance of its errors on its validation split; None if the folder does not tell it.

    Raises
    ------
    ModelError
        If a file is missing, broken, or the model does not fit its description.
    """

    def __init__(self, folder: str | Path) -> None:
        root = run_folder(folder_of(folder))
        model, stats, self.config = get_pretrained_model(root)
        self.domain = read_training_domain(root, stats, self.config)
        self.ensemble = model if isinstance(model, Ensemble) else None
        self.error_covariance = read_covariance(layout.RunFolder(root), self.domain)
        self._single = None if isinstance(model, Ensemble) else OneLoadModel(model, stats, self.config)
        models = [each for each in (self._single, *(self.ensemble.members if self.ensemble else ())) if each]
        if n_slow := sum(not each.is_fast for each in models):
            which = "the network has" if len(models) == 1 else f"{n_slow} of {len(models)} networks have"
            logger.info("%s: %s another structure; Keras runs it, which is slower.", root, which)

    def respond(self, load: Array, params: Array) -> Array:
        """Predict the responses to one load sequence, in one call.

        Parameters
        ----------
        load : ndarray, shape (T, n_inputs)
            Not padded; columns in the order of `input_names`, or of `given_inputs` of the domain, without the features
            that the experiment derives.
        params : ndarray, shape (n, n_params)
            Columns in the order of `param_names`.

        Returns
        -------
        ndarray, shape (n, T - first, n_labels), float32
            In original units; element ``k`` is the response at step ``first + k``.

        Raises
        ------
        WindowError
            If the load has no more steps than a window.
        ModelError
            If the numbers of columns are not those of the model, or a response is not finite.
        """
        members = self.respond_members(load, params)
        return members[0] if self.ensemble is None else self.ensemble.mean_of(members)

    def respond_members(self, load: Array, params: Array) -> Array:
        """Predict the responses to one load sequence by each member of an ensemble, in one call.

        Parameters
        ----------
        load, params : ndarray
            As for `respond`.

        Returns
        -------
        ndarray, shape (n_members, n, T - first, n_labels), float32
            In original units; a single model is its only member. `ensemble.weights` are the weights of the members.

        Raises
        ------
        ModelError, WindowError
            As `respond`.
        """
        domain = self.domain
        load = _with_derived(load, domain)
        for columns, given, expected in (
            ("load features", load.shape[1], domain.n_inputs),
            ("parameters", params.shape[1], domain.n_params),
        ):
            if given != expected:
                raise ModelError(f"{domain.folder}: was trained with {expected} {columns}, {given} are given.")
        if len(load) <= domain.first:
            raise WindowError(
                f"a load of {len(load)} steps is too short for window_size={domain.window_size}; "
                f"at least {domain.first + 1} steps are needed."
            )
        if self.ensemble is not None:
            responses = self.ensemble.respond_members(load, params)
        else:
            assert self._single is not None
            responses = self._single.respond(load, params)[None]
        if not np.isfinite(responses).all():
            raise ModelError(f"{domain.folder}: the model gives values that are not finite; it is of no use.")
        return responses


def read_covariance(files: layout.RunFolder, domain: TrainingDomain) -> ErrorCovariance | None:
    """Return the covariance of the errors of a model; None if its folder does not tell it.

    Raises
    ------
    ModelError
        If the file is broken, or belongs to another model.
    """
    record = read_error_covariance(files.error_covariance)
    if record is None:
        return None
    if record.labels != domain.label_names or record.edges[0] < domain.first:
        raise ModelError(
            f"{files.error_covariance}: is of a model with the labels {', '.join(record.labels)} that predicts from "
            f"step {record.edges[0]} on; this one has {', '.join(domain.label_names) or 'no names of labels'} from "
            f"step {domain.first} on. Collect the sweep again, or remove the file."
        )
    return covariance_of_record(record, domain.param_names)


class SurrogateCallback:
    """GrainLearning callback that predicts the responses to all samples of an iteration in one compiled call.

    Parameters
    ----------
    surrogate : Surrogate
        The model.
    extra_params : mapping, optional
        Parameters that are not sought, by name: `pressure` in MPa, `experiment_type` (1 drained, 0 undrained), `e0`.
    load : ndarray, shape (T, n_inputs), optional
        The load sequence; `ctrl_data` of the system at the first call if it is not given. Features that the experiment
        derives may be left out of either.

    Attributes
    ----------
    seconds : list of float
        Duration of each call.
    """

    def __init__(
        self, surrogate: Surrogate, extra_params: Mapping[str, float] | None = None, load: Array | None = None
    ) -> None:
        self._surrogate = surrogate
        self._extra = dict(extra_params or {})
        self._load = load
        self.seconds: list[float] = []

    def __call__(self, calibration: Any) -> None:
        """Set `sim_data` of the calibration's system. Older versions of GrainLearning pass the system itself.

        Raises
        ------
        ConfigError
            If a parameter is unknown, or neither sought nor given.
        DataError
            If the load and the observation do not have the same steps.
        ModelError, WindowError
            If the load does not fit the model.
        """
        start = time.perf_counter()
        system = getattr(calibration, "system", calibration)
        domain = self._surrogate.domain
        if self._load is None:
            self._load = _load_of(system, domain)
            self._trim_observation(system, len(self._load))
        labels = list(system.obs_names or domain.label_names)
        system.set_sim_data(self.respond(list(system.param_names or []), system.param_data, labels))
        self.seconds.append(time.perf_counter() - start)

    def respond(self, names: Sequence[str], params: Array, labels: Sequence[str]) -> Array:
        """Predict the responses to sets of the sought parameters.

        Parameters
        ----------
        names : sequence of str
            Of the sought parameters.
        params : ndarray, shape (n, n_names)
            Their values.
        labels : sequence of str
            Names of the wanted labels.

        Returns
        -------
        ndarray, shape (n, n_labels, n_steps)
        """
        assert self._load is not None
        domain = self._surrogate.domain
        sought = dict(zip(names, np.asarray(params, "float64").T, strict=True))
        columns = [
            sought[name] if name in sought else np.full(len(params), self._extra[name])
            for name in domain.parameter_order(names, self._extra)
        ]
        responses = self._surrogate.respond(self._load, np.column_stack(columns))
        return responses[:, :, domain.label_columns(labels)].transpose(0, 2, 1)

    def _trim_observation(self, system: Any, n_steps: int) -> None:
        """Remove the steps before the first predicted one from `obs_data`, unless it begins there already."""
        first = self._surrogate.domain.first
        n_observed = system.obs_data.shape[1]
        if n_observed == n_steps and first:
            logger.info("the observation is compared from step %d on, the first that the model predicts.", first)
            system.set_obs_data(system.obs_data[:, first:])
            system.num_steps = n_steps - first
            system.normalization_factor = system.normalization_factor[first:]
        elif n_observed != n_steps - first:
            raise DataError(
                f"ctrl_data has {n_steps} steps and obs_data {n_observed}: ctrl_data is the whole load sequence, "
                f"obs_data as long, or without the first {first} steps, which the model does not answer."
            )


class SamplingCallback:
    """Callback that keeps the samples of each iteration, their responses and the density of their draws.

    Parameters
    ----------
    callback : SurrogateCallback
        Predicts the responses.
    ranges : mapping of str to (float, float)
        Of the sought parameters.

    Attributes
    ----------
    samples : ImportanceSamples
        One batch per iteration.
    best : tuple of ndarray or None
        The most probable parameters of the last complete iteration, and the response to them.
    """

    def __init__(self, callback: SurrogateCallback, ranges: Mapping[str, Interval]) -> None:
        self._callback = callback
        self.samples = ImportanceSamples(ranges)
        self.best: tuple[Array, Array] | None = None

    def __call__(self, calibration: Any) -> None:
        """Predict the responses to the samples of an iteration, and keep both."""
        if self.samples.batches:
            self.complete_iteration(calibration.inference.posterior)
        self._callback(calibration)
        system, sampling = calibration.system, calibration.inference.sampling
        log_proposal: LogDensity = self.samples.log_prior
        if sampling.gmm is not None:
            inside = len(sampling.draw_samples_within_bounds(system, _MIXTURE_DRAWS)) / _MIXTURE_DRAWS
            log_proposal = _log_mixture(sampling.gmm, sampling.min_params, sampling.max_params, inside)
        self.samples.add(system.param_data, system.sim_data, log_proposal)
        n = len(self.samples.batches)
        logger.info("iteration %d: %d predictions in %.2f s", n, system.num_samples, self._callback.seconds[-1])

    def complete_iteration(self, probabilities: Array) -> None:
        """Set `best` to the most probable sample of the last batch.

        Parameters
        ----------
        probabilities : ndarray, shape (n_samples,)
            GrainLearning's weights of the samples.
        """
        batch, index = self.samples.batches[-1], int(np.argmax(probabilities))
        self.best = batch.params[index], batch.responses[index]


def _log_mixture(mixture: Any, least: Array, greatest: Array, inside: float) -> LogDensity:
    """Return the log density of a Gaussian mixture, truncated at the ranges.

    GrainLearning fits it to parameters that are scaled to 0..1 between `least` and `greatest`; `inside` is its
    probability within the ranges.
    """
    log_volume = np.log(greatest - least).sum() + np.log(max(inside, 1 / _MIXTURE_DRAWS))
    return lambda params: mixture.score_samples((params - least) / (greatest - least)) - log_volume


def _with_derived(load: Array, domain: TrainingDomain) -> Array:
    """Return a load with the features that the experiment derives, where it has all others and no more."""
    given = domain.given_inputs
    if len(given) == domain.n_inputs or load.shape[1] != len(given):
        return load
    return domain.complete_load(dict(zip(given, load.T, strict=True)))


def _load_of(system: Any, domain: TrainingDomain) -> Array:
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
    n_given, n_inputs = len(domain.given_inputs), domain.n_inputs
    if load.shape[0] not in {n_inputs, n_given or n_inputs}:
        listed = f" ({', '.join(domain.given_inputs)}; others are derived)" if 0 < n_given < n_inputs else ""
        raise DataError(
            f"ctrl_data has the shape {load.shape}; the model needs {n_given or n_inputs} load features{listed}, time "
            f"last: ({n_given or n_inputs}, n_steps)."
        )
    return load.T
