"""Gaussian-process baseline of a sweep's data (`baseline.json`), and the comparison of a network with it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError

logger = logging.getLogger(__name__)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    def as_json(self) -> dict[str, Any]:
        """Return the entries that were given or read."""
        return self.model_dump(exclude_unset=True)


class BaselineKey(_Part):
    """What a baseline depends on: the data, their split, their columns and the steps that are compared.

    Attributes
    ----------
    emulator : int
        Version of the emulator.
    fingerprint : str
        Hash of the parameters of the sequences and of their order.
    split_seed : int
        Seed of the split.
    train_frac, val_frac : float
        Parts of the split.
    first_step, n_steps : int
        First step that is compared, and number of steps of a sequence, both without padding.
    inputs, params, labels : list of str
        Names of the columns.
    labels_mean, labels_std : list of float
        Moments of the labels in the training: the fingerprint does not tell the responses.
    """

    emulator: int
    fingerprint: str
    split_seed: int
    train_frac: float
    val_frac: float
    first_step: int
    n_steps: int
    inputs: list[str]
    params: list[str]
    labels: list[str]
    labels_mean: list[float]
    labels_std: list[float]


class BaselineFit(_Part):
    """Baseline that was fitted to the training split, and its errors on the test split.

    Attributes
    ----------
    key : BaselineKey
        What it depends on.
    n_train, n_fitted, n_test : int
        Sequences of the training split, those that every process was fitted to, and those of the test split.
    n_components : int
        Principal components of the responses.
    seconds : float
        Time that it took.
    rmse : dict of str to float
        Root mean square error of each label in its unit.
    """

    key: BaselineKey
    n_train: int
    n_fitted: int
    n_test: int
    n_components: int
    seconds: float
    rmse: dict[str, float]


class BaselineComparison(_Part):
    """Comparison of a network with the baseline, on the same sequences, steps and units.

    Attributes
    ----------
    reason : str or None
        Why there is no baseline; all else is missing then.
    mse, network_mse : float
        Means over the labels of the squared errors in units of the labels' deviation in the training.
    rmse, network_rmse : dict of str to float
        Root mean square error of each label in its unit.
    first_step : int
        First step that is compared, without padding.
    n_train, n_fitted, n_test, n_components, seconds
        As in `BaselineFit`.
    """

    reason: str | None = None
    mse: float | None = None
    network_mse: float | None = None
    rmse: dict[str, float] = {}
    network_rmse: dict[str, float] = {}
    first_step: int | None = None
    n_train: int | None = None
    n_fitted: int | None = None
    n_test: int | None = None
    n_components: int | None = None
    seconds: float | None = None

    def in_words(self) -> str:
        """Return in one line whether the network wins, and by how much."""
        if self.mse is None or self.network_mse is None:
            return f"Gaussian-process baseline: none: {self.reason}"
        subset = ""
        if self.n_fitted is not None and self.n_train is not None and self.n_fitted < self.n_train:
            subset = f"; it is fitted to {self.n_fitted} of {self.n_train} sequences"
        verdict = _verdict(self.network_mse, self.mse) + subset
        return f"Gaussian-process baseline: test MSE {self.mse:.4g}, the network {self.network_mse:.4g} ({verdict})"


def _verdict(network: float, baseline: float) -> str:
    if baseline == 0:
        return "the baseline makes no error"
    percent = 100 * (network / baseline - 1)
    if abs(percent) < 0.5:
        return "equal"
    if percent < 0:
        return f"{-percent:.0f} % lower: it wins"
    return f"{percent:.0f} % higher: it loses" if percent < 100 else f"{network / baseline:.3g} times as high: it loses"


def read_baseline(path: Path, key: BaselineKey) -> BaselineFit | None:
    """Return the baseline that is recorded for a key; None if there is none, or it is of another key or broken."""
    try:
        fit = BaselineFit.model_validate(layout.read_record(path))
    except FileNotFoundError:
        return None
    except (OSError, RecordError, ValidationError) as error:
        logger.info("%s: is fitted again, as its record is broken: %s", path, error)
        return None
    return fit if fit.key == key else None


def write_baseline(path: Path, fit: BaselineFit) -> None:
    """Write a baseline; where the folder cannot be written, it is fitted again another time."""
    try:
        layout.write_json(path, fit.as_json())
    except OSError as error:
        logger.info("%s: cannot be written: %s", path, error.strerror)
