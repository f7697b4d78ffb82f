"""Samplers that follow W&B's definitions: a trial's point depends on the sweep and its number alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from glrnn_hpc.search.space import Parameter, grid_points
from glrnn_hpc.search.sweep import SweepSpec


def point_of(spec: SweepSpec, number: int) -> dict[str, Any]:
    """Return the searched parameters of trial `number`, whatever the number and order of the workers."""
    if spec.method == "grid":
        return grid_points(spec.searched)[number]
    # One stream per trial and one draw per parameter, so that a longer sweep begins with the shorter one's trials.
    draws = np.random.default_rng([spec.seed, number]).random(len(spec.searched))
    return {parameter.name: parameter.ppf(float(u)) for parameter, u in zip(spec.searched, draws, strict=True)}


class NumberedSampler(optuna.samplers.BaseSampler):
    """Give each trial the point of its number."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing: every parameter is drawn by its name."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing: every parameter is drawn by its name."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of `param_name` at the point of this trial."""
        value = point_of(self._spec, trial.number)[param_name]
        return value if _fits(value, param_distribution) else json.dumps(value)


def suggest(trial: optuna.Trial, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Record the point of `trial` in the study and return it."""
    return {parameter.name: _suggest(trial, parameter) for parameter in parameters}


def _suggest(trial: optuna.Trial, parameter: Parameter) -> Any:
    if parameter.values:
        stored = parameter.choices_for_storage()
        choice = trial.suggest_categorical(parameter.name, stored)
        return parameter.values[stored.index(choice)]
    if parameter.distribution == "int_uniform":
        return trial.suggest_int(parameter.name, int(parameter.low), int(parameter.high))
    is_log = parameter.distribution == "log_uniform_values"
    return trial.suggest_float(parameter.name, parameter.low, parameter.high, log=is_log)


def _fits(value: Any, distribution: BaseDistribution) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return not isinstance(value, list | dict)
    return isinstance(distribution, FloatDistribution | IntDistribution)
