"""Whole sequences and the scaling of their columns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.scaling import Scaling
from glrnn_hpc.targets import Targets

Array = NDArray[Any]


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
    columns : ndarray, shape (n_used,), optional
        Columns of `inputs` that are used, in their order; all of them by default. `input_scaling` is theirs.
    targets : Targets, optional
        What is taken out in place of the labels, standardised by themselves.
    """

    inputs: Array
    labels: Array
    rows: Array
    params: Array
    pad_length: int = 0
    input_scaling: Scaling | None = None
    param_scaling: Scaling | None = None
    label_scaling: Scaling | None = None
    columns: Array | None = None
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_steps(self) -> int:
        """Steps of a sequence, padding included."""
        return int(self.inputs.shape[1]) + self.pad_length

    def take(self, ids: Array) -> Sequences:
        """Return some of the sequences."""
        return replace(self, rows=self.rows[ids], params=self.params[ids])

    def with_raw_labels(self) -> Sequences:
        """Return the same sequences with labels in their units."""
        return replace(self, label_scaling=None, targets=None)

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return copies of inputs (n, n_steps, n_inputs), params and labels (n, n_steps, n_labels), float32."""
        steps = np.maximum(np.arange(self.n_steps) - self.pad_length, 0)
        at = self.rows[:, None], steps[None, :]
        raw_inputs = self.inputs[at] if self.columns is None else self.inputs[at][..., self.columns]
        raw_labels = self.labels[at]
        if self.targets is not None:
            raw_labels = self.targets.of_labels(raw_labels.astype("float64"), self.params[:, None].astype("float64"))
            raw_labels = raw_labels.astype("float32")
        parts = zip(
            (raw_inputs, self.params, raw_labels),
            (self.input_scaling, self.param_scaling, self.label_scaling),
            strict=True,
        )
        inputs, params, labels = (values if scaling is None else scaling(values) for values, scaling in parts)
        return inputs, params, labels
