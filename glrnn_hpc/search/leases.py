"""The right to train a trial: one lease per generation, won by exactly one worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from glrnn_hpc import layout


@dataclass(frozen=True)
class Lease:
    """Generation `generation` of the trial in `folder` belongs to the holder of this object."""

    folder: layout.TrialFolder
    generation: int

    def is_newest(self) -> bool:
        """Whether nobody adopted the trial since."""
        return self.folder.newest_generation() == self.generation

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


def take(folder: layout.TrialFolder, job: str, host: str, rank: int) -> Lease | None:
    """Take the next generation of a trial; None if another rank was faster."""
    folder.root.mkdir(parents=True, exist_ok=True)
    generation = folder.newest_generation() + 1
    owner = {"job": job, "host": host, "rank": rank, "time": time.time()}
    if not layout.publish_once(folder.lease(generation), owner):
        return None
    folder.checkpoint(generation).mkdir(exist_ok=True)
    return Lease(folder, generation)


def owner_of(folder: layout.TrialFolder) -> dict[str, Any] | None:
    """Return job, host and rank of the newest generation's owner; None if nobody ever held the trial."""
    generation = folder.newest_generation()
    if generation == 0:
        return None
    owner: dict[str, Any] = layout.read_json(folder.lease(generation))
    return owner
