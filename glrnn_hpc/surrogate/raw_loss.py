"""Loss over all labels in raw standardised units, beside the loss of the targets that a network learns.

A batch then holds, in place of the labels, the targets, the raw labels, the load features at the same step and the
parameters, one after the other: all that turns the outputs of the network back into labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from glrnn_hpc.errors import ModelError
from glrnn_hpc.preprocessor.splits import label_scaling
from glrnn_hpc.targets import Targets, targets_of

#: Name of the metric; validation and test put theirs in front.
NAME = "loss_raw"


class RawLoss:
    """Mean squared error over all labels in units of their deviation in the training.

    Parameters
    ----------
    targets : Targets
        What the network learns.
    divisor : ndarray, shape (n_labels,)
        Deviations of the labels.
    """

    def __init__(self, targets: Targets, divisor: Any) -> None:
        self._targets = targets
        self._divisor = np.asarray(divisor, "float64")
        self._sizes = [
            len(names) for names in (targets.transforms, targets.label_names, targets.input_names, targets.param_names)
        ]

    @property
    def n_targets(self) -> int:
        """Number of the columns in front that the loss is taken of."""
        return self._sizes[0]

    def errors(self, batch: Any, outputs: Any) -> Any:
        """Return the squared error of each window, mean over the labels.

        Parameters
        ----------
        batch : tensor, shape (n, n_targets + n_labels + n_inputs + n_params), float32
            What stands in place of the labels.
        outputs : tensor, shape (n, n_targets)
            Of the network.

        Returns
        -------
        tensor, shape (n,), float32
        """
        _, labels, inputs, params = tf.split(tf.cast(batch, tf.float64), self._sizes, axis=-1)
        predicted = self._targets.to_labels(tf.cast(outputs, tf.float64), inputs, params, keras.ops)
        return tf.cast(tf.reduce_mean(((predicted - labels) / self._divisor) ** 2, axis=-1), tf.float32)

    def attach(self, model: keras.Model) -> None:
        """Let a compiled model take its loss and metrics of the targets, and this loss as one more metric.

        Methods of this model are replaced: a loss or a metric of our own would be named in its file, and Keras alone
        could not load it. A later call takes the place of an earlier one.
        """
        mean = keras.metrics.Mean(NAME)
        # Of the class: the model itself may have those of an earlier call.
        of_class = type(model)

        def loss_of_targets(
            x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
        ) -> Any:
            return of_class.compute_loss(model, x, y[:, : self.n_targets], y_pred, sample_weight, training=training)

        def metrics_with_raw(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
            mean.update_state(self.errors(y, y_pred), sample_weight)
            logs: dict[str, Any] = of_class.compute_metrics(model, x, y[:, : self.n_targets], y_pred, sample_weight)
            return {**logs, NAME: mean.result()}

        def reset_all() -> None:
            of_class.reset_metrics(model)
            mean.reset_state()

        model.compute_loss, model.compute_metrics, model.reset_metrics = loss_of_targets, metrics_with_raw, reset_all


def raw_loss_of(stats: Mapping[str, Any], config: Mapping[str, Any]) -> RawLoss | None:
    """Return the raw loss of a training with these statistics; None if its network learns the labels themselves.

    Raises
    ------
    ModelError
        If the statistics are broken.
    """
    targets = targets_of(stats, config)
    if targets is None:
        return None
    scaling = label_scaling(stats)
    if scaling is None:
        raise ModelError("train_stats: targets are there, but not labels_mean and labels_std, mean and deviation.")
    return RawLoss(targets, scaling.divisor())
