"""Right to train a trial: one lease per generation, won by exactly one rank."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.records.ownership import Owner, read_lease_owner
from glrnn_hpc.records.trial_result import TrialResult, read_trial_result

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """Generation `generation` of the trial in `folder` belongs to the holder of this object."""

    folder: layout.TrialFolder
    generation: int

    def is_newest(self) -> bool:
        """Whether nobody has adopted the trial since."""
        return self.folder.newest_generation() == self.generation

    def n_epochs(self) -> int:
        """Return how many epochs of the trial are done, those of earlier generations too."""
        return read_metrics(self.folder.generation(self.generation).metrics).n_epochs

    def earlier_checkpoints(self) -> list[Path]:
        """Return the files of the checkpoints that earlier generations completed, the newest first."""
        files = [self.folder.checkpoint_file(number) for number in range(self.generation - 1, 0, -1)]
        return [file for file in files if file.exists()]

    def discard(self) -> None:
        """Remove what this generation wrote, if another one has a result: nobody will go on from it."""
        if self.folder.result.exists() and read_trial_result(self.folder).generation != self.generation:
            layout.remove_folder(self.folder.checkpoint(self.generation))

    def publish(self, result: TrialResult) -> bool:
        """Publish the final result of the trial, once for all generations.

        Returns
        -------
        bool
            False if the trial was adopted or has a result already: then nothing was written.
        """
        return self.is_newest() and result.publish(self.folder)


def take(folder: layout.TrialFolder, owner: Owner, generation: int) -> Lease | None:
    """Take `generation` of a trial; None if another rank was faster.

    The generation is the one after that whose owner is known to be dead. The next free one would take the trial from
    an adopter that was faster and is alive.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    if not owner.publish(folder, generation):
        return None
    folder.checkpoint(generation).mkdir(exist_ok=True)
    return Lease(folder, generation)


def owner_of(folder: layout.TrialFolder, generation: int) -> Owner | None:
    """Return who holds `generation` of a trial; None if nobody does, or nobody knows because the lease is broken.

    A trial with a broken lease may be adopted, too: an owner that is alive sees the next lease, and abandons the trial.
    """
    if generation == 0:
        return None
    try:
        return read_lease_owner(folder, generation)
    except RecordError as error:
        logger.warning("%s is broken, its owner is not known: %s", folder.lease(generation), error)
        return None


def move_to_trial(folder: layout.TrialFolder, generation: int) -> None:
    """Move the winner's files from its generation's folder to the trial's; remove those of the other generations."""
    winner = folder.generation(generation)
    for path in (winner.metrics, winner.model(weights_only=False), winner.model(weights_only=True)):
        with contextlib.suppress(FileNotFoundError):  # there is none, or another rank has moved it just now
            path.replace(folder.root / path.name)
    for number in range(1, folder.newest_generation() + 1):
        layout.remove_folder(folder.checkpoint(number))
