"""Hyperband as W&B stops runs by it: each run is compared with all others at bands of epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from glrnn_hpc.search.early_terminate import EarlyTerminate
from glrnn_hpc.search.goal import Goal, best_of, sign_of

#: Attribute of a trial in the study: its best value until the last band that it reported.
BEST_SO_FAR = "best_so_far"


@dataclass(frozen=True)
class BandReport:
    """What the rule needs of a run that is at a band.

    Attributes
    ----------
    band : int
        Number of finite values of the run so far.
    value : float
        The metric there, from which the cutoff of other runs is taken.
    best : float
        The best value so far, which is compared with the cutoff unless the rule is strict.
    """

    band: int
    value: float
    best: float


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

    Its best value counts, of its whole history; with ``strict`` its value at the band.

    Parameters
    ----------
    history : sequence of float
        The metric of this run, one value per epoch so far; those that are no finite numbers do not count as epochs.
    histories : sequence of sequences of float
        The same of all runs, this one included, whatever became of them.
    early_terminate : mapping
        Of the sweep file.
    goal : str
        minimize or maximize.

    References
    ----------
    W&B's engine of sweeps, `hyperband_stopping.py`: https://pypi.org/project/sweeps/0.3.0/
    """
    settings = EarlyTerminate.unchecked(early_terminate)
    values = _finite(history)
    reached = [band for band in settings.bands() if band <= len(values)]
    if not reached:
        return False
    compared = values[reached[-1] - 1] if settings.strict else best_of(values, goal)
    return _is_worse(compared, _values_at(reached[-1], map(_finite, histories)), settings.eta, goal)


def cutoffs(histories: Sequence[Sequence[float]], early_terminate: EarlyTerminate, goal: Goal) -> dict[int, float]:
    """Return for each band that a run has reached the value that the next run must not be worse than.

    Parameters
    ----------
    histories, goal
        As for `should_stop`.
    early_terminate : EarlyTerminate
        Of the sweep.
    """
    finite = [_finite(history) for history in histories]
    values = {band: _values_at(band, finite) for band in early_terminate.bands()}
    return {band: _cutoff(at_band, early_terminate.eta, goal) for band, at_band in values.items() if at_band}


class HyperbandPruner(optuna.pruners.BasePruner):
    """The same rule on a study.

    It holds of each trial the value at each band as an intermediate value, and the best so far as an attribute.
    """

    def __init__(self, early_terminate: EarlyTerminate, goal: Goal) -> None:
        self._early_terminate = early_terminate
        self._goal = goal
        self._bands = frozenset(early_terminate.bands())

    def report_of(self, history: Sequence[float]) -> BandReport | None:
        """Return what the study is told of a run after its last epoch; None if that is no band.

        Parameters
        ----------
        history : sequence of float
            The metric of the run, one value per epoch so far.
        """
        values = _finite(history)
        if len(values) not in self._bands or not math.isfinite(history[-1]):
            return None
        return BandReport(len(values), values[-1], best_of(values, self._goal))

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Return whether `trial` is strictly worse than the cutoff at the last band that it reported."""
        band = trial.last_step
        if band is None or band not in self._bands:
            return False
        others = study.get_trials(deepcopy=False)
        values = [each.intermediate_values[band] for each in others if band in each.intermediate_values]
        at_band = trial.intermediate_values[band]
        compared = at_band if self._early_terminate.strict else trial.user_attrs.get(BEST_SO_FAR, at_band)
        return _is_worse(compared, values, self._early_terminate.eta, self._goal)


def _finite(history: Sequence[float]) -> list[float]:
    """Return the values that count: W&B numbers the epochs of a run without those that are no finite numbers."""
    return [value for value in history if math.isfinite(value)]


def _values_at(band: int, histories: Iterable[Sequence[float]]) -> list[float]:
    return [history[band - 1] for history in histories if len(history) >= band]


def _is_worse(value: float, values: list[float], eta: float, goal: Goal) -> bool:
    sign = sign_of(goal)
    return sign * value > sign * _cutoff(values, eta, goal)


def _cutoff(values: list[float], eta: float, goal: Goal) -> float:
    """Return the value that a run at a band must not be worse than."""
    # In W&B's order of operations: 1 / 49 * 49 is below 1, 49 / 49 is not.
    return sorted(values, reverse=goal == "maximize")[int(1.0 / eta * len(values))]
