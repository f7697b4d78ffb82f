"""Candidates of a sync: the offline runs below the folder of a sweep or of single trainings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.records.tracking_settings import read_tracking_settings
from glrnn_hpc.tracking.offline_log import read_log
from glrnn_hpc.tracking.offline_runs import offline_runs
from glrnn_hpc.tracking.server import server_url
from glrnn_hpc.tracking.sync_marks import SyncMark, read_marks


@dataclass(frozen=True)
class Candidate:
    """A run that could be sent.

    Attributes
    ----------
    name : str
        Name for the user: of the trial, or of the run's folder.
    folder : WandbRunFolder or None
        Its folder; None if it is to be written from the records of the trial.
    is_finished : bool
        Whether nothing will be added to it.
    number : int or None
        Of the trial.
    """

    name: str
    folder: layout.WandbRunFolder | None
    is_finished: bool
    number: int | None = None

    def marks(self) -> list[SyncMark]:
        """Return the marks of the servers that have it."""
        return read_marks(self.folder) if self.folder else []

    def reason_to_skip(self, include_unfinished: bool) -> str:
        """Return why the run is not sent; an empty text if it is."""
        for mark in self.marks():
            # Only if there are marks, as it imports W&B's client.
            if mark.server == server_url():
                return f"synced already: {mark.path} on {mark.server}"
        if not self.is_finished and not include_unfinished:
            return "is not finished"
        return ""


def find_candidates(root: Path) -> list[Candidate]:
    """Return the runs below a folder: of each trial the newest offline run, which holds all of the older ones."""
    sweep = layout.SweepFolder(root)
    if not sweep.sweep.exists():
        logs = sorted((root / "wandb").glob("*run-*/*.wandb"))
        return [_of_training(layout.WandbRunFolder(path.parent)) for path in logs]
    if read_tracking_settings(sweep) is None:
        return []
    numbers = sorted(int(path.name) for path in sweep.trials.glob("[0-9]*") if path.name.isdigit())
    return [candidate for number in numbers if (candidate := _of_trial(sweep, number)) is not None]


def _of_trial(sweep: layout.SweepFolder, number: int) -> Candidate | None:
    trial, name = sweep.trial(number), f"trial {number}"
    runs = offline_runs(trial)
    newest = runs[-1] if runs else None
    if trial.result.exists():
        is_complete = newest is not None and newest.is_final()
        folder = newest.folder if newest is not None and is_complete else None
        return Candidate(name, folder, is_finished=True, number=number)
    return None if newest is None else Candidate(name, newest.folder, is_finished=False, number=number)


def _of_training(folder: layout.WandbRunFolder) -> Candidate:
    return Candidate(folder.root.name, folder, is_finished=read_log(folder.log).exit_code is not None)
