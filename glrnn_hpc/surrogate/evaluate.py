"""Evaluation of a trained model: its losses as the training logged them, and its errors per label in original units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import SPLIT_SEED, RunConfig
from glrnn_hpc.preprocessor.base import PreparedData, Preprocessor, gives_arrays
from glrnn_hpc.surrogate.feed import Feed, FitData
from glrnn_hpc.surrogate.raw_loss import raw_loss_of

Array = NDArray[Any]


def split_losses(
    model: keras.Model, data: PreparedData | FitData, config: RunConfig, splits: Iterable[str] = ("val", "test")
) -> dict[str, float]:
    """Evaluate a model on the windows of splits, batch by batch as the training does.

    Parameters
    ----------
    model : keras.Model
        Is compiled anew.
    data : PreparedData or FitData
        What `prepare_arrays` of the preprocessor or `Feed.prepare` returns.
    config : RunConfig
        Of the training.
    splits : iterable of str
        val, test.

    Returns
    -------
    dict
        `val_loss` (MSE), `val_mae`, `test_loss` and `test_mae` in the units of the training's labels; of a network that
        learns targets in their units, and `val_loss_raw` and `test_loss_raw` over all labels.
    """
    model.compile(loss="mse", metrics=["mae"], jit_compile=False)
    if (raw_loss := raw_loss_of(data.train_stats, config.as_dict())) is not None:
        raw_loss.attach(model)
    losses: dict[str, float] = {}
    for split in splits:
        batches = getattr(data, split) if isinstance(data, FitData) else Feed(config).ordered(data, split)
        values = model.evaluate(batches, verbose=0, return_dict=True)
        losses |= {f"{split}_{name}": float(value) for name, value in values.items()}
    return losses


def prepared_for(preprocessor: Preprocessor, config: RunConfig, split_seed: int = SPLIT_SEED) -> PreparedData | FitData:
    """Prepare the data of a training again, as arrays where its preprocessor gives these."""
    if preprocessor.draws_from_global_seeds:
        # One of the user's own may draw from the global seeds, which the training set before.
        keras.utils.set_random_seed(config.seed)
    return preprocessor.prepare_arrays(split_seed) if gives_arrays(preprocessor) else Feed(config).prepare(preprocessor)


@dataclass(frozen=True)
class LabelMetrics:
    """Errors of a prediction in one label.

    Attributes
    ----------
    mae, rmse : float
        Mean absolute and root mean square error, in the unit of the label.
    r2 : float
        Coefficient of determination; of a constant label 1 if it is met exactly, else 0.
    mae_standardised, rmse_standardised : float
        Errors of the standardised label.
    """

    mae: float
    rmse: float
    r2: float
    mae_standardised: float
    rmse_standardised: float


@dataclass(frozen=True)
class PredictionMetrics:
    """Errors of a prediction in all labels.

    Attributes
    ----------
    labels : dict of str to LabelMetrics
        Errors by label.
    mse_standardised : float
        Mean over all labels of the squared errors of standardised labels.
    """

    labels: dict[str, LabelMetrics]
    mse_standardised: float

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return ``{label: {'mae', 'rmse', 'r2'}}`` in the units of the labels, as users get it."""
        return {name: {"mae": each.mae, "rmse": each.rmse, "r2": each.r2} for name, each in self.labels.items()}


class ErrorSums:
    """Sums of the errors in each label, over all sequences and steps, part by part.

    Parameters
    ----------
    names : sequence of str
        Of the labels.
    divisor : ndarray, shape (n_labels,)
        What standardises a label's errors.
    """

    def __init__(self, names: Sequence[str], divisor: Array) -> None:
        self._names, self._divisor = names, divisor
        self._count = 0
        self._reference: Array | None = None
        self._absolute, self._squared, self._sums, self._squares = np.zeros((4, len(names)))
        self._is_constant = np.ones(len(names), bool)

    def add(self, predicted: Array, simulated: Array) -> None:
        """Add predicted and simulated labels, shape (..., n_labels), in original units."""
        true = simulated.reshape(-1, len(self._names)).astype("float64")
        errors = predicted.reshape(true.shape) - true
        # Deviations from the first value: the squares of large labels would leave no digits for their variance.
        self._reference = true[0].copy() if self._reference is None else self._reference
        true -= self._reference
        self._count += len(true)
        self._absolute += np.abs(errors).sum(axis=0)
        self._squared += (errors**2).sum(axis=0)
        self._sums += true.sum(axis=0)
        self._squares += (true**2).sum(axis=0)
        self._is_constant &= (true == 0).all(axis=0)

    def metrics(self) -> PredictionMetrics:
        """Return the errors over all that was added."""
        mae, mse = self._absolute / self._count, self._squared / self._count
        rmse = np.sqrt(mse)
        variance = self._squares / self._count - (self._sums / self._count) ** 2
        r2 = np.where(self._is_constant, mse == 0, 1 - mse / np.where(self._is_constant, 1.0, variance))
        columns = np.stack([mae, rmse, r2, mae / self._divisor, rmse / self._divisor], axis=1).tolist()
        return PredictionMetrics(
            labels={name: LabelMetrics(*values) for name, values in zip(self._names, columns, strict=True)},
            mse_standardised=float((mse / self._divisor**2).mean()),
        )
