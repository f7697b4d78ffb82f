"""Selection of the members of an ensemble: forward, greedy, with replacement, by the error of their mean.

References
----------
Caruana, Niculescu-Mizil, Crew and Ksikes (2004), Ensemble selection from libraries of models,
doi:10.1145/1015330.1015432 (sections 2.1 and 2.2).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Greatest mean squared error of a candidate from which the selection starts, as a multiple of the least one: where few
#: trials were good, the others must not be members whatever they add.
_WORST_AT_START = 2.0

#: Candidates that the selection starts from, if so many are picked: the spread of two members says little.
_LEAST_AT_START = 3

#: Numbers of which products are summed at once, which bounds the memory.
_PART = 2**20


@dataclass(frozen=True)
class Selection:
    """Members that a selection picked.

    Attributes
    ----------
    picks : tuple of int
        Candidates in the order in which they were picked, the best one first; one that was picked twice stands there
        twice.
    mse : float
        Mean squared error of the mean of all picks.
    mse_of_candidates : tuple of float
        Mean squared error of each candidate alone.
    """

    picks: tuple[int, ...]
    mse: float
    mse_of_candidates: tuple[float, ...]

    @property
    def weights(self) -> dict[int, int]:
        """How often each member was picked, the most frequent first, among equals the one that was picked first."""
        return dict(Counter(self.picks).most_common())


def select(predictions: Sequence[Array], simulated: Array, divisor: Array, n_picks: int) -> Selection:
    """Pick members one by one, each the one that makes the mean of all picks best; it may be one of them already.

    The first half of the picks, and at least three, are the best candidates, each once, without those that err far more
    than the best one (Caruana's sorted initialisation): a greedy selection from one candidate on fits the noise of few
    validation sequences, and may pick a single candidate again and again.

    Parameters
    ----------
    predictions : sequence of ndarray, shape (n, n_steps, n_labels)
        Of each candidate; of equally good candidates the first is taken.
    simulated : ndarray, shape (n, n_steps, n_labels)
        The truth in the same units.
    divisor : ndarray, shape (n_labels,)
        What standardises a label: all labels count alike.
    n_picks : int
        Picks.
    """
    products = _error_products(predictions, simulated, divisor)
    alone = np.diag(products)
    best_first = np.argsort(alone, kind="stable")[: max(min(n_picks, _LEAST_AT_START), math.ceil(n_picks / 2))]
    picks: list[int] = best_first[alone[best_first] <= _WORST_AT_START * alone[best_first[0]]].tolist()
    with_picks = products[picks].sum(axis=0)
    while len(picks) < n_picks:
        # Least sum of the products of all picks with one more candidate: those of the picks alone are the same for all.
        pick = int(np.argmin(2 * with_picks + alone))
        picks.append(pick)
        with_picks += products[pick]
    mse = float(products[np.ix_(picks, picks)].mean())
    return Selection(tuple(picks), mse, tuple(alone.tolist()))


def _error_products(predictions: Sequence[Array], simulated: Array, divisor: Array) -> Array:
    """Return the mean products of the standardised errors of all pairs of candidates, (n_candidates, n_candidates)."""
    n_sequences = len(simulated)
    step = max(1, _PART // max(1, simulated[0].size))
    products = np.zeros((len(predictions), len(predictions)))
    for start in range(0, n_sequences, step):
        part = slice(start, start + step)
        errors = np.stack([((values[part] - simulated[part]) / divisor).ravel() for values in predictions])
        errors = errors.astype("float64")
        products += errors @ errors.T
    mean: Array = products / simulated.size
    return mean
