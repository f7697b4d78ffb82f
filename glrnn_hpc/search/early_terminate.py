"""Settings of Hyperband: the key `early_terminate` of a sweep file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glrnn_hpc.config import unknown_key
from glrnn_hpc.errors import ConfigError

_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")

#: No training has more epochs than this.
_LAST_BAND = 10**6

#: Multiples of min_iter, as in W&B's engine.
_MOST_BANDS = 100

#: W&B asks for more than 1; next to it there would be no end of bands.
_LEAST_ETA = 1.1


@dataclass(frozen=True)
class EarlyTerminate:
    """Bands of epochs at which trials are compared, and how.

    Attributes
    ----------
    min_iter : int or None
        First band; the others are min_iter * eta^k.
    max_iter, s : int or None
        The bands are max_iter / eta^k for k = 1..s; they come before `min_iter`.
    eta : float
        Ratio of two bands; the best 1 / eta of the trials at a band go on.
    strict : bool
        Whether the value at the band is compared, in place of the best value so far. False if it is left out, as W&B's
        page says; W&B's engine takes true then.
    """

    min_iter: int | None = None
    max_iter: int | None = None
    s: int | None = None
    eta: float = 3
    strict: bool = False

    @classmethod
    def from_config(cls, early_terminate: object) -> EarlyTerminate:
        """Validate `early_terminate` of a sweep file and fill in its defaults.

        Raises
        ------
        ConfigError
            If a key is unknown or missing, or a value not allowed; the message starts with the key path.
        """
        if not isinstance(early_terminate, Mapping):
            raise ConfigError(f"early_terminate: a mapping is needed, {early_terminate!r} was given.")
        for key in early_terminate:
            if key not in _KEYS:
                raise unknown_key(f"early_terminate.{key}", _KEYS)
        if early_terminate.get("type") != "hyperband":
            raise ConfigError(f"early_terminate.type: hyperband is needed, {early_terminate.get('type')!r} was given.")
        settings = cls.unchecked(early_terminate)
        _check_values(early_terminate)
        if settings.max_iter is not None and settings.s is None:
            raise ConfigError("early_terminate.s: max_iter needs the number of bands; add s, such as s: 2.")
        if settings.max_iter is None and settings.min_iter is None:
            raise ConfigError("early_terminate.min_iter: give min_iter, or max_iter and s.")
        if not settings.bands():
            raise ConfigError(
                f"early_terminate.max_iter: {settings.max_iter} / eta {settings.eta} leaves no epoch to compare at; "
                "raise max_iter, or lower eta."
            )
        return settings

    @classmethod
    def unchecked(cls, early_terminate: Mapping[str, object]) -> EarlyTerminate:
        """Return the settings of a mapping that was validated before, or needs no `type`."""
        return cls(**{key: value for key, value in early_terminate.items() if key != "type"})  # type: ignore[arg-type]

    def as_config(self) -> dict[str, str | int | float | bool]:
        """Return the mapping that `from_config` reads back."""
        given = {"min_iter": self.min_iter, "max_iter": self.max_iter, "s": self.s}
        known = {key: value for key, value in given.items() if value is not None}
        return {"type": "hyperband", **known, "eta": self.eta, "strict": self.strict}

    def bands(self) -> list[int]:
        """Return the epochs, counted from 1, at which trials are compared, in ascending order.

        Raises
        ------
        ConfigError
            If neither `min_iter` nor `max_iter` is given.
        """
        # One division or multiplication after the other, rounded down, as W&B's engine does.
        bands, band = set[int](), float(self.max_iter or 0)
        if self.max_iter is not None:
            for _ in range(self.s or 0):
                band /= self.eta
                if band < 1:
                    break
                bands.add(int(band))
            return sorted(bands)
        if self.min_iter is None:
            raise ConfigError("early_terminate.min_iter: give min_iter, or max_iter and s.")
        band = self.min_iter
        for _ in range(_MOST_BANDS):
            # With an eta near 1 several bands fall on one epoch.
            bands.add(int(band))
            band *= self.eta
        return sorted(epoch for epoch in bands if epoch <= _LAST_BAND)


def _check_values(given: Mapping[str, object]) -> None:
    for key in ("min_iter", "max_iter", "s"):
        value = given.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LAST_BAND:
            raise ConfigError(
                f"early_terminate.{key}: an integer from 1 to {_LAST_BAND} is needed, {value!r} was given."
            )
    eta = given.get("eta", 3)
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not _LEAST_ETA <= eta <= _LAST_BAND:
        raise ConfigError(
            f"early_terminate.eta: a number from {_LEAST_ETA} to {_LAST_BAND} is needed, {eta!r} was given."
        )
    if not isinstance(strict := given.get("strict", False), bool):
        raise ConfigError(f"early_terminate.strict: true or false is needed, {strict!r} was given.")
