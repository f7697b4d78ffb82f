"""The Optuna study behind a sweep: its slots, who claims them, what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from glrnn_hpc import config, layout
from glrnn_hpc.errors import SweepError
from glrnn_hpc.search import leases, samplers
from glrnn_hpc.search.sweep import SweepSpec, load_sweep

STUDY_NAME = "sweep"
STATES = ("finished", "pruned", "failed", "running", "waiting")
_STATE_NAMES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_FINAL = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class Slot:
    """One trial of the sweep as the study knows it."""

    number: int
    state: str
    params: dict[str, Any]
    value: float | None


@dataclass(frozen=True)
class Claim:
    """A trial that this rank may train: its number, its point and its lease."""

    number: int
    point: dict[str, Any]
    lease: leases.Lease


def create(root: Path, spec: SweepSpec, n_trials: int, launch: dict[str, Any]) -> layout.SweepFolder:
    """Make the folder of a sweep with `n_trials` waiting trials; it appears under its name only when complete.

    Raises
    ------
    SweepError
        If the folder holds a sweep already, or anything else.
    """
    folder = layout.SweepFolder(root)
    if folder.sweep.exists():
        raise SweepError(
            f"{root}: holds a sweep already; `glrnn resume {root}` goes on with it, or choose another --out."
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise SweepError(f"{root}: exists and is not an empty folder; choose another --out.")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = layout.SweepFolder(layout.partial_folder(root))
    try:
        for path in (partial.root, partial.workers, partial.trials):
            path.mkdir()
        layout.write_text(partial.sweep, config.dump_yaml(spec.as_dict()))
        study = optuna.create_study(storage=_storage(partial), study_name=STUDY_NAME, direction=spec.goal)
        for _ in range(n_trials):
            study.enqueue_trial({})
        layout.write_json(partial.state, {"state": "running", "n_trials": n_trials, "created": time.time(), **launch})
        if root.exists():
            root.rmdir()
        partial.root.rename(root)
    except BaseException:
        layout.remove_folder(partial.root)
        raise
    return folder


class SweepStudy:
    """A rank's view of the study of one sweep folder."""

    def __init__(self, folder: layout.SweepFolder) -> None:
        if not folder.sweep.exists() or not folder.journal.exists():
            raise SweepError(f"{folder.root}: is not a sweep folder; `glrnn sweep` makes one.")
        self.folder = folder
        self.spec = load_sweep(folder.sweep)
        self._study = optuna.load_study(
            study_name=STUDY_NAME, storage=_storage(folder), sampler=samplers.NumberedSampler(self.spec)
        )

    def slots(self) -> list[Slot]:
        """Return all trials in the order of their numbers."""
        return [
            Slot(trial.number, _STATE_NAMES[trial.state], trial.params, trial.value if trial.values else None)
            for trial in self._study.get_trials(deepcopy=False)
        ]

    def is_finished(self) -> bool:
        """Whether every slot is final."""
        return not any(slot.state in ("running", "waiting") for slot in self.slots())

    def claim(self, job: str, host: str, rank: int) -> Claim | None:
        """Claim the first waiting trial; None if none is left.

        The study changes waiting to running for the first claimant only, so no two ranks get the same trial.
        """
        storage = self._study._storage
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            try:
                if not storage.set_trial_state_values(frozen._trial_id, state=TrialState.RUNNING):
                    continue
            except optuna.exceptions.UpdateFinishedTrialError:
                continue
            lease = leases.take(self.folder.trial(frozen.number), job, host, rank)
            if lease is not None:
                return Claim(frozen.number, self._point(frozen._trial_id), lease)
        return None

    def adopt(self, job: str, host: str, rank: int, is_dead: Callable[[str], bool]) -> Claim | None:
        """Adopt a running trial whose worker is dead, or that nobody holds; None if there is none.

        A trial whose result was published by a rank that died before it could tell the study is told here.
        """
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = self.folder.trial(frozen.number)
            owner = leases.owner_of(trial)
            if owner is not None and not is_dead(owner["job"]):
                continue
            if trial.result.exists():
                self.tell(frozen.number, layout.read_json(trial.result))
                continue
            lease = leases.take(trial, job, host, rank)
            if lease is not None:
                return Claim(frozen.number, self._point(frozen._trial_id), lease)
        return None

    def tell(self, number: int, result: dict[str, Any]) -> None:
        """Tell the study the published result of a trial; a trial that is final already stays as it is."""
        state = _FINAL[result["state"]]
        value = result.get("value") if state is TrialState.COMPLETE else None
        self._study.tell(number, value, state=state, skip_if_finished=True)

    def _point(self, trial_id: int) -> dict[str, Any]:
        return samplers.suggest(optuna.Trial(self._study, trial_id), self.spec.searched)


def _storage(folder: layout.SweepFolder) -> JournalStorage:
    # The open lock on an absolute path: the symlink lock on a relative one spins for ever once its holder died.
    path = str(folder.journal.resolve())
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))
