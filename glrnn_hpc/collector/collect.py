"""Collection of the best trial of one or several sweeps: ranking, verification, export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.collector.baseline_comparison import note_comparison
from glrnn_hpc.collector.collection import Collection, RefusedTrial, SweepAccount, VerifiedTrial
from glrnn_hpc.collector.comparison import check_comparable
from glrnn_hpc.collector.ensemble_candidates import CandidatePool, select_members
from glrnn_hpc.collector.ensemble_export import export_ensemble
from glrnn_hpc.collector.ensemble_summary import ensemble_summary
from glrnn_hpc.collector.export import export_folder, export_trial
from glrnn_hpc.collector.provenance import Checksums, provenance_of
from glrnn_hpc.collector.sweep_data import read_data_from
from glrnn_hpc.collector.verification import Candidate, Refusal, Verifier, pruned, ranked, rejection_message
from glrnn_hpc.collector.verify import Verified
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.errors import ConfigError, SweepError
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.experiments.derived_features import owners_of
from glrnn_hpc.records.sweep_summary import SweepSummary
from glrnn_hpc.search.sweep import experiment_of, group_choices
from glrnn_hpc.study.slots import STATES
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.cost import cost_of
from glrnn_hpc.summary.status import summarize, utilisation_of


def collect(
    roots: Path | Sequence[Path],
    top: int = 5,
    *,
    ensemble: int | None = None,
    out: Path | None = None,
    raw_data: str | Path | None = None,
    source: DemData | None = None,
    baseline: bool = True,
) -> Collection:
    """Rank the finished trials of sweeps by their metric, verify the best ones, and export the very best.

    With `ensemble`, all finished and pruned trials are verified, and an ensemble of them is exported in its place.

    Parameters
    ----------
    roots : Path or sequence of Path
        Folders of sweeps; they may still be running. Several must be comparable: the same metric and goal, the same
        data and the same choice, split and units of them.
    top : int
        How many trials are verified: the next one takes the place of one that is refused. At least one.
    ensemble : int, optional
        Members of the ensemble at most: trials are picked so often, a good one more than once, each time the one that
        brings the mean nearest to the validation split. 1: the best trial alone, with intervals. Fewer verified trials
        than that are no error; `ensemble` of the answer has both numbers.
    out : Path, optional
        Where the export goes; by default `best/` in the folder of the sweep. With several sweeps it must be given.
    raw_data : path, optional
        Where the data of the sweeps are now, if they have moved; they must hold the same sequences.
    source : DemData, optional
        The data of the sweeps, where they are in memory already. Else they are read once.
    baseline : bool
        Whether what is exported is compared with Gaussian processes, which are fitted within a minute.

    Raises
    ------
    SweepError
        If a folder is not the folder of a sweep, the sweeps cannot be compared, no trial has finished, none can be
        verified, or the export cannot be written.
    ConfigError
        If `top` or `ensemble` is below 1, `out` is needed and not given, or holds something else than an export.
    DataError
        If the data of the sweeps cannot be read, or those at `raw_data` are others.
    """
    if top < 1:
        raise ConfigError(f"--top {top}: at least one trial must be verified.")
    if ensemble is not None and ensemble < 1:
        raise ConfigError(f"--ensemble {ensemble}: at least one member is needed.")
    folders = list({folder.resolve(): folder for folder in ([roots] if isinstance(roots, Path) else roots)}.values())
    target = export_folder(folders, out)
    studies = [SweepStudy(layout.SweepFolder(folder)) for folder in folders]
    for study in studies if source is None else ():
        read_data_from(study, raw_data)
    summaries = [summarize(folder) for folder in folders]
    checksums = Checksums()
    check_comparable(studies, checksums)
    ranking = ranked(studies)
    if not ranking:
        names = " ".join(str(folder) for folder in folders)
        raise SweepError(f"{names}: no trial has finished yet; `glrnn status {folders[0]}` shows how far they are.")
    if source is None:
        source = _read(studies[0])
    verifier = Verifier(source)
    pool = None if ensemble is None else CandidatePool(verifier)
    accepted = _verify(verifier, pool, ranking, studies, top)
    best, best_files = accepted[0]
    refused = [each.candidate.slot.number for each in verifier.refusals if each.candidate.study is best.study]
    provenance = provenance_of(best.study, best_files, refused, checksums)
    collection = _summary_of(studies, summaries)
    exported, alike = provenance, [best_files]
    if pool is None or ensemble is None:
        export_trial(best_files, provenance, target)
    else:
        selection = select_members(pool.candidates, ensemble)
        columns = _all_features(source, experiment_of(studies[0].spec))
        exported = export_ensemble(pool.candidates, selection, ensemble, columns, refused, target, checksums)
        alike += [each.files for each in pool.candidates]
        collection["ensemble"] = ensemble_summary(exported, is_one_of_many=len(studies) > 1)
    if baseline:
        collection["baseline"] = note_comparison(best.study.folder, alike, exported, target).as_json()
    errors = {name: error.as_json() for name, error in provenance.errors["test"].items()}
    trials = [_verified_trial(*each, is_one_of_many=len(studies) > 1) for each in accepted]
    collection["best"] = {**trials[0], "errors": errors, "path": str(target)}
    collection["top"] = trials
    # Those of each sweep together, in the order of the folders.
    order = {id(study): place for place, study in enumerate(studies)}
    refusals = sorted(verifier.refusals, key=lambda refusal: order[id(refusal.candidate.study)])
    collection["refused"] = [_refused_trial(refusal, is_one_of_many=len(studies) > 1) for refusal in refusals]
    return collection


def _verify(
    verifier: Verifier, pool: CandidatePool | None, ranking: list[Candidate], studies: list[SweepStudy], top: int
) -> list[tuple[Candidate, Verified]]:
    """Return the best `top` finished trials that hold; with a pool, verify all others for it, too."""
    accepted: list[tuple[Candidate, Verified]] = []
    for candidate, files in verifier.verified(ranking if pool is None else [*ranking, *pruned(studies)]):
        if len(accepted) < top and candidate.slot.state == "finished":
            accepted.append((candidate, files))
        if pool is not None:
            pool.add(candidate, files)
        elif len(accepted) == top:
            break
    if not accepted or (pool is not None and not pool.candidates):
        raise SweepError(rejection_message(ranking, verifier.refusals))
    return accepted


def _all_features(source: DemData | None, experiment: Experiment) -> list[str]:
    """Return all load features of the data in their order, then derived ones; none where the data lie in no file."""
    if source is None:
        return []
    columns = [name for group in source.schema.groups for name in source.schema.inputs_of(group)]
    return list(dict.fromkeys([*columns, *owners_of(experiment.derived_features())]))


def _read(study: SweepStudy) -> DemData | None:
    """Read the groups that trials can select; None if the sweep has a preprocessor with data of its own."""
    if "raw_data" not in study.spec.constants:
        return None
    return read_data(study.spec.data_file, *group_choices(study.spec), experiment=experiment_of(study.spec))


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


def _summary_of(studies: list[SweepStudy], summaries: list[SweepSummary]) -> Collection:
    """Return the summary and the cost of the sweep, or the sums of several ones."""
    accounts: list[SweepAccount] = [
        {**summary, **cost_of(study, summary)} for study, summary in zip(studies, summaries, strict=True)
    ]
    if len(studies) == 1:
        return _of_one_sweep(accounts[0])
    return _sums({str(study.folder.root): account for study, account in zip(studies, accounts, strict=True)})


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
