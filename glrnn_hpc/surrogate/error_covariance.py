"""Covariance of a surrogate's error over steps and labels, learnt from sequences that the training did not see.

A surrogate errs along a whole sequence in one direction, and in several labels at once: its errors at all steps and of
all labels are far from as many independent ones. Their covariance is that of the residuals of the validation split, in
the units of the experiment's transform of each label (`experiments.labels`), where an error means the same for small
and large values. Each curve is first averaged over blocks of steps, short ones at the beginning: a few numbers hold
what a smooth curve tells, and a hundred sequences suffice for their covariance. Independent errors are added to it, as
the sample covariance of few sequences holds combinations of labels and steps that seem exact; what is common to many
steps keeps its size.

References
----------
Ledoit and Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices,
doi:10.1016/S0047-259X(03)00096-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.records.error_covariance import ErrorCovarianceRecord, ErrorGroup
from glrnn_hpc.surrogate.intervals import LabelSpace, space_of_records, transformed_truth

Array = NDArray[Any]

#: Blocks of steps, at most.
_MOST_BLOCKS = 12

#: Independent error that is added, in parts of each variance.
_INDEPENDENT = 1.0

#: Weight of the sequences of the same type against that of all sequences.
_OWN_TYPE = 0.5

#: Fewer sequences tell nothing of a covariance.
_FEWEST_SEQUENCES = 10

#: Median of the square of a normal variable, and the variance of the second difference of white noise.
_MEDIAN_SQUARE, _SECOND_DIFFERENCE = 0.4549364, 6.0

#: Digits of the numbers that are written.
_DIGITS = 5


@dataclass(frozen=True)
class BlockErrors:
    """Errors that are expected in an observation: means over blocks of steps.

    Attributes
    ----------
    edges : ndarray, shape (n_blocks + 1,), int
        Steps at which the blocks begin, and the one behind the last block.
    covariance : ndarray, shape (n_blocks * n_labels, n_blocks * n_labels)
        The labels of a block lie side by side.
    noise : ndarray, shape (n_labels,)
        Variance of the noise between neighbouring steps that simulations of the training have.
    """

    edges: Array
    covariance: Array
    noise: Array


@dataclass(frozen=True)
class ErrorCovariance:
    """Covariance of the errors of a surrogate, in transformed units.

    Attributes
    ----------
    space : LabelSpace
        Transformed units of all labels.
    lows : ndarray, shape (n_labels,)
        Transformed values below which a logarithm is not believed.
    edges : ndarray, shape (n_blocks + 1,), int
        Steps at which the blocks begin, and the one behind the last block.
    noise : ndarray, shape (n_labels,)
        Variance of the noise between neighbouring steps of a simulated curve.
    covariances : dict of float or None to ndarray, shape (n_blocks, n_labels, n_blocks, n_labels)
        By the number of the type of the experiment.
    counts : dict of float or None to int
        Validation sequences behind each of them.
    """

    space: LabelSpace
    lows: Array
    edges: Array
    noise: Array
    covariances: dict[float | None, Array]
    counts: dict[float | None, int]

    def at(self, labels: Sequence[str], n_steps: int, type_code: float | None) -> BlockErrors | None:
        """Return the errors of some labels in an observation of `n_steps` steps; None if no block lies within it.

        A type without errors of its own has the mean of all types.
        """
        columns = [self.space.label_names.index(name) for name in labels]
        n_blocks = int((self.edges[1:] <= n_steps).sum())
        if n_blocks == 0:
            return None
        covariance = self.covariances.get(type_code)
        if covariance is None:
            weights = np.array([self.counts[code] for code in self.covariances], "float64")
            covariance = np.tensordot(weights / weights.sum(), np.stack(list(self.covariances.values())), axes=1)
        part = covariance[np.ix_(range(n_blocks), columns, range(n_blocks), columns)]
        size = n_blocks * len(columns)
        return BlockErrors(self.edges[: n_blocks + 1], part.reshape(size, size), self.noise[columns])

    def as_record(self) -> ErrorCovarianceRecord:
        """Return what is written."""
        return ErrorCovarianceRecord(
            edges=[int(edge) for edge in self.edges],
            labels=list(self.space.label_names),
            transforms=self.space.records(),
            lows=_rounded(self.lows),
            noise=_rounded(self.noise),
            groups=[_group(code, self.counts[code], each) for code, each in self.covariances.items()],
        )


def covariance_of_record(record: ErrorCovarianceRecord, param_names: Sequence[str]) -> ErrorCovariance:
    """Return the covariance that was written."""
    n_blocks, n_labels = len(record.edges) - 1, len(record.labels)
    covariances: dict[float | None, Array] = {}
    for group in record.groups:
        n = n_blocks * n_labels
        correlations = np.eye(n)
        rows, columns = np.tril_indices(n, -1)
        correlations[rows, columns] = correlations[columns, rows] = group.correlations
        covariance = correlations * np.outer(group.deviations, group.deviations)
        covariances[group.type_code] = covariance.reshape(n_blocks, n_labels, n_blocks, n_labels)
    return ErrorCovariance(
        space_of_records(record.labels, param_names, record.transforms),
        np.array(record.lows),
        np.array(record.edges),
        np.array(record.noise),
        covariances,
        {group.type_code: group.n_sequences for group in record.groups},
    )


def fit_error_covariance(
    space: LabelSpace,
    first_step: int,
    predicted: Array,
    simulated: Array,
    params: Array,
    type_codes: Array | None = None,
) -> ErrorCovariance | None:
    """Return the covariance of the errors of some sequences that the training did not see.

    None if there are too few of them, or a prediction is not finite.

    Parameters
    ----------
    space : LabelSpace
        Transformed units.
    first_step : int
        Step of the first prediction, counted without padding.
    predicted, simulated : ndarray, shape (n, n_steps, n_labels)
        Predictions and truth in the units of the labels, from that step on.
    params : ndarray, shape (n, n_params)
        Parameters of the sequences, raw.
    type_codes : ndarray, shape (n,), optional
        Numbers of the types of the sequences; one type if they are not given.
    """
    if len(simulated) < _FEWEST_SEQUENCES or not np.isfinite(predicted).all():
        return None
    truth, lows, _ = transformed_truth(space, simulated, params)
    edges = block_edges(truth.shape[1])
    errors = block_means(truth - space.forward(predicted, params, lows), edges)
    codes: list[float | None] = [None] * len(errors) if type_codes is None else [float(code) for code in type_codes]
    pooled = _second_moments(errors)
    covariances: dict[float | None, Array] = {}
    counts: dict[float | None, int] = {}
    for code in dict.fromkeys(codes):
        own = np.array([each == code for each in codes])
        counts[code] = int(own.sum())
        mixed = _OWN_TYPE * _second_moments(errors[own]) + (1 - _OWN_TYPE) * pooled
        covariances[code] = _regularised(mixed).reshape((*errors.shape[1:], *errors.shape[1:]))
    noise = np.median(noise_variances(truth), axis=0)
    return ErrorCovariance(space, lows, edges + first_step, noise, covariances, counts)


def block_edges(n_steps: int) -> Array:
    """Return where the blocks of `n_steps` steps begin, and their end, (n_blocks + 1,), int.

    Their ends grow with the square of their number: a response changes most at the beginning.
    """
    ends = np.ceil(n_steps * (np.arange(_MOST_BLOCKS + 1) / _MOST_BLOCKS) ** 2)
    return np.unique(ends.astype(int))


def block_means(curves: Array, edges: Array) -> Array:
    """Return the means over blocks of steps, (..., n_blocks, n_labels), of curves (..., n_steps, n_labels)."""
    sums = np.concatenate([np.zeros_like(curves[..., :1, :]), np.cumsum(curves, axis=-2)], axis=-2)
    means: Array = np.diff(sums[..., edges, :], axis=-2) / np.diff(edges)[:, None]
    return means


def noise_variances(curves: Array) -> Array:
    """Return the variance of white noise in curves, (..., n_labels), of values (..., n_steps, n_labels).

    It is found from second differences, which a smooth curve hardly has; 0 for fewer than three steps.
    """
    if curves.shape[-2] < 3:
        return np.zeros((*curves.shape[:-2], curves.shape[-1]))
    squares = np.diff(curves, n=2, axis=-2) ** 2
    variances: Array = np.median(squares, axis=-2) / (_MEDIAN_SQUARE * _SECOND_DIFFERENCE)
    return variances


def _second_moments(errors: Array) -> Array:
    """Return the mean of the outer products of errors (n, n_blocks, n_labels), each flattened."""
    flat = errors.reshape(len(errors), -1)
    moments: Array = flat.T @ flat / len(flat)
    return moments


def _regularised(covariance: Array) -> Array:
    regularised: Array = covariance + _INDEPENDENT * np.diag(np.diag(covariance))
    return regularised


def _group(code: float | None, n_sequences: int, covariance: Array) -> ErrorGroup:
    n = covariance.shape[0] * covariance.shape[1]
    flat = covariance.reshape(n, n)
    deviations = np.sqrt(np.diag(flat))
    divisor = np.where(deviations > 0, deviations, 1.0)
    correlations = (flat / np.outer(divisor, divisor))[np.tril_indices(n, -1)]
    return ErrorGroup(
        type_code=code,
        n_sequences=n_sequences,
        deviations=_rounded(deviations),
        correlations=[round(value, _DIGITS) for value in correlations.tolist()],
    )


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in np.asarray(values, "float64")]
