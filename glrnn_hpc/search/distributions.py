"""Distributions of W&B's sweeps: their names, the keys that each one takes, and their inverse CDFs."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from glrnn_hpc.config import did_you_mean
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

#: Quantised distributions, and the continuous ones whose values they round to multiples of q.
QUANTISED = {
    "q_uniform": "uniform",
    "q_log_uniform": "log_uniform",
    "q_log_uniform_values": "log_uniform_values",
    "q_normal": "normal",
    "q_log_normal": "log_normal",
    "q_beta": "beta",
}

#: Exponents of e beyond which there is no float.
_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class DistributionKeys:
    """Keys of a distribution: those it needs, and those it may have with their defaults."""

    required: tuple[str, ...] = ()
    defaults: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.required, *self.defaults)


KEYS = {
    "constant": DistributionKeys(("value",)),
    "categorical": DistributionKeys(("values",), {"probabilities": None}),
    **{name: DistributionKeys(("min", "max")) for name in _BOUNDED},
    "normal": DistributionKeys(defaults={"mu": 0.0, "sigma": 1.0}),
    "log_normal": DistributionKeys(defaults={"mu": 0.0, "sigma": 1.0}),
    "beta": DistributionKeys(defaults={"a": 1, "b": 1}),
}
KEYS |= {
    name: DistributionKeys(KEYS[base].required, {**KEYS[base].defaults, "q": 1}) for name, base in QUANTISED.items()
}

#: W&B's other name of categorical with probabilities.
_ALIASES = {"categorical_w_probabilities": "categorical"}


def distribution_of(where: str, mapping: Mapping[str, object]) -> str:
    """Return the distribution of an entry of `parameters`: the one it names, else the one its keys belong to.

    Raises
    ------
    ConfigError
        If there is none of that name, or the keys belong to none.
    """
    if "distribution" in mapping:
        given = str(mapping["distribution"])
        name = _ALIASES.get(given, given)
        if name not in KEYS:
            hint = did_you_mean(given, KEYS)
            raise ConfigError(f"{where}.distribution: {given!r} is not one of {', '.join(KEYS)};{hint}")
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


def check_settings(where: str, distribution: str, given: Mapping[str, object]) -> dict[str, float]:
    """Return the settings of a distribution of numbers, its defaults filled in.

    Raises
    ------
    ConfigError
        If a setting is no finite number, or one that the distribution does not allow.
    """
    keys = KEYS[distribution]
    settings = {key: finite_number(f"{where}.{key}", given.get(key, keys.defaults.get(key))) for key in keys.names}
    for key, value in settings.items():
        if key in ("sigma", "a", "b", "q") and value <= 0:
            raise ConfigError(f"{where}.{key}: {distribution} needs a positive {key}, {value!r} was given.")
        if distribution == "int_uniform" and value != int(value):
            raise ConfigError(f"{where}.{key}: int_uniform needs an integer, {value!r} was given.")
    if "min" in settings:
        _check_bounds(where, distribution, settings["min"], settings["max"])
    return settings


def _check_bounds(where: str, distribution: str, low: float, high: float) -> None:
    if low >= high:
        raise ConfigError(f"{where}: min={low} must be below max={high}.")
    if distribution.endswith("log_uniform_values") and low <= 0:
        raise ConfigError(f"{where}.min: {distribution} needs positive bounds, {low} was given.")
    if distribution.endswith("log_uniform") and max(abs(low), abs(high)) > _LARGEST_EXPONENT:
        raise ConfigError(
            f"{where}: the bounds of {distribution} are exponents of e, e^{max(low, high, key=abs)} is no number that "
            f"can be used; for bounds that are values take {distribution}_values."
        )


def finite_number(where: str, value: object) -> float:
    """Return `value` if it is a finite number.

    Raises
    ------
    ConfigError
        If it is not; `where` is its key path.
    """
    # Whole numbers of YAML may be larger than any float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ConfigError(f"{where}: a finite number is needed, {value!r} was given.")
    return value


def inverse_cdf(distribution: str, settings: Mapping[str, float], u: float) -> float:
    """Return the value of a distribution of numbers at cumulative probability `u`.

    Parameters
    ----------
    distribution : str
        Any but constant and categorical.
    settings : mapping
        As `check_settings` returns them.
    u : float
        In [0, 1].
    """
    if distribution == "int_uniform":
        low, high = int(settings["min"]), int(settings["max"])
        return low + equal_step(u, high - low + 1)
    if distribution not in QUANTISED:
        return _continuous(distribution, settings, u)
    return _quantised(_continuous(QUANTISED[distribution], settings, u), settings["q"])


def equal_step(u: float, n: int) -> int:
    """Return the number from 0 to n-1 at cumulative probability `u`, all of them equally likely."""
    return min(max(math.ceil(u * n) - 1, 0), n - 1)


def _continuous(distribution: str, settings: Mapping[str, float], u: float) -> float:
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
    return value if math.isinf(n) else rounded(round(n) * q, q)


def rounded(value: float, *given: float) -> float:
    """Return `value` as it is if all given numbers are integers, else with 12 digits: 3 * 0.1 becomes 0.3."""
    return value if all(isinstance(number, int) for number in given) else float(f"{value:.12g}")
