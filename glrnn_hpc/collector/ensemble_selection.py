"""Selection of the members of an ensemble: forward, greedy, with replacement, by the error of their mean.

References
----------
Caruana, Niculescu-Mizil, Crew and Ksikes (2004), Ensemble selection from libraries of models,
doi:10.1145/1015330.1015432 (sections 2.1 and 2.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: Greatest error of a candidate from which the selection starts, as a multiple of the least one. On the trials of two
#: searches (all and drained tests) it mattered little between 1.15 and 1.5; without such a start the ensembles erred by
#: 3 to 8 % more on the test split.
WORST_AT_START = 1.25

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

    The first picks are the best candidates, each once, as far as their errors are at most `WORST_AT_START` times that
    of the best one (Caruana's sorted initialisation): a greedy selection from one candidate on fits the noise of few
    validation sequences, and its mean errs more on others than that of the best few. Picks after these that make the
    mean worse may be followed by one that mends it, so all are made, and those up to the best mean are kept.

    Parameters
    ----------
    predictions : sequence of ndarray, shape (n, n_steps, n_labels)
        Of each candidate; of equally good candidates the first is taken.
    simulated : ndarray, shape (n, n_steps, n_labels)
        The truth in the same units.
    divisor : ndarray, shape (n_labels,)
        What standardises a label: all labels count alike.
    n_picks : int
        Picks at most.
    """
    products = _error_products(predictions, simulated, divisor)
    alone = np.diag(products)
    best_first = np.argsort(alone, kind="stable")[:n_picks]
    picks: list[int] = best_first[alone[best_first] <= WORST_AT_START * alone[best_first[0]]].tolist()
    n_start = len(picks)
    errors = [float(products[np.ix_(picks, picks)].mean())]
    with_picks = products[picks].sum(axis=0)
    total = float(with_picks[picks].sum())
    for count in range(n_start + 1, n_picks + 1):
        # Of the sum of the picks' errors with that of one more candidate.
        mse = (total + 2 * with_picks + alone) / count**2
        pick = int(np.argmin(mse))
        picks.append(pick)
        errors.append(float(mse[pick]))
        total += float(2 * with_picks[pick] + alone[pick])
        with_picks += products[pick]
    n_more = int(np.argmin(errors))
    return Selection(tuple(picks[: n_start + n_more]), errors[n_more], tuple(alone.tolist()))


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
