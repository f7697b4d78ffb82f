"""Whole sequences and the scaling of their columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Sequences:
    """Whole sequences where they lie: padding and scaling are done to what is taken out, never to all of them.

    Attributes
    ----------
    inputs : ndarray, shape (n_rows, n_steps, n_inputs), float32
        Raw load sequences; read-only arrays are used in place by TensorFlow, others are copied.
    labels : ndarray, shape (n_rows, n_steps, n_labels), float32
        Raw responses.
    rows : ndarray, shape (n,)
        Which rows of `inputs` and `labels` these sequences are.
    params : ndarray, shape (n, n_params), float32
        Raw parameters of each of them.
    pad_length : int
        How often the first step is repeated in front.
    input_scaling, param_scaling, label_scaling : Scaling, optional
        What standardises them.
    """

    inputs: Array
    labels: Array
    rows: Array
    params: Array
    pad_length: int = 0
    input_scaling: Scaling | None = None
    param_scaling: Scaling | None = None
    label_scaling: Scaling | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_steps(self) -> int:
        """Steps of a sequence, padding included."""
        return int(self.inputs.shape[1]) + self.pad_length

    def take(self, ids: Array) -> Sequences:
        """Return some of the sequences."""
        return replace(self, rows=self.rows[ids], params=self.params[ids])

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return copies of inputs (n, n_steps, n_inputs), params and labels (n, n_steps, n_labels), float32."""
        steps = np.maximum(np.arange(self.n_steps) - self.pad_length, 0)
        at = self.rows[:, None], steps[None, :]
        parts = zip(
            (self.inputs[at], self.params, self.labels[at]),
            (self.input_scaling, self.param_scaling, self.label_scaling),
            strict=True,
        )
        inputs, params, labels = (values if scaling is None else scaling(values) for values, scaling in parts)
        return inputs, params, labels
