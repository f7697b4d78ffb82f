"""Evaluate a trained model: its losses as the training logged them, and its errors per label in original units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import SPLIT_SEED, RunConfig
from glrnn_hpc.preprocessor.base import PreparedData, Preprocessor, gives_arrays
from glrnn_hpc.surrogate.feed import Feed, FitData

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
        `val_loss` (MSE), `val_mae`, `test_loss` and `test_mae` in the units of the training's labels.
    """
    model.compile(loss="mse", metrics=["mae"], jit_compile=False)
    found: dict[str, float] = {}
    for split in splits:
        batches = getattr(data, split) if isinstance(data, FitData) else Feed(config).ordered(data, split)
        values = model.evaluate(batches, verbose=0, return_dict=True)
        found |= {f"{split}_{name}": float(values[name]) for name in ("loss", "mae")}
    return found


def prepared_for(preprocessor: Preprocessor, config: RunConfig, split_seed: int = SPLIT_SEED) -> PreparedData | FitData:
    """Prepare the data of a training again, as arrays where its preprocessor gives these."""
    if preprocessor.draws_from_global_seeds:
        # One of the user's own may draw from the global seeds, which the training set before.
        keras.utils.set_random_seed(config.seed)
    return preprocessor.prepare_arrays(split_seed) if gives_arrays(preprocessor) else Feed(config).prepare(preprocessor)


class LabelErrors:
    """Errors of each label over all sequences and steps, summed up part by part.

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
        """Count predicted and simulated labels, (..., n_labels), in original units."""
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

    def per_label(self) -> dict[str, dict[str, float]]:
        """Return `mae`, `rmse`, `r2` of each label, and the first two in standardised units too.

        R² of a constant label is 1 if it is met exactly, else 0.
        """
        mae, mse = self._absolute / self._count, self._squared / self._count
        variance = self._squares / self._count - (self._sums / self._count) ** 2
        r2 = np.where(self._is_constant, mse == 0, 1 - mse / np.where(self._is_constant, 1.0, variance))
        columns = {"mae": mae, "rmse": np.sqrt(mse), "r2": r2}
        columns |= {f"{kind}_standardised": columns[kind] / self._divisor for kind in ("mae", "rmse")}
        return {
            name: {kind: float(values[k]) for kind, values in columns.items()} for k, name in enumerate(self._names)
        }

    def mse_standardised(self) -> float:
        """Return the mean over all labels of the squared errors of standardised labels."""
        return float((self._squared / self._count / self._divisor**2).mean())
