"""Ranking of the finished trials of a sweep, and the files of the best one."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.errors import ConfigError, SweepError
from glrnn_hpc.records.json_types import Point
from glrnn_hpc.records.provenance import Provenance, read_provenance
from glrnn_hpc.records.trial_result import read_trial_result
from glrnn_hpc.search.goal import Goal, Order, sign_of
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.study.slots import Slot
from glrnn_hpc.study.study import SweepStudy


@dataclass(frozen=True)
class BestTrial:
    """The best trial of a sweep.

    Attributes
    ----------
    number : int
        Of the trial.
    point : dict
        Its searched parameters.
    folder : RunFolder
        Its files: the export of `glrnn collect` where that is still the best, else the trial's own.
    spec : SweepSpec
        The sweep.
    """

    number: int
    point: Point
    folder: layout.RunFolder
    spec: SweepSpec


def best_first(slots: list[Slot], goal: Goal) -> list[Slot]:
    """Return the finished trials, the best one first; equal ones in the order of their numbers."""
    # No trial with NaN or infinity is finished; a study that another program wrote to may hold one.
    finished = [slot for slot in slots if slot.state == "finished" and math.isfinite(_value(slot))]
    sign = sign_of(goal)
    return sorted(finished, key=lambda slot: (sign * _value(slot), slot.number))


def _value(slot: Slot) -> float:
    return math.nan if slot.value is None else slot.value


def best_trial(root: Path, order: Order | None = None) -> BestTrial:
    """Return the best finished trial of a sweep, without those that `glrnn collect` refused.

    Parameters
    ----------
    root : Path
        Folder of the sweep; it may still be running.
    order : Order, optional
        What ranks the trials; by default the metric and the goal of the sweep.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep, or no trial has finished yet.
    ConfigError
        If `order` names no metric of the trials.
    """
    study = SweepStudy(layout.SweepFolder(root))
    exported = study.folder.best
    provenance = Provenance()
    with contextlib.suppress(OSError, ValueError):  # nothing is exported yet, or just now, or it is damaged
        provenance = read_provenance(exported.provenance)
    # The files of a refused trial do not give the loss that was logged.
    finished = best_first(study.slots(), study.spec.goal)
    ranking = [slot for slot in finished if slot.number not in provenance.refused]
    if not ranking:
        raise SweepError(f"{root}: no trial has finished yet; `glrnn status {root}` shows how far they are.")
    best = ranking[0] if order is None else _first_by(ranking, order, study.folder)
    # A trial is final in the study only after its files were moved to its folder.
    folder = exported if provenance.trial == best.number else study.folder.trial(best.number)
    return BestTrial(best.number, best.params, folder, study.spec)


def _first_by(finished: list[Slot], order: Order, folder: layout.SweepFolder) -> Slot:
    """Return the best trial by a metric of its result; equal ones in the order of the sweep's own ranking."""
    metrics = {slot.number: read_trial_result(folder.trial(slot.number)).metrics or {} for slot in finished}
    known = sorted({name for values in metrics.values() for name in values})
    with_value = [slot for slot in finished if math.isfinite(metrics[slot.number].get(order.metric, math.nan))]
    if not with_value:
        raise ConfigError(
            f"order: no finished trial of {folder.root} has a value of {order.metric}; they have {', '.join(known)}."
        )
    return min(with_value, key=lambda slot: sign_of(order.goal) * metrics[slot.number][order.metric])
