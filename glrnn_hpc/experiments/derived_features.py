"""Load features that an experiment derives from others; they lie in no file, but are computed where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.errors import ConfigError, DataError

if TYPE_CHECKING:
    from glrnn_hpc.experiments.base import Column

Array = NDArray[Any]

#: Values that are derived at once, which bounds the memory.
_VALUES_AT_ONCE = 2**20


@dataclass(frozen=True)
class DerivedFeatures:
    """Load features that follow from those of a data file, computed together.

    Attributes
    ----------
    name : str
        Of all of them: it chooses them in the keys `inputs`, `inputs_drained` and `inputs_undrained`.
    needs : tuple of str
        Load features of the file that they follow from.
    columns : tuple of Column
        Their names, by which single ones are chosen, units and titles.
    values : callable
        Takes a mapping of each name in `needs` to an ndarray of shape (n, n_steps), float64, and returns one of each
        name in `columns` to an ndarray of that shape. A value at a step may depend on this step and earlier ones alone:
        the first steps of a sequence then have the same values as in the whole.
    """

    name: str
    needs: tuple[str, ...]
    columns: tuple[Column, ...]
    values: Callable[[Mapping[str, Array]], Mapping[str, Array]]

    def names(self) -> tuple[str, ...]:
        """Return the names of the features."""
        return tuple(column.name for column in self.columns)


def owners_of(derived: Sequence[DerivedFeatures]) -> dict[str, DerivedFeatures]:
    """Return what computes each derived feature, by its name, in the order of their declaration.

    Raises
    ------
    ConfigError
        If two features have one name, or one has the name of a group of them.
    """
    names = [name for each in derived for name in (each.name, *each.names())]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(
            f"experiment: its derived_features name {twice[0]} twice; each feature and each group of them needs a name "
            "of its own."
        )
    return {name: each for each in derived for name in each.names()}


def given_features(names: Sequence[str], derived: Sequence[DerivedFeatures]) -> list[str]:
    """Return those of some load features that are not derived: those that data and observations have."""
    owners = owners_of(derived)
    return [name for name in names if name not in owners]


def load_array(names: Sequence[str], columns: Mapping[str, Array], derived: Sequence[DerivedFeatures]) -> Array:
    """Return load features, derived where they are not given.

    Parameters
    ----------
    names : sequence of str
        The features, in their order.
    columns : mapping of str to ndarray, shape (n, n_steps)
        Those that are given, and what the others need. They are taken in single precision, as a model has them: in
        training and in a calibration the derived ones then follow from the same numbers.
    derived : sequence of DerivedFeatures
        Of the experiment. A feature that is among them is derived, even if it is given.

    Returns
    -------
    ndarray, shape (n, n_steps, n_names), float32

    Raises
    ------
    DataError
        If an experiment gives other features than it declares, of another shape, or values that are not finite.
    """
    owners = owners_of(derived)
    shape = np.shape(next(iter(columns.values())))
    array = np.empty((*shape, len(names)), "float32")
    for k, name in enumerate(names):
        if name not in owners:
            array[:, :, k] = columns[name]
    for features in derived:
        wanted = [name for name in names if owners.get(name) is features]
        # In parts: the history of a load takes many arrays of double precision.
        step = max(1, _VALUES_AT_ONCE // max(1, shape[1])) if wanted else shape[0]
        for start in range(0, shape[0] if wanted else 0, step):
            part = slice(start, start + step)
            needed = {name: np.asarray(columns[name][part], "float32").astype("float64") for name in features.needs}
            values = features.values(needed)
            for name in wanted:
                array[part, :, names.index(name)] = _checked(features, name, values, (len(array[part]), shape[1]))
    return array


def _checked(features: DerivedFeatures, name: str, values: Mapping[str, Array], shape: tuple[int, int]) -> Array:
    """Return one derived feature as it is declared."""
    where = f"experiment: its derived_features {features.name}"
    if name not in values:
        raise DataError(f"{where} give no {name}, which they declare; they give {', '.join(values) or 'nothing'}.")
    given = np.asarray(values[name])
    if given.shape != shape:
        raise DataError(f"{where} give {name} of shape {given.shape}; {shape} is needed, one value for each step.")
    if not np.isfinite(given).all():
        raise DataError(f"{where} give values of {name} that are not finite.")
    return given
