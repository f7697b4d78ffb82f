"""Hyperband as W&B stops runs by it: each run is compared with all others at bands of epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.trial import FrozenTrial

from glrnn_hpc.search.early_terminate import EarlyTerminate
from glrnn_hpc.search.goal import Goal, sign_of


def bands(early_terminate: Mapping[str, object]) -> list[int]:
    """Return the epochs, counted from 1, at which runs are compared, in ascending order.

    Parameters
    ----------
    early_terminate : mapping
        ``max_iter`` and ``s`` give max_iter / eta^k for k = 1..s; ``min_iter`` gives min_iter * eta^k for k >= 0.
    """
    return EarlyTerminate.unchecked(early_terminate).bands()


def should_stop(
    history: Sequence[float],
    histories: Sequence[Sequence[float]],
    early_terminate: Mapping[str, object],
    goal: Goal,
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
    settings = EarlyTerminate.unchecked(early_terminate)
    reached = [band for band in settings.bands() if band <= len(history)]
    if not reached:
        return False
    band = reached[-1]
    values = [_value_at(other, band, settings.strict, goal) for other in histories if len(other) >= band]
    return _is_worse(_value_at(history, band, settings.strict, goal), values, settings.eta)


def cutoffs(histories: Sequence[Sequence[float]], early_terminate: EarlyTerminate, goal: Goal) -> dict[int, float]:
    """Return for each band that a run has reached the value that the next run must not be worse than.

    Parameters
    ----------
    histories, goal
        As for `should_stop`.
    early_terminate : EarlyTerminate
        Of the sweep.
    """
    sign = sign_of(goal)
    cutoff_at = {}
    for band in early_terminate.bands():
        reached = [history for history in histories if len(history) >= band]
        if not reached:
            break
        values = [_value_at(history, band, early_terminate.strict, goal) for history in reached]
        cutoff_at[band] = sign * _cutoff(values, early_terminate.eta)
    return cutoff_at


class HyperbandPruner(optuna.pruners.BasePruner):
    """The same rule on a study, which holds of each trial at each band what `value_to_report` returns."""

    def __init__(self, early_terminate: EarlyTerminate, goal: Goal) -> None:
        self._early_terminate = early_terminate
        self._goal = goal
        self._bands = frozenset(early_terminate.bands())

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
        worse_if_larger = _value_at(history, len(history), self._early_terminate.strict, self._goal)
        return sign_of(self._goal) * worse_if_larger

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether `trial` is strictly worse than the cutoff at the last epoch that it reported."""
        epoch = trial.last_step
        if epoch is None or not self.is_band(epoch):
            return False
        sign = sign_of(self._goal)
        others = study.get_trials(deepcopy=False)
        values = [sign * each.intermediate_values[epoch] for each in others if epoch in each.intermediate_values]
        return _is_worse(sign * trial.intermediate_values[epoch], values, self._early_terminate.eta)


def _value_at(history: Sequence[float], band: int, is_strict: bool, goal: Goal) -> float:
    """Return the value that counts at `band`, turned so that larger is worse."""
    sign = sign_of(goal)
    turned = [math.inf if math.isnan(value) else sign * value for value in history[:band]]
    return turned[-1] if is_strict else min(turned)


def _is_worse(value: float, values: list[float], eta: float) -> bool:
    return value > _cutoff(values, eta)


def _cutoff(values: list[float], eta: float) -> float:
    """Return the value that a run at a band must not be worse than."""
    return sorted(values)[int(len(values) / eta)]
