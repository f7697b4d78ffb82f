"""Rank the trials of one or several sweeps, prove the best ones by their files, export the best one."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glrnn_hpc import layout, processes
from glrnn_hpc.collector.provenance import Checksums, provenance_of
from glrnn_hpc.collector.verify import Disagreement, Verified, verify
from glrnn_hpc.config import RUN_KEYS, RunConfig
from glrnn_hpc.data.hdf5 import read_schema, select_groups
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.errors import ConfigError, GlrnnError, SweepError
from glrnn_hpc.records.json_types import JsonObject
from glrnn_hpc.records.provenance import Provenance, write_provenance
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.records.sweep_summary import SweepSummary
from glrnn_hpc.search.goal import sign_of
from glrnn_hpc.search.sweep import PREPROCESSOR, experiment_of, group_choices
from glrnn_hpc.study.ranking import best_first
from glrnn_hpc.study.study import STATES, Slot, SweepStudy
from glrnn_hpc.summary.cost import cost_of, group_errors
from glrnn_hpc.summary.status import summarize, utilisation_of
from glrnn_hpc.surrogate.artifact import find_model

logger = logging.getLogger(__name__)

#: Keys that decide on which sequences, and in which units, a loss is taken.
_CHOOSING = ("pressure", "experiment_type")
_DECIDING = (*_CHOOSING, "train_frac", "val_frac", "standardize_outputs")

#: Trials in a row whose files give other numbers than they logged: then it is the data, not the trials.
_MOST_DISAGREEMENTS = 20

#: Reasons that an error lists.
_REASONS = 5


@dataclass
class _Sweep:
    """One of the sweeps, and what was found in it."""

    study: SweepStudy
    summary: SweepSummary
    refused: list[dict[str, Any]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.study.folder.root


@dataclass(frozen=True)
class _Candidate:
    sweep: _Sweep
    slot: Slot

    def row(self, is_one_of_many: bool, **more: Any) -> dict[str, Any]:
        """Return what the answer tells of it."""
        where = {"sweep": str(self.sweep.root)} if is_one_of_many else {}
        return {**where, "number": self.slot.number, **more}


def collect(
    roots: Path | Sequence[Path], top: int = 5, *, out: Path | None = None, source: DemData | None = None
) -> dict[str, Any]:
    """Rank the finished trials of sweeps by their metric, verify the best ones, and export the very best.

    Parameters
    ----------
    roots : Path or sequence of Path
        Folders of sweeps; they may still be running. Several must be comparable: the same metric and goal, the same
        data and the same choice, split and units of them.
    top : int
        How many trials are verified: the next one takes the place of one that is refused. At least one.
    out : Path, optional
        Where the export goes; by default `best/` in the folder of the sweep. With several it must be given.
    source : DemData, optional
        The data of the sweeps, where they are in memory already. Else they are read once.

    Returns
    -------
    dict
        What `status.summarize` and `cost.cost_of` return of the sweep; `best` with the number, value, parameters,
        metrics as logged and recomputed, errors per label on the test split, and the path of the export; `top`, the
        verified trials, and `refused`, those whose files do not give what they logged, with the reasons. Of several
        sweeps, the sums, and in `sweeps` each one's.

    Raises
    ------
    SweepError
        If a folder is not that of a sweep, the sweeps cannot be compared, no trial has finished, none can be verified,
        or the export cannot be written.
    ConfigError
        If `top` is below 1, `out` is needed and not given, or holds something else than an export.
    DataError
        If the data of the sweeps cannot be read.
    """
    if top < 1:
        raise ConfigError(f"--top {top}: at least one trial must be verified.")
    folders = list({folder.resolve(): folder for folder in ([roots] if isinstance(roots, Path) else roots)}.values())
    target = _target(folders, out)
    sweeps = [_Sweep(SweepStudy(layout.SweepFolder(folder)), summarize(folder)) for folder in folders]
    checksums = Checksums()
    _check_comparable(sweeps, checksums)
    ranking = _ranked(sweeps)
    if not ranking:
        names = " ".join(str(folder) for folder in folders)
        raise SweepError(f"{names}: no trial has finished yet; `glrnn status {folders[0]}` shows how far they are.")
    if source is None:
        source = _read(sweeps[0].study)
    best, rows = _verify(ranking, top, source, is_many=len(sweeps) > 1)
    sweep = best.candidate.sweep
    provenance = provenance_of(sweep.study, best.verified, [row["number"] for row in sweep.refused], checksums)
    _export(best.verified, provenance, target)
    found = _summary_with_cost(sweeps[0]) if len(sweeps) == 1 else _sums(sweeps)
    errors = {name: error.as_json() for name, error in provenance.errors["test"].items()}
    found["best"] = {**rows[0], "errors": errors, "path": str(target)}
    found["top"] = rows
    found["refused"] = [row for sweep in sweeps for row in sweep.refused]
    return found


@dataclass(frozen=True)
class _Best:
    """The first of the ranking that is verified."""

    candidate: _Candidate
    verified: Verified


def _target(folders: list[Path], out: Path | None) -> Path:
    """Return the folder of the export, if it may be made or replaced."""
    if not folders:
        raise ConfigError("DIR: give the folder of a sweep.")
    if out is None and len(folders) > 1:
        raise ConfigError(
            f"--out: {len(folders)} sweeps have one best model; say in which folder it shall be exported."
        )
    target = layout.SweepFolder(folders[0]).best if out is None else layout.RunFolder(out)
    if out is None:
        return target.root
    if out.exists() and not (target.provenance.exists() or layout.is_empty(out)):
        raise ConfigError(
            f"--out {out}: is there and no earlier export, which would be replaced; choose another folder."
        )
    if out.resolve() == Path.cwd():
        raise ConfigError(f"--out {out}: is the current folder, which cannot be replaced; choose another one.")
    return target.root.resolve()


def _check_comparable(sweeps: list[_Sweep], checksums: Checksums) -> None:
    """Refuse sweeps whose values cannot be ranked together."""
    first = sweeps[0]
    for other in sweeps[1:]:
        for what, mine, others in _differences(first.study, other.study):
            raise SweepError(
                f"{other.root}: cannot be ranked together with {first.root}: {what} is {others} there and {mine} here; "
                "collect them one by one."
            )
        files = [sweep.study.spec.constants.get("raw_data") for sweep in (first, other)]
        if files[0] != files[1]:
            sums = [checksums.of(Path(str(file))) for file in files]
            if sums[0] != sums[1]:
                raise SweepError(
                    f"{other.root}: cannot be ranked together with {first.root}: their data differ, "
                    f"{files[1]} (SHA-256 {sums[1][:12]}…) and {files[0]} ({sums[0][:12]}…); collect them one by one."
                )


def _differences(one: SweepStudy, other: SweepStudy) -> list[tuple[str, Any, Any]]:
    """Return what differs of that which decides what a value means: its name, and both values."""
    decided = []
    for study in (one, other):
        defaults = {key: RunConfig.model_fields[key].default for key in _DECIDING}
        given = {
            parameter.name: parameter.values[0] if parameter.is_constant else parameter.as_config()
            for parameter in study.spec.parameters
            # A preprocessor of the user's own decides by keys of its own, too.
            if parameter.name in _DECIDING or parameter.name == PREPROCESSOR or parameter.name not in RUN_KEYS
        }
        given["raw_data"] = "a file" if "raw_data" in study.spec.constants else None
        decided.append({"metric": study.spec.metric, "goal": study.spec.goal, **defaults, **given})
    names = dict.fromkeys([*decided[0], *decided[1]])
    pairs = [(name, decided[0].get(name), decided[1].get(name)) for name in names]
    found = [(name, mine, others) for name, mine, others in pairs if mine != others]
    if any(name in _CHOOSING for name, *_ in found):
        groups = [_groups(study, each) for study, each in zip((one, other), decided, strict=True)]
        if groups[0] is not None and groups[0] == groups[1]:  # `All`, and a list of all of them
            found = [each for each in found if each[0] not in _CHOOSING]
    return found


def _groups(study: SweepStudy, decided: dict[str, Any]) -> list[str] | None:
    """Return the groups that all trials take, by their names; None if trials may differ in it, or have other data."""
    choice = {key: decided[key] for key in _CHOOSING}
    is_swept = any(isinstance(value, dict) for value in choice.values())
    if is_swept or "raw_data" not in study.spec.constants:
        return None
    groups = select_groups(read_schema(Path(study.spec.data_file), experiment_of(study.spec)), **choice)
    return [group.name for group in groups]


def _ranked(sweeps: list[_Sweep]) -> list[_Candidate]:
    """Return the finished trials of all sweeps, the best one first; equal ones in the order of the folders."""
    candidates = [
        _Candidate(sweep, slot) for sweep in sweeps for slot in best_first(sweep.study.slots(), sweep.study.spec.goal)
    ]
    sign = sign_of(sweeps[0].study.spec.goal)
    return sorted(candidates, key=lambda candidate: sign * float(candidate.slot.value or 0.0))


def _read(study: SweepStudy) -> DemData | None:
    """Read the groups that trials can select; None if the sweep has a preprocessor with data of its own."""
    if "raw_data" not in study.spec.constants:
        return None
    return read_data(study.spec.data_file, *group_choices(study.spec), experiment=experiment_of(study.spec))


def _verify(
    ranking: list[_Candidate], top: int, source: DemData | None, *, is_many: bool
) -> tuple[_Best, list[dict[str, Any]]]:
    """Verify trials in their order until `top` hold; return the first one, and what the answer tells of all of them."""
    best: _Best | None = None
    rows: list[dict[str, Any]] = []
    n_disagreeing = 0
    reasons: list[tuple[_Candidate, str]] = []
    for candidate in ranking:
        if len(rows) == top or n_disagreeing == _MOST_DISAGREEMENTS:
            break
        number = candidate.slot.number
        try:
            verified = verify(candidate.sweep.study, candidate.slot, source)
        except GlrnnError as error:
            logger.warning("trial %d of %s is refused: %s", number, candidate.sweep.root, error)
            candidate.sweep.refused.append(candidate.row(is_many, reason=str(error)))
            reasons.append((candidate, str(error)))
            n_disagreeing += isinstance(error, Disagreement)
            continue
        n_disagreeing = 0
        best = best or _Best(candidate, verified)
        metrics = {"metrics": verified.metrics, "recomputed": verified.recomputed}
        rows.append(candidate.row(is_many, value=candidate.slot.value, config=verified.result.point, **metrics))
    if best is None:
        raise SweepError(_none_of(ranking, reasons))
    return best, rows


def _none_of(ranking: list[_Candidate], reasons: list[tuple[_Candidate, str]]) -> str:
    root = ranking[0].sweep.root
    groups = group_errors((candidate.slot.number, reason) for candidate, reason in reasons)
    listed = "; ".join(f"trial {group['trials'][0]}: {group['error']}" for group in groups[:_REASONS])
    more = f"; and {len(groups) - _REASONS} other reasons" if len(groups) > _REASONS else ""
    tried = f"{len(ranking)}" if len(reasons) == len(ranking) else f"the best {len(reasons)} of {len(ranking)}"
    return f"{root}: none of {tried} finished trials can be verified: {listed}{more}{_hint_at_the_data(ranking[0])}"


def _hint_at_the_data(candidate: _Candidate) -> str:
    study = candidate.sweep.study
    try:
        changed = Path(study.spec.data_file).stat().st_mtime
    except (KeyError, OSError):
        return ""
    if changed <= read_sweep_state(study.folder).created:
        return ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(changed))
    return f". {study.spec.data_file} was changed after the sweep began ({when})."


def _export(verified: Verified, provenance: Provenance, target: Path) -> None:
    trial = verified.folder
    partial = layout.RunFolder(layout.partial_folder(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        layout.remove_partials(target.parent, target.name, processes.is_gone_here)
        partial.root.mkdir()
        for path in (trial.config, trial.train_stats, trial.metrics, find_model(trial.root)):
            layout.copy_file(path, partial.root / path.name)
        write_provenance(partial.provenance, provenance)
        layout.replace_folder(partial.root, target)
    except OSError as error:
        layout.remove_folder(partial.root)
        raise SweepError(f"{target}: the export cannot be put there: {error}") from error


def _summary_with_cost(sweep: _Sweep) -> JsonObject:
    return {**sweep.summary, **cost_of(sweep.study, sweep.summary)}


def _sums(sweeps: list[_Sweep]) -> JsonObject:
    """Return the sums of several sweeps, and in `sweeps` the summary of each one."""
    summaries = [_summary_with_cost(sweep) for sweep in sweeps]
    states = {summary["state"] for summary in summaries}
    seconds: Counter[str] = Counter()
    for summary in summaries:
        seconds.update(summary["seconds"])
    return {
        "state": next(state for state in ("running", "cancelled", "finished") if state in states),
        "metric": summaries[0]["metric"],
        "trials": {state: sum(summary["trials"][state] for summary in summaries) for state in STATES},
        "utilisation": utilisation_of(seconds),
        "seconds": dict(seconds),
        **{key: sum(summary[key] for summary in summaries) for key in ("rank_hours", "allocated_rank_hours")},
        "sweeps": {str(sweep.root): summary for sweep, summary in zip(sweeps, summaries, strict=True)},
    }
