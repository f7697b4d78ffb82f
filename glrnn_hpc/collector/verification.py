"""Verification of the candidates of a collection: finished trials in their ranking, and stopped ones for ensembles."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc.collector.verify import Disagreement, Verified, verify
from glrnn_hpc.data.shared import DemData
from glrnn_hpc.errors import GlrnnError
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.records.trial_result import read_trial_result
from glrnn_hpc.search.goal import sign_of
from glrnn_hpc.study.ranking import best_first
from glrnn_hpc.study.slots import Slot
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.cost import group_errors
from glrnn_hpc.surrogate.artifact import find_model

logger = logging.getLogger(__name__)

#: Trials in a row whose files give other numbers than they logged: then it is the data, not the trials.
_MOST_DISAGREEMENTS = 20

#: Reasons that an error lists.
_REASONS = 5


@dataclass(frozen=True)
class Candidate:
    """Trial of a sweep that may be the best one, or a member of an ensemble."""

    study: SweepStudy
    slot: Slot

    @property
    def root(self) -> Path:
        """Folder of the sweep."""
        return self.study.folder.root


@dataclass(frozen=True)
class Refusal:
    """Candidate whose files could not be verified, or that does not fit the others, and the reason."""

    candidate: Candidate
    reason: str


class Verifier:
    """Verification of candidates one by one.

    Parameters
    ----------
    source : DemData, optional
        The data of the sweeps in memory; None if their preprocessor has data of its own.

    Attributes
    ----------
    refusals : list of Refusal
        Refused candidates, in the order in which they were tried.
    """

    def __init__(self, source: DemData | None) -> None:
        self._source = source
        self._n_disagreeing = 0
        self.refusals: list[Refusal] = []

    def verified(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Verified]]:
        """Give the candidates that hold, in their order; end where so many in a row disagree that the data changed."""
        for candidate in candidates:
            if self._n_disagreeing == _MOST_DISAGREEMENTS:
                return
            try:
                files = verify(candidate.study, candidate.slot, self._source)
            except GlrnnError as error:
                self.refuse(candidate, str(error))
                self._n_disagreeing += isinstance(error, Disagreement)
                continue
            self._n_disagreeing = 0
            yield candidate, files

    def refuse(self, candidate: Candidate, reason: str) -> None:
        """Note that a candidate is refused."""
        logger.warning("trial %d of %s is refused: %s", candidate.slot.number, candidate.root, reason)
        self.refusals.append(Refusal(candidate, reason))


def ranked(studies: list[SweepStudy]) -> list[Candidate]:
    """Return the finished trials of all sweeps, the best one first; equal ones in the order of the folders."""
    candidates = [Candidate(study, slot) for study in studies for slot in best_first(study.slots(), study.spec.goal)]
    sign = sign_of(studies[0].spec.goal)
    return sorted(candidates, key=lambda candidate: sign * float(candidate.slot.value or 0.0))


def pruned(studies: list[SweepStudy]) -> list[Candidate]:
    """Return the pruned trials of all sweeps that keep the files of a model, the best one first."""
    candidates: list[tuple[float, Candidate]] = []
    sign = sign_of(studies[0].spec.goal)
    for study in studies:
        for slot in study.slots():
            if slot.state != "pruned":
                continue
            folder = study.folder.trial(slot.number)
            try:
                find_model(folder.root)
                value = read_trial_result(folder).value
            except (GlrnnError, OSError) as error:
                logger.info("trial %d of %s was stopped and is no candidate: %s", slot.number, study.folder.root, error)
                continue
            candidates.append((math.inf if value is None else sign * value, Candidate(study, slot)))
    return [candidate for _, candidate in sorted(candidates, key=lambda each: each[0])]


def rejection_message(ranking: list[Candidate], refusals: list[Refusal]) -> str:
    """Return why no candidate is verified: the most frequent reasons, and whether the data were changed."""
    groups = group_errors((refusal.candidate.slot.number, refusal.reason) for refusal in refusals)
    listed = "; ".join(f"trial {group['trials'][0]}: {group['error']}" for group in groups[:_REASONS])
    more = f"; and {len(groups) - _REASONS} other reasons" if len(groups) > _REASONS else ""
    tried = f"{len(ranking)}" if len(refusals) == len(ranking) else f"the best {len(refusals)} of {len(ranking)}"
    reasons = f"{listed}{more}".rstrip(".")
    note = _data_change_note(ranking[0].study)
    return f"{ranking[0].root}: none of {tried} finished trials can be verified: {reasons}.{note}"


def _data_change_note(study: SweepStudy) -> str:
    """Return a sentence if the data file was changed after the sweep began."""
    try:
        changed = Path(study.spec.data_file).stat().st_mtime
    except (KeyError, OSError):
        return ""
    if changed <= read_sweep_state(study.folder).created:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(changed))
    return f" {study.spec.data_file} was changed after the sweep began ({when})."
