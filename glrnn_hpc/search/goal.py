"""Goal of a search: which of two values of the metric is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

Goal = Literal["minimize", "maximize"]


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
