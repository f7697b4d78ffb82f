"""Collection of the best trial of one or several sweeps: ranking, verification, export."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.collector.baseline_comparison import compare_with_baseline
from glrnn_hpc.collector.collection import Collection, ExportedTrial, RefusedTrial, SweepAccount, VerifiedTrial
from glrnn_hpc.collector.comparison import check_comparable
from glrnn_hpc.collector.export import export_folder, export_trial
from glrnn_hpc.collector.provenance import Checksums, provenance_of
from glrnn_hpc.collector.sweep_data import read_data_from
from glrnn_hpc.collector.verify import Disagreement, Verified, verify
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.errors import ConfigError, GlrnnError, SweepError
from glrnn_hpc.records.baseline import BaselineComparison
from glrnn_hpc.records.provenance import Provenance
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.records.sweep_summary import SweepSummary
from glrnn_hpc.search.goal import sign_of
from glrnn_hpc.search.sweep import experiment_of, group_choices
from glrnn_hpc.study.ranking import best_first
from glrnn_hpc.study.slots import STATES, Slot
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.cost import cost_of, group_errors
from glrnn_hpc.summary.status import summarize, utilisation_of

logger = logging.getLogger(__name__)

#: Trials in a row whose files give other numbers than they logged: then it is the data, not the trials.
_MOST_DISAGREEMENTS = 20

#: Reasons that an error lists.
_REASONS = 5


@dataclass(frozen=True)
class Candidate:
    """Finished trial of a sweep that may be the best one."""

    study: SweepStudy
    slot: Slot

    @property
    def root(self) -> Path:
        """Folder of the sweep."""
        return self.study.folder.root


@dataclass(frozen=True)
class Refusal:
    """Candidate whose files could not be verified, and the reason."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Verification:
    """Outcome of verifying the best candidates.

    Attributes
    ----------
    best : Candidate
        The first one that is verified.
    best_files : Verified
        Model and data of that one.
    accepted : list of VerifiedTrial
        Verified candidates, the best one first.
    refusals : list of Refusal
        Refused candidates, in the order in which they were tried.
    """

    best: Candidate
    best_files: Verified
    accepted: list[VerifiedTrial]
    refusals: list[Refusal]


def collect(
    roots: Path | Sequence[Path],
    top: int = 5,
    *,
    out: Path | None = None,
    raw_data: str | Path | None = None,
    source: DemData | None = None,
    baseline: bool = True,
) -> Collection:
    """Rank the finished trials of sweeps by their metric, verify the best ones, and export the very best.

    Parameters
    ----------
    roots : Path or sequence of Path
        Folders of sweeps; they may still be running. Several must be comparable: the same metric and goal, the same
        data and the same choice, split and units of them.
    top : int
        How many trials are verified: the next one takes the place of one that is refused. At least one.
    out : Path, optional
        Where the export goes; by default `best/` in the folder of the sweep. With several sweeps it must be given.
    raw_data : path, optional
        Where the data of the sweeps are now, if they have moved; they must hold the same sequences.
    source : DemData, optional
        The data of the sweeps, where they are in memory already. Else they are read once.
    baseline : bool
        Whether the best model is compared with Gaussian processes, which are fitted within a minute.

    Raises
    ------
    SweepError
        If a folder is not the folder of a sweep, the sweeps cannot be compared, no trial has finished, none can be
        verified, or the export cannot be written.
    ConfigError
        If `top` is below 1, `out` is needed and not given, or holds something else than an export.
    DataError
        If the data of the sweeps cannot be read, or those at `raw_data` are others.
    """
    if top < 1:
        raise ConfigError(f"--top {top}: at least one trial must be verified.")
    folders = list({folder.resolve(): folder for folder in ([roots] if isinstance(roots, Path) else roots)}.values())
    target = export_folder(folders, out)
    studies = [SweepStudy(layout.SweepFolder(folder)) for folder in folders]
    for study in studies if source is None else ():
        read_data_from(study, raw_data)
    summaries = [summarize(folder) for folder in folders]
    checksums = Checksums()
    check_comparable(studies, checksums)
    ranking = _ranked(studies)
    if not ranking:
        names = " ".join(str(folder) for folder in folders)
        raise SweepError(f"{names}: no trial has finished yet; `glrnn status {folders[0]}` shows how far they are.")
    if source is None:
        source = _read(studies[0])
    verification = _verify(ranking, top, source, is_one_of_many=len(studies) > 1)
    best = verification.best
    refused = [each.candidate.slot.number for each in verification.refusals if each.candidate.study is best.study]
    provenance = provenance_of(best.study, verification.best_files, refused, checksums)
    if baseline:
        provenance = provenance.model_copy(update={"baseline": _compared(best, verification.best_files, provenance)})
    export_trial(verification.best_files.folder, provenance, target)
    return _collection(studies, summaries, verification, provenance, target)


def _ranked(studies: list[SweepStudy]) -> list[Candidate]:
    """Return the finished trials of all sweeps, the best one first; equal ones in the order of the folders."""
    candidates = [Candidate(study, slot) for study in studies for slot in best_first(study.slots(), study.spec.goal)]
    sign = sign_of(studies[0].spec.goal)
    return sorted(candidates, key=lambda candidate: sign * float(candidate.slot.value or 0.0))


def _read(study: SweepStudy) -> DemData | None:
    """Read the groups that trials can select; None if the sweep has a preprocessor with data of its own."""
    if "raw_data" not in study.spec.constants:
        return None
    return read_data(study.spec.data_file, *group_choices(study.spec), experiment=experiment_of(study.spec))


def _verify(ranking: list[Candidate], top: int, source: DemData | None, *, is_one_of_many: bool) -> Verification:
    """Verify candidates in their order until `top` of them hold."""
    best: tuple[Candidate, Verified] | None = None
    accepted: list[VerifiedTrial] = []
    refusals: list[Refusal] = []
    n_disagreeing = 0
    for candidate in ranking:
        if len(accepted) == top or n_disagreeing == _MOST_DISAGREEMENTS:
            break
        try:
            verified = verify(candidate.study, candidate.slot, source)
        except GlrnnError as error:
            logger.warning("trial %d of %s is refused: %s", candidate.slot.number, candidate.root, error)
            refusals.append(Refusal(candidate, str(error)))
            n_disagreeing += isinstance(error, Disagreement)
            continue
        n_disagreeing = 0
        best = best or (candidate, verified)
        accepted.append(_verified_trial(candidate, verified, is_one_of_many=is_one_of_many))
    if best is None:
        raise SweepError(_rejection_message(ranking, refusals))
    return Verification(*best, accepted, refusals)


def _compared(best: Candidate, files: Verified, provenance: Provenance) -> BaselineComparison:
    """Compare the model that is exported with Gaussian processes, by its errors on the test split."""
    errors = {name: each.rmse for name, each in provenance.errors["test"].items()}
    return compare_with_baseline(best.study.folder, files.config, files.stats, errors, lambda: files.data)


def _verified_trial(candidate: Candidate, verified: Verified, *, is_one_of_many: bool) -> VerifiedTrial:
    trial: VerifiedTrial = {
        "number": candidate.slot.number,
        "value": candidate.slot.value,
        "config": verified.result.point,
        "metrics": verified.metrics,
        "recomputed": verified.recomputed,
    }
    return {"sweep": str(candidate.root), **trial} if is_one_of_many else trial


def _refused_trial(refusal: Refusal, *, is_one_of_many: bool) -> RefusedTrial:
    trial: RefusedTrial = {"number": refusal.candidate.slot.number, "reason": refusal.reason}
    return {"sweep": str(refusal.candidate.root), **trial} if is_one_of_many else trial


def _rejection_message(ranking: list[Candidate], refusals: list[Refusal]) -> str:
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


def _collection(
    studies: list[SweepStudy],
    summaries: list[SweepSummary],
    verification: Verification,
    provenance: Provenance,
    target: Path,
) -> Collection:
    """Return the answer: summary and cost of the sweep, or their sums, and what was verified and exported."""
    is_one_of_many = len(studies) > 1
    errors = {name: error.as_json() for name, error in provenance.errors["test"].items()}
    exported: ExportedTrial = {**verification.accepted[0], "errors": errors, "path": str(target)}
    accounts: list[SweepAccount] = [
        {**summary, **cost_of(study, summary)} for study, summary in zip(studies, summaries, strict=True)
    ]
    by_folder = {str(study.folder.root): account for study, account in zip(studies, accounts, strict=True)}
    collection: Collection = _sums(by_folder) if is_one_of_many else _of_one_sweep(accounts[0])
    collection["best"] = exported
    if provenance.baseline is not None:
        collection["baseline"] = provenance.baseline.as_json()
    collection["top"] = verification.accepted
    # Those of each sweep together, in the order of the folders.
    order = {id(study): place for place, study in enumerate(studies)}
    refusals = sorted(verification.refusals, key=lambda refusal: order[id(refusal.candidate.study)])
    collection["refused"] = [_refused_trial(refusal, is_one_of_many=is_one_of_many) for refusal in refusals]
    return collection


def _of_one_sweep(account: SweepAccount) -> Collection:
    return {
        "state": account["state"],
        "reason": account["reason"],
        "metric": account["metric"],
        "trials": account["trials"],
        "retried": account["retried"],
        "eta_seconds": account["eta_seconds"],
        "utilisation": account["utilisation"],
        "seconds": account["seconds"],
        "table": account["table"],
        "failures": account["failures"],
        "prunings": account["prunings"],
        "rank_hours": account["rank_hours"],
        "allocated_rank_hours": account["allocated_rank_hours"],
        "wall_seconds": account["wall_seconds"],
    }


def _sums(accounts: dict[str, SweepAccount]) -> Collection:
    """Return the sums of several sweeps, and in `sweeps` the summary and cost of each one."""
    states = {account["state"] for account in accounts.values()}
    seconds: Counter[str] = Counter()
    for account in accounts.values():
        seconds.update(account["seconds"])
    return {
        "state": next(state for state in ("running", "cancelled", "finished") if state in states),
        "metric": next(iter(accounts.values()))["metric"],
        "trials": {state: sum(account["trials"][state] for account in accounts.values()) for state in STATES},
        "utilisation": utilisation_of(seconds),
        "seconds": dict(seconds),
        "rank_hours": sum(account["rank_hours"] for account in accounts.values()),
        "allocated_rank_hours": sum(account["allocated_rank_hours"] for account in accounts.values()),
        "sweeps": accounts,
    }
