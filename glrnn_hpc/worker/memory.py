"""Memory of a worker: its limit on a node, and whether its ranks have come near it.

TensorFlow keeps some 16 MB for each network that it has traced, whatever is deleted; only the end of the process gives
them back.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from glrnn_hpc import processes
from glrnn_hpc.records.sweep_state import LaunchPlan

logger = logging.getLogger(__name__)

#: Part of the limit from which on the ranks are near it: the rest is for the networks of the trials that still run.
NEAR = 0.9

_SIZE = re.compile(r"(\d+)([KMGT]?)B?", re.IGNORECASE)
_MB = 2**20
_UNITS = {"K": 2**10, "": _MB, "M": _MB, "G": 2**30, "T": 2**40}


def size_in_bytes(text: str) -> int | None:
    """Return the bytes of a size as Slurm writes it, such as 16G; without a letter it is MB. None if it is no size."""
    found = _SIZE.fullmatch(text.strip())
    return int(found[1]) * _UNITS[found[2].upper()] if found else None


def memory_limit(plan: LaunchPlan, enforced: int | None) -> int | None:
    """Return the bytes that the ranks of a worker may take on a node; None for as many as there are.

    That is the plan's `memory`, else `mem` of its profile, else its part of `enforced`: what the kernel lets the
    processes of this job or container take. What Slurm says of a job counts where the kernel enforces it.
    """
    for text in (plan.memory, plan.profile.get("mem")):
        # `mem: 0` is all memory of a node.
        if text and (size := size_in_bytes(str(text))):
            return size
    return None if enforced is None else enforced // plan.workers_per_node


class MemoryWatch:
    """Watch over the memory of the ranks of a worker on one node.

    Parameters
    ----------
    limit : int, optional
        Bytes that they may take together; None: they are not watched.
    pids : sequence of int
        The ranks on this node.
    mark : Path
        File that tells all ranks of the worker to end after their trials, those of other nodes too.
    """

    def __init__(self, limit: int | None, pids: Sequence[int], mark: Path) -> None:
        self._limit, self._pids, self._mark = limit, pids, mark
        if limit is None:
            return
        used = processes.memory_of(pids)
        if used > NEAR * limit:
            logger.warning(
                "the %d ranks of this node take %d MB before their first trial, of %d MB: their memory is not watched",
                len(pids),
                used // _MB,
                limit // _MB,
            )
            self._limit = None

    def is_ending_requested(self, has_trained: bool) -> bool:
        """Whether the worker is to end between two trials, because the ranks of a node are near its limit.

        Parameters
        ----------
        has_trained : bool
            Whether this rank has ended a trial since it began; one that has not does not ask the others to end, so that
            no worker is started again and again without doing a trial.
        """
        if self._mark.exists():
            return True
        if self._limit is None or not has_trained:
            return False
        used = processes.memory_of(self._pids)
        if used <= NEAR * self._limit:
            return False
        logger.warning(
            "the ranks of this node take %d MB of %d MB: this worker ends after its trials, and is started again",
            used // _MB,
            self._limit // _MB,
        )
        self._mark.touch()
        return True
