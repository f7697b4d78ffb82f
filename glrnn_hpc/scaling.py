"""Scaling of columns to zero mean and unit variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Scaling:
    """What standardises columns: ``(values - mean) / std``, where a constant column (std 0) is divided by 1."""

    mean: Array
    std: Array

    def divisor(self) -> Array:
        """Return std, and 1 where it is 0."""
        return np.where(np.asarray(self.std) > 0, self.std, 1.0)

    def __call__(self, values: Array) -> Array:
        """Return standardised values as float32."""
        scaled: Array = ((values - self.mean) / self.divisor()).astype("float32")
        return scaled
