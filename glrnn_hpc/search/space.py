"""Parameters of a search: what a sweep file says of each, its inverse CDF, and the grid over them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from glrnn_hpc.config import nearest, unknown_key
from glrnn_hpc.errors import ConfigError

Distribution = Literal["constant", "categorical", "uniform", "int_uniform", "log_uniform_values"]

_KEYS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    # distribution: (keys it needs, keys it may have)
    "constant": (frozenset({"value"}), frozenset()),
    "categorical": (frozenset({"values"}), frozenset()),
    "uniform": (frozenset({"min", "max"}), frozenset()),
    "int_uniform": (frozenset({"min", "max"}), frozenset()),
    "log_uniform_values": (frozenset({"min", "max"}), frozenset()),
}
_COMMON_KEYS = frozenset({"distribution", "value", "values", "min", "max"})


@dataclass(frozen=True)
class Parameter:
    """One key of the training configuration and how it is searched.

    Attributes
    ----------
    name : str
        Key of the training configuration.
    distribution : str
        constant, categorical, uniform, int_uniform or log_uniform_values.
    values : tuple
        The constant, or the choices; empty for a range.
    low, high : float
        Bounds of a range, both included.
    """

    name: str
    distribution: Distribution
    values: tuple[Any, ...] = ()
    low: float = math.nan
    high: float = math.nan

    @classmethod
    def from_config(cls, name: str, mapping: Any) -> Parameter:
        """Read one entry of `parameters` of a sweep file; a bare scalar or list means a constant.

        Raises
        ------
        ConfigError
            If a key is unknown or missing, or a bound or value is not allowed; the message starts with the key path.
        """
        where = f"parameters.{name}"
        if not isinstance(mapping, Mapping):
            return cls(name, "constant", (mapping,))
        for key in mapping:
            if key not in _COMMON_KEYS:
                raise unknown_key(f"{where}.{key}", _COMMON_KEYS)
        distribution = mapping.get("distribution", _infer(where, mapping))
        if distribution not in _KEYS:
            guess = nearest(str(distribution), _KEYS)
            hint = f" did you mean {guess}?" if guess else ""
            raise ConfigError(f"{where}.distribution: {distribution!r} is not one of {', '.join(_KEYS)};{hint}")
        needed, allowed = _KEYS[distribution]
        given = set(mapping) - {"distribution"}
        if missing := needed - given:
            raise ConfigError(f"{where}.{min(missing)}: this key is required for {distribution}.")
        if surplus := given - needed - allowed:
            raise ConfigError(f"{where}.{min(surplus)}: this key does not belong to {distribution}.")
        if distribution == "constant":
            return cls(name, "constant", (mapping["value"],))
        if distribution == "categorical":
            return cls(name, "categorical", _choices(where, mapping["values"]))
        return cls(name, distribution, (), *_bounds(where, distribution, mapping))

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to search."""
        return self.distribution == "constant"

    def ppf(self, u: float) -> Any:
        """Return the value at cumulative probability `u` in [0, 1] (inverse CDF)."""
        if self.distribution == "constant":
            return self.values[0]
        if self.distribution == "categorical":
            return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
        if self.distribution == "int_uniform":
            return int(min(self.low + math.floor(u * (self.high - self.low + 1)), self.high))
        if self.distribution == "log_uniform_values":
            # exp(log(x)) may leave the bounds by a rounding error, which Optuna refuses.
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def grid(self) -> list[Any]:
        """Return every value in order.

        Raises
        ------
        ConfigError
            If the parameter is continuous.
        """
        if self.values:
            return list(self.values)
        if self.distribution == "int_uniform":
            return list(range(int(self.low), int(self.high) + 1))
        raise ConfigError(
            f"parameters.{self.name}: a grid needs a finite set, {self.distribution} is continuous; "
            "give values, or use method: random."
        )

    def extremes(self) -> list[Any]:
        """Return the values that show whether all of them are allowed: every choice, or both bounds."""
        return list(self.values) if self.values else [self.ppf(0.0), self.ppf(1.0)]

    def choices_for_storage(self) -> list[Any]:
        """Return the choices as scalars that any storage can hold; lists and mappings become JSON text."""
        return [value if _is_scalar(value) else json.dumps(value) for value in self.values]


def grid_points(parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
    """Return the Cartesian product of all parameters; the last one varies fastest.

    Raises
    ------
    ConfigError
        If one of them is continuous.
    """
    axes = [parameter.grid() for parameter in parameters]
    names = [parameter.name for parameter in parameters]
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*axes)]


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _infer(where: str, mapping: Mapping[str, Any]) -> str:
    if "value" in mapping:
        return "constant"
    if "values" in mapping:
        return "categorical"
    if "min" in mapping or "max" in mapping:
        bounds = [mapping.get("min"), mapping.get("max")]
        are_integers = all(isinstance(bound, int) and not isinstance(bound, bool) for bound in bounds)
        return "int_uniform" if are_integers else "uniform"
    raise ConfigError(f"{where}: give value, values, or min and max.")


def _choices(where: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}.values: a list with at least one value is needed, {values!r} was given.")
    return tuple(values)


def _bounds(where: str, distribution: str, mapping: Mapping[str, Any]) -> tuple[float, float]:
    bounds = []
    for key in ("min", "max"):
        bound = mapping[key]
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
            raise ConfigError(f"{where}.{key}: a finite number is needed, {bound!r} was given.")
        if distribution == "int_uniform" and bound != int(bound):
            raise ConfigError(f"{where}.{key}: int_uniform needs an integer, {bound!r} was given.")
        bounds.append(bound)
    low, high = bounds
    if low >= high:
        raise ConfigError(f"{where}: min={low} must be below max={high}.")
    if distribution == "log_uniform_values" and low <= 0:
        raise ConfigError(f"{where}.min: log_uniform_values needs positive bounds, {low} was given.")
    return low, high
