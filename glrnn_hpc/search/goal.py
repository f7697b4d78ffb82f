"""Goal of a search: which of two values of the metric is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from glrnn_hpc.errors import ConfigError

Goal = Literal["minimize", "maximize"]

#: What W&B's client writes in front of a metric.
_SUMMARY = "summary_metrics."


@dataclass(frozen=True)
class Order:
    """Order of runs by a metric, the best one first.

    Attributes
    ----------
    metric : str
        Name in the summary of a run.
    goal : str
        minimize for ascending values, maximize for descending ones.
    """

    metric: str
    goal: Goal


def sign_of(goal: Goal) -> float:
    """Return 1 for a metric to minimise and -1 for one to maximise: times it, the lower value is the better one."""
    return 1.0 if goal == "minimize" else -1.0


def best_of(values: Iterable[float], goal: Goal) -> float:
    """Return the best value; NaN if there is none."""
    sign = sign_of(goal)
    return min(values, key=lambda value: sign * value, default=math.nan)


def worst_of(values: Iterable[float], goal: Goal) -> float:
    """Return the worst value; NaN if there is none."""
    sign = sign_of(goal)
    return max(values, key=lambda value: sign * value, default=math.nan)


def is_reached(value: float, target: float, goal: Goal) -> bool:
    """Whether a value is as good as the target, or better."""
    return sign_of(goal) * value <= sign_of(goal) * target


def order_of(text: str) -> Order:
    """Return the order that a text of W&B's client means, such as ``+summary_metrics.val_loss`` or ``-val_mae``.

    ``+`` is ascending, ``-`` and no sign are descending, as in the client.

    Raises
    ------
    ConfigError
        If the text names no metric.
    """
    metric = (text[1:] if text.startswith(("+", "-")) else text).removeprefix(_SUMMARY)
    if not metric or metric.split(".")[0] in ("config", "tags", "createdAt", "updatedAt", "name", "sweep"):
        raise ConfigError(
            f"order: {text!r} names no metric; give +NAME for the lowest value first or -NAME for the highest, such as "
            "+val_loss."
        )
    return Order(metric, "minimize" if text.startswith("+") else "maximize")
