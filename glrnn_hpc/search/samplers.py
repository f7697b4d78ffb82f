"""Points of the trials: of their number for grid and random, of the results of other trials for bayes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import optuna

from glrnn_hpc.records.json_types import ParameterValue, Point
from glrnn_hpc.search.grid import grid_point
from glrnn_hpc.search.parameter import TAIL, Parameter
from glrnn_hpc.search.sampler_kinds import check_sampler
from glrnn_hpc.search.spec import SweepSpec

_SMALLEST_DRAW = 2.0**-54

#: What Optuna takes for a choice.
_Scalar = str | int | float | bool | None


def point_of(spec: SweepSpec, index: int) -> Point:
    """Return the searched parameters of point `index` of a grid or random sweep, whatever the workers do.

    Parameters
    ----------
    spec : SweepSpec
        A sweep with method grid or random.
    index : int
        Number of the point; for a grid below its size.
    """
    if spec.method == "grid":
        return grid_point(spec.searched, index)
    # One stream per trial and one draw per parameter, so that a longer sweep begins with the shorter one's trials.
    draws = np.random.default_rng([spec.seed, index]).random(len(spec.searched))
    return {
        # The generator can give 0, where a distribution without bounds gives infinity.
        parameter.name: parameter.ppf(max(float(u), _SMALLEST_DRAW))
        for parameter, u in zip(spec.searched, draws, strict=True)
    }


def make_sampler(spec: SweepSpec, index: int, kind: str = "tpe") -> optuna.samplers.BaseSampler:
    """Return the sampler that draws point `index` of a bayes sweep.

    Its random numbers depend on the sweep's seed and the index: ranks that draw at once do not get the same point.

    Raises
    ------
    ConfigError
        If there is no such sampler, or a package that it needs is missing.
    """
    check_sampler(kind)
    seed = int(np.random.SeedSequence([spec.seed, index]).generate_state(1)[0])
    with warnings.catch_warnings():
        # Optuna warns that its interface may change, which the tested range of versions answers.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if kind == "gp":
            return optuna.samplers.GPSampler(seed=seed)
        if kind == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        # Constant liar: points that are being tried count as bad, so that ranks do not try the same one.
        return optuna.samplers.TPESampler(multivariate=True, constant_liar=True, seed=seed)


def suggest(trial: optuna.Trial, parameters: Sequence[Parameter]) -> Point:
    """Let the sampler of the trial's study draw a point; return it in the units of the configuration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return {parameter.name: _suggest(trial, parameter) for parameter in parameters}


def _suggest(trial: optuna.Trial, parameter: Parameter) -> ParameterValue:
    name = parameter.name
    if parameter.values and not parameter.probabilities:
        stored = [value if _is_scalar(value) else json.dumps(value) for value in parameter.values]
        return parameter.values[stored.index(trial.suggest_categorical(name, stored))]
    settings = dict(parameter.settings)
    if parameter.distribution == "int_uniform":
        return trial.suggest_int(name, int(settings["min"]), int(settings["max"]))
    if parameter.distribution == "uniform":
        bounds = zip((0.0, 1.0), (settings["min"], settings["max"]), parameter.open_ends, strict=True)
        low, high = (parameter.number_at(u) if is_open else bound for u, bound, is_open in bounds)
        return trial.suggest_float(name, low, high)
    if parameter.distribution in ("log_uniform", "log_uniform_values"):
        return trial.suggest_float(name, parameter.number_at(0.0), parameter.number_at(1.0), log=True)
    # A distribution that Optuna lacks is searched by its probability.
    return parameter.ppf(trial.suggest_float(name, TAIL, 1 - TAIL))


def _is_scalar(value: ParameterValue) -> TypeGuard[_Scalar]:
    return value is None or isinstance(value, bool | int | float | str)
