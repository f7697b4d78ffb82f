"""Values of the keys of a training in a sweep: their types, open ends of ranges, and ranges that cannot be meant."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from glrnn_hpc.config import RunConfig, refuse_none_as_text
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.records.json_types import ParameterValue
from glrnn_hpc.search.parameter import TAIL, Parameter

logger = logging.getLogger(__name__)

#: Values of keys that no training has, far above all that are sensible.
_IMPLAUSIBLE = MappingProxyType(
    {
        "learning_rate": 10.0,
        "weight_decay": 10.0,
        "epsilon": 10.0,
        "lstm_units": 1e5,
        "dense_units": 1e5,
        "window_size": 1e6,
        "window_step": 1e6,
        "batch_size": 1e8,
        "epochs": 1e7,
        "patience": 1e7,
    }
)


def with_types(parameter: Parameter, where: str, configs: Sequence[type[RunConfig]]) -> Parameter:
    """Return a parameter whose values have the types of its key, and whose range leaves out ends that the key refuses.

    What the key does not take stays as it is: the check of the trials' configurations names it.

    Parameters
    ----------
    parameter : Parameter
        As the sweep file has it: a number may be quoted, a truth be `"false"`.
    where : str
        Its key path.
    configs : sequence of classes
        Configurations with the networks of the sweep; the first one that has the key decides.

    Raises
    ------
    ConfigError
        If a list is given where the key needs one value, or the text None where null is meant.
    """
    key = _key_type(parameter.name, tuple(configs))
    if key is None:
        return parameter
    if not parameter.values:
        return replace(parameter, open_ends=_open_ends(parameter, key))
    for value in parameter.values:
        refuse_none_as_text(value, where if parameter.is_constant else f"{where}.values")
    values = tuple(_typed(key, value) for value in parameter.values)
    for value in values if parameter.is_constant else ():
        if isinstance(value, list) and not _is_taken(key, value) and any(_is_taken(key, each) for each in value):
            raise ConfigError(
                f"{where}: one value is needed, the list {value!r} was given; for choices write "
                f"{parameter.name}: {{values: {json.dumps(value)}}}."
            )
    return replace(parameter, values=values)


def check_plausible(parameter: Parameter, where: str) -> None:
    """Check that the values of a new sweep can be meant.

    Raises
    ------
    ConfigError
        If two choices are the same value of the key, or the bounds of a logarithmic distribution, which are exponents
        of e, lead to values that no training has.
    """
    texts = [json.dumps(value, default=str) for value in parameter.values]
    for value, text in zip(parameter.values, texts, strict=True):
        if texts.count(text) > 1:
            raise ConfigError(f"{where}.values: {value!r} is listed twice; give probabilities to prefer it.")
    if not parameter.distribution.endswith("log_uniform"):
        return
    low, high = sorted(parameter.number_at(u) for u in (0.0, 1.0))
    said = f"min and max of {parameter.distribution} are exponents of e: from {low:.4g} to {high:.4g}"
    if high > (limit := _IMPLAUSIBLE.get(parameter.name, float("inf"))):
        raise ConfigError(
            f"{where}: {said}; at most {limit:g} can be meant. For bounds that are values take "
            f"distribution: {parameter.distribution}_values."
        )
    could_be_values = dict(parameter.settings)["min"] > 0
    hint = f"; for bounds that are values take {parameter.distribution}_values" if could_be_values else ""
    logger.log(logging.WARNING if could_be_values else logging.INFO, "%s: %s%s", where, said, hint)


@functools.lru_cache(maxsize=256)
def _key_type(name: str, configs: tuple[type[RunConfig], ...]) -> TypeAdapter[Any] | None:
    for config in configs:
        if name in config.model_fields:
            return TypeAdapter(config.model_fields[name].rebuild_annotation())
    return None


def _typed(key: TypeAdapter[Any], value: ParameterValue) -> ParameterValue:
    try:
        typed: ParameterValue = key.validate_python(value)
    except ValidationError:
        return value
    return typed


def _is_taken(key: TypeAdapter[Any], value: object) -> bool:
    try:
        key.validate_python(value)
    except ValidationError:
        return False
    return True


def _open_ends(parameter: Parameter, key: TypeAdapter[Any]) -> tuple[bool, bool]:
    """Return which ends of a continuous range the key refuses, though it takes what lies beside them."""
    if not parameter.is_continuous or "min" not in dict(parameter.settings):
        return (False, False)
    closed = replace(parameter, open_ends=(False, False))

    def is_open(end: float, beside: float) -> bool:
        return not _is_taken(key, closed.number_at(end)) and _is_taken(key, closed.number_at(beside))

    return is_open(0.0, TAIL), is_open(1.0, 1 - TAIL)
