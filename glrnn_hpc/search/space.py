"""Parameters of a search: what a sweep file says of each, its inverse CDF, and the grid over them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glrnn_hpc.config import nearest, unknown_key
from glrnn_hpc.errors import ConfigError

#: Distributions with bounds; those of `log_uniform` and its kin are exponents of e, those of `..._values` values.
_BOUNDED = (
    "uniform",
    "int_uniform",
    "log_uniform",
    "log_uniform_values",
    "inv_log_uniform",
    "inv_log_uniform_values",
)
_QUANTISED = {
    "q_uniform": "uniform",
    "q_log_uniform": "log_uniform",
    "q_log_uniform_values": "log_uniform_values",
    "q_normal": "normal",
    "q_log_normal": "log_normal",
    "q_beta": "beta",
}
#: Distribution: the keys it needs, and those it may have with their defaults.
_KEYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "constant": (("value",), {}),
    "categorical": (("values",), {"probabilities": None}),
    **{name: (("min", "max"), {}) for name in _BOUNDED},
    "normal": ((), {"mu": 0.0, "sigma": 1.0}),
    "log_normal": ((), {"mu": 0.0, "sigma": 1.0}),
    "beta": ((), {"a": 1, "b": 1}),
}
_KEYS |= {name: (_KEYS[base][0], {**_KEYS[base][1], "q": 1}) for name, base in _QUANTISED.items()}
#: W&B's other name of categorical with probabilities.
_OTHER_NAMES = {"categorical_w_probabilities": "categorical"}
_ALL_KEYS = frozenset({"distribution"}.union(*({*needed, *optional} for needed, optional in _KEYS.values())))

#: Distributions without bounds are looked at between these probabilities, and searched there.
TAIL = 1e-6

#: Points of a continuous distribution that show whether a key takes what lies between the bounds.
_LARGEST_EXPONENT = 700.0
_LARGEST_AXIS = 1_000_000
_INSIDE = (0.3719, 0.6183)


@dataclass(frozen=True)
class Parameter:
    """One key of the training configuration and how it is searched, by W&B's definitions.

    Attributes
    ----------
    name : str
        Key of the training configuration.
    distribution : str
        W&B's name, such as log_uniform_values.
    values : tuple
        The constant, or the choices; empty for a range.
    probabilities : tuple of float
        Of the choices; empty if they are equally likely.
    settings : tuple of (str, float)
        min and max, mu and sigma, a and b, q, as far as the distribution has them.

    References
    ----------
    W&B Sweeps, configuration options: https://docs.wandb.ai/guides/sweeps/sweep-config-keys
    """

    name: str
    distribution: str
    values: tuple[Any, ...] = ()
    probabilities: tuple[float, ...] = ()
    settings: tuple[tuple[str, float], ...] = ()

    @classmethod
    def from_config(cls, name: str, mapping: Any, where: str | None = None) -> Parameter:
        """Read one entry of `parameters` of a sweep file; a bare scalar or list means a constant.

        Parameters
        ----------
        name : str
            Key of the training configuration.
        mapping : mapping or scalar
            What the file says of it. Without `distribution`, `value` means a constant, `values` choices, two integers
            as `min` and `max` integers between them, and two numbers any number between them.
        where : str, optional
            Key path for the messages.

        Raises
        ------
        ConfigError
            If a key is unknown or missing, or a bound or value is not allowed; the message starts with the key path.
        """
        where = where or f"parameters.{name}"
        if not isinstance(mapping, Mapping):
            return cls(name, "constant", (mapping,))
        for key in mapping:
            if key not in _ALL_KEYS:
                raise unknown_key(f"{where}.{key}", _ALL_KEYS)
        distribution = _distribution(where, mapping)
        needed, optional = _KEYS[distribution]
        for key in needed:
            if key not in mapping:
                raise ConfigError(f"{where}.{key}: this key is required for {distribution}.")
        for key in mapping:
            if key not in (*needed, *optional, "distribution"):
                raise ConfigError(f"{where}.{key}: this key does not belong to {distribution}.")
        if distribution == "constant":
            return cls(name, "constant", (mapping["value"],))
        if distribution == "categorical":
            return cls(name, "categorical", *_choices(where, mapping))
        settings = {key: mapping.get(key, optional.get(key)) for key in (*needed, *optional)}
        _check_settings(where, distribution, settings)
        return cls(name, distribution, settings=tuple(settings.items()))

    def as_config(self) -> dict[str, Any]:
        """Return the entry that `from_config` reads back."""
        if self.is_constant:
            return {"value": self.values[0]}
        if self.values:
            return {"values": list(self.values)} | (
                {"probabilities": list(self.probabilities)} if self.probabilities else {}
            )
        return {"distribution": self.distribution, **dict(self.settings)}

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to search."""
        return self.distribution == "constant"

    @property
    def is_continuous(self) -> bool:
        """Whether any number of an interval can come out."""
        return not self.values and self.distribution != "int_uniform" and self.distribution not in _QUANTISED

    @property
    def is_logarithmic(self) -> bool:
        """Whether the logarithm of the value is what is drawn."""
        return "log_" in self.distribution

    def ppf(self, u: float) -> Any:
        """Return the value at cumulative probability `u` (inverse CDF): the smallest x with P(X <= x) >= u.

        Parameters
        ----------
        u : float
            In [0, 1]; at its ends, distributions without bounds give infinity.

        Returns
        -------
        Any
            A choice, an int of int_uniform and of quantised ones with an integer q, else a float.

        Raises
        ------
        ValueError
            If `u` is outside [0, 1].
        """
        if not 0 <= u <= 1:
            raise ValueError(f"a probability in [0, 1] is needed, {u} was given")
        if self.is_constant:
            return self.values[0]
        if self.values:
            return self.values[self._choice(u)]
        settings = dict(self.settings)
        if self.distribution == "int_uniform":
            low, high = int(settings["min"]), int(settings["max"])
            return low + _step(u, high - low + 1)
        if self.distribution not in _QUANTISED:
            return _continuous(self.distribution, settings, u)
        return _quantised(_continuous(_QUANTISED[self.distribution], settings, u), settings["q"])

    def grid(self) -> Sequence[Any]:
        """Return every value in order.

        Raises
        ------
        ConfigError
            If the parameter is continuous, or quantised without bounds, or has probabilities.
        """
        settings = dict(self.settings)
        if self.probabilities:
            raise ConfigError(
                f"parameters.{self.name}.probabilities: a grid runs every value once; leave them out, or use "
                "method: random."
            )
        if self.values:
            return self.values
        if self.distribution in ("int_uniform", "q_uniform"):
            q = settings.get("q", 1)
            low, n_values = settings["min"], (settings["max"] - settings["min"]) / q
            if not n_values < _LARGEST_AXIS:
                raise ConfigError(
                    f"parameters.{self.name}: a grid over {settings['min']} to {settings['max']} by {q:g} has more "
                    f"than {_LARGEST_AXIS} values; narrow the bounds, enlarge q, or use method: random."
                )
            if self.distribution == "int_uniform":
                return range(int(settings["min"]), int(settings["max"]) + 1)
            # W&B's own grid steps from min by q and leaves max out; 0.1 * 3 may not count as below 0.3.
            return [_rounded(low + n * q, low, q) for n in range(math.ceil(n_values - 1e-9))]
        raise ConfigError(
            f"parameters.{self.name}: a grid needs a finite set, {self.distribution} is "
            f"{'continuous' if self.is_continuous else 'not one'}; give values, or use method: random."
        )

    def extremes(self) -> list[Any]:
        """Return the values that show whether all of them are allowed: every choice, or both ends and some between."""
        if self.values:
            return list(self.values)
        ends = [0.0, 1.0] if "min" in dict(self.settings) else [TAIL, 1 - TAIL]
        return [self.ppf(u) for u in (*ends, *_INSIDE)]

    def _choice(self, u: float) -> int:
        if not self.probabilities:
            return _step(u, len(self.values))
        total = 0.0
        for index, probability in enumerate(self.probabilities):
            total += probability
            if total >= u and probability > 0:
                return index
        return max(index for index, probability in enumerate(self.probabilities) if probability > 0)


def grid_size(parameters: Sequence[Parameter]) -> int:
    """Return the number of points of the grid.

    Raises
    ------
    ConfigError
        If one of the parameters is continuous.
    """
    return math.prod(len(parameter.grid()) for parameter in parameters)


def grid_point(parameters: Sequence[Parameter], index: int) -> dict[str, Any]:
    """Return point `index` of the Cartesian product; the last parameter varies fastest.

    Raises
    ------
    ConfigError
        If one of the parameters is continuous.
    """
    point = {}
    for parameter in reversed(parameters):
        axis = parameter.grid()
        index, place = divmod(index, len(axis))
        point[parameter.name] = axis[place]
    return {parameter.name: point[parameter.name] for parameter in parameters}


def grid_points(parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
    """Return the Cartesian product of all parameters; the last one varies fastest.

    Raises
    ------
    ConfigError
        If one of them is continuous.
    """
    return [grid_point(parameters, index) for index in range(grid_size(parameters))]


def _distribution(where: str, mapping: Mapping[str, Any]) -> str:
    if "distribution" in mapping:
        given = str(mapping["distribution"])
        name = _OTHER_NAMES.get(given, given)
        if name not in _KEYS:
            guess = nearest(given, _KEYS)
            hint = f" did you mean {guess}?" if guess else ""
            raise ConfigError(f"{where}.distribution: {given!r} is not one of {', '.join(_KEYS)};{hint}")
        return name
    if "value" in mapping:
        return "constant"
    if "values" in mapping:
        return "categorical"
    if "min" in mapping or "max" in mapping:
        bounds = [mapping.get("min"), mapping.get("max")]
        are_integers = all(isinstance(bound, int) and not isinstance(bound, bool) for bound in bounds)
        return "int_uniform" if are_integers else "uniform"
    raise ConfigError(f"{where}: give value, values, min and max, or a distribution with its keys.")


def _choices(where: str, mapping: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[float, ...]]:
    values, probabilities = mapping["values"], mapping.get("probabilities")
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}.values: a list with at least one value is needed, {values!r} was given.")
    texts = [json.dumps(value, default=str) for value in values]
    if len(set(texts)) < len(texts):
        twice = next(value for value, text in zip(values, texts, strict=True) if texts.count(text) > 1)
        raise ConfigError(f"{where}.values: {twice!r} is listed twice; give probabilities to prefer it.")
    if probabilities is None:
        return tuple(values), ()
    if not isinstance(probabilities, list) or len(probabilities) != len(values):
        raise ConfigError(f"{where}.probabilities: a list of {len(values)} numbers is needed, one for each value.")
    numbers = tuple(finite_number(f"{where}.probabilities", probability) for probability in probabilities)
    if min(numbers) < 0:
        raise ConfigError(f"{where}.probabilities: {min(numbers):g} is negative.")
    if abs(sum(numbers) - 1) > 1e-6:
        raise ConfigError(f"{where}.probabilities: their sum must be 1, it is {sum(numbers):.6g}.")
    return tuple(values), numbers


def _check_settings(where: str, distribution: str, settings: dict[str, Any]) -> None:
    for key, value in settings.items():
        finite_number(f"{where}.{key}", value)
        if key in ("sigma", "a", "b", "q") and value <= 0:
            raise ConfigError(f"{where}.{key}: {distribution} needs a positive {key}, {value!r} was given.")
        if distribution == "int_uniform" and value != int(value):
            raise ConfigError(f"{where}.{key}: int_uniform needs an integer, {value!r} was given.")
    if "min" not in settings:
        return
    low, high = settings["min"], settings["max"]
    if low >= high:
        raise ConfigError(f"{where}: min={low} must be below max={high}.")
    if distribution.endswith("log_uniform_values") and low <= 0:
        raise ConfigError(f"{where}.min: {distribution} needs positive bounds, {low} was given.")
    if distribution.endswith("log_uniform") and max(abs(low), abs(high)) > _LARGEST_EXPONENT:
        raise ConfigError(
            f"{where}: the bounds of {distribution} are exponents of e, e^{max(low, high, key=abs)} is no number that "
            f"can be used; for bounds that are values take {distribution}_values."
        )


def finite_number(where: str, value: Any) -> float:
    """Return `value` if it is a finite number; raise ConfigError if not."""
    # Whole numbers of YAML may be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"{where}: a finite number is needed, {value!r} was given.")
    return value


def _step(u: float, n: int) -> int:
    """Return the number from 0 to n-1 at probability `u`, all of them equally likely."""
    return min(max(math.ceil(u * n) - 1, 0), n - 1)


def _continuous(distribution: str, settings: dict[str, float], u: float) -> float:
    if distribution in ("normal", "log_normal"):
        # scipy.special, as scipy.stats costs half a second to import.
        from scipy.special import ndtri

        value = settings["mu"] + settings["sigma"] * float(ndtri(u))
        if distribution == "normal":
            return value
        return math.exp(value) if value < _LARGEST_EXPONENT else math.inf
    if distribution == "beta":
        from scipy.special import betaincinv

        return float(betaincinv(settings["a"], settings["b"], u))
    low, high = float(settings["min"]), float(settings["max"])
    if distribution == "uniform":
        return min(max(low + u * (high - low), low), high)
    if distribution == "log_uniform":
        return math.exp(low + u * (high - low))
    if distribution == "inv_log_uniform":
        # log(1/x) is uniform between the bounds: the largest exponent gives the smallest value.
        return math.exp(-(high - u * (high - low)))
    # log_uniform_values, and inv_log_uniform_values, which is the same: log(1/x) is uniform where log(x) is.
    value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    return min(max(value, low), high)  # exp(log(x)) may leave the bounds by a rounding error


def _quantised(value: float, q: float) -> float:
    n = value / q
    # Infinite for a value that is, and for a q so small that every float is a multiple of it.
    return value if math.isinf(n) else _multiple(round(n), q)


def _multiple(n: int, q: float) -> float:
    return _rounded(n * q, q)


def _rounded(value: float, *given: float) -> float:
    """Return an integer of integers, else 12 digits: 3 * 0.1 is 0.3, not 0.30000000000000004."""
    return value if all(isinstance(number, int) for number in given) else float(f"{value:.12g}")
