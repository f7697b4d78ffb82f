"""Hyperband as W&B stops runs by it: compare every run with all others at bands of epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial

from glrnn_hpc.config import unknown_key
from glrnn_hpc.errors import ConfigError

_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")

#: No training has more epochs than this.
_LAST_BAND = 10**6

#: W&B asks for more than 1; next to it there would be no end of bands.
_LEAST_ETA = 1.1


def check(early_terminate: Any) -> dict[str, Any]:
    """Validate `early_terminate` of a sweep file and fill in its defaults.

    Returns
    -------
    dict
        type, min_iter or max_iter and s, eta (default 3, a fraction too) and strict (default False).

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
    filled = {"eta": 3, "strict": False, **early_terminate}
    for key in ("min_iter", "max_iter", "s"):
        value = filled.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LAST_BAND:
            raise ConfigError(
                f"early_terminate.{key}: an integer from 1 to {_LAST_BAND} is needed, {value!r} was given."
            )
    eta = filled["eta"]
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not _LEAST_ETA <= eta <= _LAST_BAND:
        raise ConfigError(
            f"early_terminate.eta: a number from {_LEAST_ETA} to {_LAST_BAND} is needed, {eta!r} was given."
        )
    if not isinstance(filled["strict"], bool):
        raise ConfigError(f"early_terminate.strict: true or false is needed, {filled['strict']!r} was given.")
    if "max_iter" in filled and "s" not in filled:
        raise ConfigError("early_terminate.s: max_iter needs the number of bands; add s, such as s: 2.")
    if "max_iter" not in filled and "min_iter" not in filled:
        raise ConfigError("early_terminate.min_iter: give min_iter, or max_iter and s.")
    if not bands(filled):
        raise ConfigError(
            f"early_terminate.max_iter: {filled['max_iter']} / eta {filled['eta']} leaves no epoch to compare at; "
            "raise max_iter, or lower eta."
        )
    return filled


def bands(early_terminate: Mapping[str, Any]) -> list[int]:
    """Return the epochs, counted from 1, at which runs are compared, in ascending order.

    Parameters
    ----------
    early_terminate : mapping
        ``max_iter`` and ``s`` give max_iter / eta^k for k = 1..s; ``min_iter`` gives min_iter * eta^k for k >= 0.
    """
    eta = early_terminate.get("eta", 3)
    if "max_iter" in early_terminate:
        epochs = (int(early_terminate["max_iter"] * eta**-k + 1e-9) for k in range(1, early_terminate["s"] + 1))
        return sorted({epoch for epoch in epochs if epoch >= 1})
    first, found, k = early_terminate["min_iter"], [], 0
    while (epoch := int(first * eta**k)) <= _LAST_BAND:
        found.append(epoch)
        k += 1
    # With an eta near 1 several powers fall on one epoch.
    return sorted(set(found))


def should_stop(
    history: Sequence[float],
    histories: Sequence[Sequence[float]],
    early_terminate: Mapping[str, Any],
    goal: Literal["minimize", "maximize"],
) -> bool:
    """Return whether a run is strictly worse than the cutoff at the last band that it reached.

    Parameters
    ----------
    history : sequence of float
        The metric of this run, one value per epoch so far; NaN is worse than any number.
    histories : sequence of sequences of float
        The same of all runs, this one included, whatever became of them.
    early_terminate : mapping
        Of the sweep file.
    goal : str
        minimize or maximize.
    """
    reached = [band for band in bands(early_terminate) if band <= len(history)]
    if not reached:
        return False
    band = reached[-1]
    is_strict = bool(early_terminate.get("strict", False))
    values = [_at(other, band, is_strict, goal) for other in histories if len(other) >= band]
    return _is_worse(_at(history, band, is_strict, goal), values, early_terminate.get("eta", 3))


def cutoffs(
    histories: Sequence[Sequence[float]], early_terminate: Mapping[str, Any], goal: Literal["minimize", "maximize"]
) -> dict[int, float]:
    """Return for each band that a run has reached the value that the next run must not be worse than.

    Parameters
    ----------
    histories, early_terminate, goal
        As for `should_stop`.
    """
    is_strict, eta = bool(early_terminate.get("strict", False)), early_terminate.get("eta", 3)
    sign = 1.0 if goal == "minimize" else -1.0
    found = {}
    for band in bands(early_terminate):
        values = sorted(_at(history, band, is_strict, goal) for history in histories if len(history) >= band)
        if not values:
            break
        found[band] = sign * values[int(len(values) / eta)]
    return found


class HyperbandPruner(optuna.pruners.BasePruner):
    """The same rule on a study, which holds of each trial at each band what `value_to_report` returns."""

    def __init__(self, early_terminate: Mapping[str, Any], goal: Literal["minimize", "maximize"]) -> None:
        self._early_terminate = early_terminate
        self._goal = goal
        self._bands = frozenset(bands(early_terminate))

    def is_band(self, epoch: int) -> bool:
        """Whether runs are compared after `epoch`, counted from 1."""
        return epoch in self._bands

    def value_to_report(self, history: Sequence[float]) -> float:
        """Return what the rule needs of a run that is at a band: its best value so far, or the last one if strict.

        Returns
        -------
        float
            Never NaN, which not every storage can hold; the worst of all numbers in its place.
        """
        worse_if_larger = _at(history, len(history), bool(self._early_terminate.get("strict", False)), self._goal)
        return worse_if_larger if self._goal == "minimize" else -worse_if_larger

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether `trial` is strictly worse than the cutoff at the last epoch that it reported."""
        epoch = trial.last_step
        if epoch is None or not self.is_band(epoch):
            return False
        sign = 1.0 if self._goal == "minimize" else -1.0
        others = study.get_trials(deepcopy=False)
        values = [sign * each.intermediate_values[epoch] for each in others if epoch in each.intermediate_values]
        eta = self._early_terminate.get("eta", 3)
        return _is_worse(sign * trial.intermediate_values[epoch], values, eta)


def _at(history: Sequence[float], band: int, is_strict: bool, goal: str) -> float:
    """Return the value that counts at `band`, turned so that larger is worse."""
    sign = 1.0 if goal == "minimize" else -1.0
    turned = [math.inf if math.isnan(value) else sign * value for value in history[:band]]
    return turned[-1] if is_strict else min(turned)


def _is_worse(value: float, values: list[float], eta: float) -> bool:
    cutoff = sorted(values)[int(len(values) / eta)]
    return value > cutoff
