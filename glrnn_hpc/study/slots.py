"""Slots of a sweep: trials as the study knows them, and the attributes that it keeps of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from glrnn_hpc import layout
from glrnn_hpc.records.json_types import Point

STATES = ("finished", "pruned", "failed", "running", "waiting")
_STATE_NAMES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
FINAL_STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}

#: Attributes of a trial in the study: the number of its point, the point itself, the generation that was released, the
#: failed trial that it repeats, and whether its value was imputed.
INDEX, POINT, RELEASED, REPEATS, IMPUTED = "index", "point", "released", "repeats", "imputed"


@dataclass(frozen=True)
class Slot:
    """One trial of the sweep as the study knows it.

    Attributes
    ----------
    number : int
        Its number, the name of its folder.
    state : str
        finished, pruned, failed, running or waiting; a failed trial that another one repeats is retried.
    params : dict
        Its point in the units of the configuration; empty before it is claimed.
    value : float or None
        The metric of a finished trial.
    is_released : bool
        Whether a running trial was released before its end and waits to be adopted.
    """

    number: int
    state: str
    params: Point
    value: float | None
    is_released: bool = False


def slot_of(trial: FrozenTrial, folder: layout.TrialFolder, *, is_repeated: bool) -> Slot:
    """Return the slot of a trial of the study.

    Parameters
    ----------
    trial : FrozenTrial
        From the study.
    folder : TrialFolder
        Its files, which tell the newest generation.
    is_repeated : bool
        Whether another trial repeats this one.
    """
    attributes = trial.user_attrs
    is_imputed = attributes.get(IMPUTED, False)
    state = "failed" if is_imputed else _STATE_NAMES[trial.state]
    is_released = (
        trial.state is TrialState.RUNNING
        and RELEASED in attributes
        and attributes[RELEASED] == folder.newest_generation()
    )
    return Slot(
        number=trial.number,
        state="retried" if is_repeated and state == "failed" else state,
        params=attributes.get(POINT, {}),
        value=trial.value if trial.values and not is_imputed else None,
        is_released=is_released,
    )


def waiting_slot(index: int) -> FrozenTrial:
    """Return a trial that waits to be claimed; its point is that of `index` in the order of the search."""
    return waiting_trial({INDEX: index})


def waiting_trial(attributes: Mapping[str, int | Point]) -> FrozenTrial:
    """Return a trial that waits to be claimed, with these attributes."""
    return optuna.create_trial(state=TrialState.WAITING, user_attrs=dict(attributes))
