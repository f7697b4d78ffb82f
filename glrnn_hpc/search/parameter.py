"""One parameter of a sweep: an entry of the sweep file, and the values that it can take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from glrnn_hpc.config import unknown_key
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.records.json_types import ParameterValue
from glrnn_hpc.search import distributions

#: Distributions without bounds are looked at between these probabilities, and searched there.
TAIL = 1e-6

#: Probabilities of a continuous distribution that show whether a key takes what lies between the bounds.
_INSIDE = (0.3719, 0.6183)

_ALL_KEYS = frozenset({"distribution"}.union(*(keys.names for keys in distributions.KEYS.values())))


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
    open_ends : tuple of bool
        Whether the lower and the upper end of a range are no values of the key, as 0 is no learning rate: what is
        drawn lies inside. It follows from the key and is not part of the sweep file.

    References
    ----------
    W&B Sweeps, configuration options: https://docs.wandb.ai/guides/sweeps/sweep-config-keys
    """

    name: str
    distribution: str
    values: tuple[ParameterValue, ...] = ()
    probabilities: tuple[float, ...] = ()
    settings: tuple[tuple[str, float], ...] = ()
    open_ends: tuple[bool, bool] = (False, False)

    @classmethod
    def from_config(cls, name: str, mapping: object, where: str | None = None) -> Parameter:
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
            return cls(name, "constant", (mapping,))  # type: ignore[arg-type]  # checked with the configuration
        for key in mapping:
            if key not in _ALL_KEYS:
                raise unknown_key(f"{where}.{key}", _ALL_KEYS)
        distribution = distributions.distribution_of(where, mapping)
        keys = distributions.KEYS[distribution]
        for key in keys.required:
            if key not in mapping:
                raise ConfigError(f"{where}.{key}: this key is required for {distribution}.")
        for key in mapping:
            if key not in (*keys.names, "distribution"):
                raise ConfigError(f"{where}.{key}: this key does not belong to {distribution}.")
        if distribution == "constant":
            return cls(name, "constant", (mapping["value"],))
        if distribution == "categorical":
            values = _choices(where, mapping["values"])
            return cls(name, "categorical", values, _probabilities(where, mapping.get("probabilities"), len(values)))
        settings = distributions.check_settings(where, distribution, mapping)
        return cls(name, distribution, settings=tuple(settings.items()))

    def as_config(self) -> dict[str, ParameterValue]:
        """Return the entry that `from_config` reads back."""
        if self.is_constant:
            return {"value": self.values[0]}
        if self.values:
            probabilities: dict[str, ParameterValue] = {"probabilities": list(self.probabilities)}
            return {"values": list(self.values)} | (probabilities if self.probabilities else {})
        return {"distribution": self.distribution, **dict(self.settings)}

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to search."""
        return self.distribution == "constant"

    @property
    def is_continuous(self) -> bool:
        """Whether any number of an interval can come out."""
        is_discrete = self.distribution == "int_uniform" or self.distribution in distributions.QUANTISED
        return not self.values and not is_discrete

    @property
    def is_logarithmic(self) -> bool:
        """Whether the logarithm of the value is what is drawn."""
        return "log_" in self.distribution

    def ppf(self, u: float) -> ParameterValue:
        """Return the value at cumulative probability `u` (inverse CDF): the smallest x with P(X <= x) >= u.

        Parameters
        ----------
        u : float
            In [0, 1]; at its ends, distributions without bounds give infinity.

        Returns
        -------
        ParameterValue
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
        return self.number_at(u)

    def number_at(self, u: float) -> float:
        """Return the value of a range at cumulative probability `u`, like `ppf`; at an open end the one beside it."""
        u = max(u, TAIL) if self.open_ends[0] else u
        u = min(u, 1 - TAIL) if self.open_ends[1] else u
        return distributions.inverse_cdf(self.distribution, dict(self.settings), u)

    def extremes(self) -> list[ParameterValue]:
        """Return the values that show whether all of them are allowed: every choice, or both ends and some between."""
        if self.values:
            return list(self.values)
        ends = [0.0, 1.0] if "min" in dict(self.settings) else [TAIL, 1 - TAIL]
        return [self.ppf(u) for u in (*ends, *_INSIDE)]

    def _choice(self, u: float) -> int:
        if not self.probabilities:
            return distributions.equal_step(u, len(self.values))
        total = 0.0
        for index, probability in enumerate(self.probabilities):
            total += probability
            if total >= u and probability > 0:
                return index
        return max(index for index, probability in enumerate(self.probabilities) if probability > 0)


def _choices(where: str, values: object) -> tuple[ParameterValue, ...]:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}.values: a list with at least one value is needed, {values!r} was given.")
    texts = [json.dumps(value, default=str) for value in values]
    if len(set(texts)) < len(texts):
        twice = next(value for value, text in zip(values, texts, strict=True) if texts.count(text) > 1)
        raise ConfigError(f"{where}.values: {twice!r} is listed twice; give probabilities to prefer it.")
    return tuple(values)


def _probabilities(where: str, probabilities: object, n_values: int) -> tuple[float, ...]:
    if probabilities is None:
        return ()
    if not isinstance(probabilities, list) or len(probabilities) != n_values:
        raise ConfigError(f"{where}.probabilities: a list of {n_values} numbers is needed, one for each value.")
    numbers = tuple(distributions.finite_number(f"{where}.probabilities", probability) for probability in probabilities)
    if min(numbers) < 0:
        raise ConfigError(f"{where}.probabilities: {min(numbers):g} is negative.")
    if abs(sum(numbers) - 1) > 1e-6:
        raise ConfigError(f"{where}.probabilities: their sum must be 1, it is {sum(numbers):.6g}.")
    return numbers
