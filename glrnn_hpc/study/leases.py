"""The right to train a trial: one lease per generation, won by exactly one rank."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.processes import Process

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owner:
    """A rank that can hold trials.

    Attributes
    ----------
    job : str
        Its worker.
    rank : int
        Its number in the worker's world.
    process : Process
        What tells whether it still runs, seen from the same host.
    """

    job: str
    rank: int
    process: Process


@dataclass(frozen=True)
class Lease:
    """Generation `generation` of the trial in `folder` belongs to the holder of this object."""

    folder: layout.TrialFolder
    generation: int

    def is_newest(self) -> bool:
        """Whether nobody adopted the trial since."""
        return self.folder.newest_generation() == self.generation

    def n_epochs(self) -> int:
        """Return how many epochs of the trial are done, those of earlier generations too."""
        try:
            return len(self.folder.generation(self.generation).metrics.read_text(encoding="utf-8").splitlines()) - 1
        except FileNotFoundError:
            return 0

    def discard(self) -> None:
        """Remove what this generation wrote, if another one has a result: nobody will go on from it."""
        if self.folder.result.exists() and layout.read_json(self.folder.result)["generation"] != self.generation:
            layout.remove_folder(self.folder.checkpoint(self.generation))

    def publish(self, result: dict[str, Any]) -> bool:
        """Publish the final result of the trial, once for all generations.

        Returns
        -------
        bool
            False if the trial was adopted or has a result already: then nothing was written.
        """
        if not self.is_newest():
            return False
        return layout.publish_once(self.folder.result, {**result, "generation": self.generation})


def take(folder: layout.TrialFolder, owner: Owner, generation: int) -> Lease | None:
    """Take `generation` of a trial; None if another rank was faster.

    The generation is the one after that whose owner was seen dead. Taking whatever comes next would take the trial
    from an adopter that was faster and is alive.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    if not layout.publish_once(folder.lease(generation), {**asdict(owner), "time": time.time()}):
        return None
    folder.checkpoint(generation).mkdir(exist_ok=True)
    return Lease(folder, generation)


def owner_of(folder: layout.TrialFolder, generation: int) -> Owner | None:
    """Return who holds `generation` of a trial; None if nobody does, or nobody knows because the lease is broken.

    Then the trial may be adopted, too: an owner that is alive after all sees the next lease, and abandons the trial.
    """
    if generation == 0:
        return None
    try:
        content = layout.read_record(folder.lease(generation), "job", "rank", "process")
        return Owner(str(content["job"]), int(content["rank"]), Process(**content["process"]))
    except (RecordError, TypeError) as error:
        logger.warning("%s is broken, its owner is not known: %s", folder.lease(generation), error)
        return None


def bring_up(folder: layout.TrialFolder, generation: int) -> None:
    """Move the winner's files from its generation's folder to the trial's; those of the other generations go."""
    winner = folder.generation(generation)
    for path in (winner.metrics, winner.model(weights_only=False), winner.model(weights_only=True)):
        with contextlib.suppress(FileNotFoundError):  # there is none, or another rank brought it up just now
            path.replace(folder.root / path.name)
    for number in range(1, folder.newest_generation() + 1):
        layout.remove_folder(folder.checkpoint(number))
