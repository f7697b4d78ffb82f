"""Importance of the searched parameters for the metric, by Optuna's measure."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from glrnn_hpc.records.json_types import ParameterValue
from glrnn_hpc.search.goal import Goal
from glrnn_hpc.search.parameter import Parameter

#: Finished trials below which the measure shows chance more than anything else.
LEAST_TRIALS = 10

#: Trials that count as good at least; a tenth of them if that is more.
_LEAST_GOOD = 5


def importances(
    parameters: Sequence[Parameter],
    points: Sequence[Mapping[str, ParameterValue]],
    values: Sequence[float],
    goal: Goal,
) -> dict[str, float]:
    """Return how much each parameter decides whether a trial is among the good ones, by PED-ANOVA.

    Parameters
    ----------
    parameters : sequence of Parameter
        Those that are searched.
    points : sequence of mapping, length n
        The finished trials, in the units of the configuration.
    values : sequence of float, length n
        Their metric.
    goal : str
        minimize or maximize.

    Returns
    -------
    dict
        By name, the largest first; their sum is 1. A parameter that had one value in all points has none; all are 0 if
        no parameter tells the good trials from the others.

    Raises
    ------
    ValueError
        If there are fewer than `LEAST_TRIALS` points.

    References
    ----------
    Watanabe, Bansal, Hutter: PED-ANOVA, IJCAI 2023, https://doi.org/10.24963/ijcai.2023/488
    """
    if len(points) < LEAST_TRIALS:
        raise ValueError(f"at least {LEAST_TRIALS} finished trials are needed, there are {len(points)}")
    columns = {each.name: [point[each.name] for point in points] for each in parameters}
    varied = [each for each in parameters if any(value != columns[each.name][0] for value in columns[each.name])]
    if not varied:
        return dict.fromkeys(columns, 0.0)
    distributions = {each.name: _distribution(each, columns[each.name]) for each in varied}
    # In memory: the sweep's own study holds the parameters of grid and random as attributes only, and of distributions
    # that Optuna lacks their probabilities.
    study = optuna.create_study(direction=goal)
    for point, value in zip(points, values, strict=True):
        params = {each.name: _stored(each, point[each.name]) for each in varied}
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=value))
    settings: Any = {_quantile_key(): max(0.1, _LEAST_GOOD / len(points))}  # as the installed Optuna calls it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report itself says how much few trials can tell
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(**settings)
        measured = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    # Not normalised by Optuna, which gives equal shares to parameters that decide nothing.
    total = sum(measured.values())
    shares = {name: float(measured.get(name, 0.0) / total) if total > 0 else 0.0 for name in columns}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _quantile_key() -> str:
    """Return what the installed Optuna calls the part of the trials that count as good."""
    names = inspect.signature(optuna.importance.PedAnovaImportanceEvaluator).parameters
    return "target_quantile" if "target_quantile" in names else "baseline_quantile"


def _distribution(parameter: Parameter, values: Sequence[ParameterValue]) -> BaseDistribution:
    if parameter.values:
        return CategoricalDistribution([_stored(parameter, value) for value in parameter.values])
    numbers = [_number(value) for value in values]
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=parameter.is_logarithmic and low > 0)


def _stored(parameter: Parameter, value: ParameterValue) -> str | float:
    return json.dumps(value) if parameter.values else _number(value)


def _number(value: ParameterValue) -> float:
    assert isinstance(value, int | float)  # of a range
    return float(value)
