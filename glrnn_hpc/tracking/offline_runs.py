"""Offline runs of a trial: one for each of its owners, all with the id of one W&B run.

A trial may have several owners, one after the other: a job that is requeued, a rank that adopts the trial of a dead
one. Each of them (a generation) writes an offline run of its own. W&B's `sync` sends every log from its first line on,
as the client does without `resume`, and later lines replace earlier ones. So an offline run begins with the epochs of
the checkpoint from which its owner goes on and is complete by itself, and the newest one is the run on the server: no
epoch is missing and none is there twice, even if an earlier owner went further than its checkpoint or its log was cut
off. The runs of earlier owners are removed when the trial has its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from glrnn_hpc import layout
from glrnn_hpc.records.json_types import VERSION, integer_at
from glrnn_hpc.records.trial_result import FinalState, Unfinished

#: State of an offline run, as its record and W&B's summary show it.
RunState = Literal["running", "given back", "abandoned"] | FinalState

#: State of the run of a trial that its owner left without a result; the words are those of version 0.1.0.
LEFT_STATES: dict[Unfinished, RunState] = {"released": "given back", "abandoned": "abandoned"}

_FINAL_STATES = ("finished", "pruned", "failed")


@dataclass(frozen=True)
class OfflineRun:
    """An offline run of one owner of a trial.

    Attributes
    ----------
    folder : WandbRunFolder
        Its files.
    generation : int
        Of the owner.
    state : str
        running, given back, finished, pruned or failed.
    epochs : int
        Number of epochs that it holds.
    """

    folder: layout.WandbRunFolder
    generation: int
    state: str
    epochs: int

    def is_final(self) -> bool:
        """Whether it holds the whole trial with its end."""
        return self.state in _FINAL_STATES

    def write_record(self) -> None:
        """Write the record of the run, `fragment.json`."""
        content = {"generation": self.generation, "state": self.state, "epochs": self.epochs, "version": VERSION}
        layout.write_json(self.folder.record, content)


def read_offline_run(folder: layout.WandbRunFolder) -> OfflineRun:
    """Read the record of an offline run.

    Raises
    ------
    RecordError
        If the record is broken.
    """
    content = layout.read_record(folder.record, "generation", "state", "epochs")
    generation, epochs = (integer_at(folder.record, content, key) for key in ("generation", "epochs"))
    return OfflineRun(folder, generation, str(content["state"]), epochs)


def offline_runs(trial: layout.TrialFolder) -> list[OfflineRun]:
    """Return the offline runs of a trial; ended ones come last, and of these the newest generation.

    By generation, not by the times in the names: these are of the clocks of several hosts.

    Raises
    ------
    RecordError
        If the record of a run is broken.
    """
    folders = [layout.WandbRunFolder(path.parent) for path in trial.wandb.glob("*/fragment.json")]
    return sorted(
        map(read_offline_run, folders), key=lambda run: (run.is_final(), run.generation, run.folder.root.name)
    )
