"""Ranking of the finished trials of a sweep, and the files of the best one."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.errors import SweepError
from glrnn_hpc.records.json_types import Point
from glrnn_hpc.records.provenance import Provenance, read_provenance
from glrnn_hpc.search.goal import Goal, sign_of
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


def best_trial(root: Path) -> BestTrial:
    """Return the best finished trial of a sweep, without those that `glrnn collect` refused.

    Parameters
    ----------
    root : Path
        Folder of the sweep; it may still be running.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep, or no trial has finished yet.
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
    best = ranking[0]
    # A trial is final in the study only after its files were moved to its folder.
    folder = exported if provenance.trial == best.number else study.folder.trial(best.number)
    return BestTrial(best.number, best.params, folder, study.spec)
