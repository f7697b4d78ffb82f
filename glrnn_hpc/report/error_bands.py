"""Bands of the errors of a group's predictions, formed where the experiment's labels are learnt: in its transforms.

Errors of a stress grow with it, and a band of differences would reach below zero where the stress is small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.experiments.labels import LabelTransform

Array = NDArray[Any]

#: Number of sequences below which there is no band.
LEAST_SEQUENCES = 3

#: Quantiles of the errors: both edges and the middle.
QUANTILES = (0.05, 0.5, 0.95)


def error_band(predicted: Array, simulated: Array) -> Array | None:
    """Return 5 %, median and 95 % of simulated - predicted at each step; None for fewer than three sequences.

    Parameters
    ----------
    predicted, simulated : ndarray, shape (n_samples, n_steps, ...)
        Responses of one group in original units.

    Returns
    -------
    ndarray, shape (3, n_steps, ...), or None
    """
    if len(predicted) < LEAST_SEQUENCES:
        return None
    band: Array = np.quantile(simulated.astype("float64") - predicted, QUANTILES, axis=0)
    return band


def band_around(
    centre: Array,
    predicted: Array,
    simulated: Array,
    transform: LabelTransform | None = None,
    reference: float | None = None,
) -> Array | None:
    """Return where 5 %, 50 % and 95 % of the simulations lie around a prediction, by the errors of a group.

    Parameters
    ----------
    centre : ndarray, shape (n_steps,)
        The prediction.
    predicted, simulated : ndarray, shape (n_samples, n_steps)
        One label of one group, in its unit.
    transform : LabelTransform, optional
        Where the errors are taken; differences of the label itself by default, and where a value has no transform.
    reference : float, optional
        Value of the parameter that the transform divides by.

    Returns
    -------
    ndarray, shape (3, n_steps), or None
        In the unit of the label; None for fewer than three sequences.
    """
    if transform is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            at, given, true = (
                transform.forward(values.astype("float64"), reference, np) for values in (centre, predicted, simulated)
            )
        if all(np.isfinite(values).all() for values in (at, given, true)):
            errors = error_band(given, true)
            return None if errors is None else np.asarray(transform.inverse(at + errors, reference, np))
    errors = error_band(predicted, simulated)
    return None if errors is None else centre + errors


def transforms_by_label(
    transforms: Iterable[LabelTransform], references: Mapping[str, float]
) -> dict[str, tuple[LabelTransform, float]]:
    """Return the transforms that can be taken with the parameters of a group, and their references.

    Parameters
    ----------
    transforms : iterable of LabelTransform
        Of the experiment.
    references : mapping of str to float
        Parameters that are the same for all sequences of the group.
    """
    usable = {}
    for each in transforms:
        if each.reference is not None and each.reference in references:
            usable[each.label] = (each, references[each.reference])
        elif each.kind == "log":
            # Of a logarithm the reference cancels in the errors; any value does.
            usable[each.label] = (each, 1.0 - each.offset)
    return usable
