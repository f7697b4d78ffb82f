"""Strain on a logarithmic scale: its first steps, in which the stiffness falls most, then lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.experiments.base import Column
from glrnn_hpc.experiments.derived_features import DerivedFeatures

Array = NDArray[Any]

#: Path below which the scale is still linear: near it the secant stiffness of granular materials begins to fall.
LINEAR_PATH = 1e-4


def small_strain_features(control: str) -> DerivedFeatures:
    """Return the logarithm of the path of a strain as a load feature, chosen by ``small_strain``.

    Parameters
    ----------
    control : str
        The strain, such as ``e_z``.

    Returns
    -------
    DerivedFeatures
        The name of the feature begins with that of the strain. See `log_path`.
    """
    name = f"{control}_log_path"
    column = Column(name, title="logarithm of the path so far")
    return DerivedFeatures("small_strain", (control,), (column,), lambda given: {name: log_path(given[control])})


def log_path(paths: Array) -> Array:
    """Return ``ln(1 + path / LINEAR_PATH)`` at each step, from this step and earlier ones alone.

    Parameters
    ----------
    paths : ndarray, shape (n, n_steps), float64
        A strain, at least one step.

    Returns
    -------
    ndarray, shape (n, n_steps), float64
        Of the sum of the lengths of all increments so far; 0 at the first step.
    """
    increments = np.abs(np.diff(paths, axis=1, prepend=paths[:, :1]))
    logarithms: Array = np.log1p(np.cumsum(increments, axis=1) / LINEAR_PATH)
    return logarithms
