"""Preemption notice of Slurm: every rank notes SIGUSR2 and leaves between two batches."""

from __future__ import annotations

import signal
import threading
from types import FrameType

#: Exit status of ranks that leave although the sweep has more to do. It is BSD's EX_TEMPFAIL.
MORE_TO_DO = 75


class PreemptionNotice:
    """Handler that notes SIGUSR2, which `sbatch --signal=USR2@SECONDS` sends before the time limit and at preemption.

    The handler only sets a flag: a rank acts on it between two batches. It must be in place before MPI starts, and it
    takes the place of submitit's, which would requeue the job from inside one of its ranks.
    """

    def __init__(self) -> None:
        self._is_received = False
        # Tests run a worker in a thread, where no handler can be set.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR2, self._receive)

    def is_leaving_requested(self) -> bool:
        """Whether this rank is to leave."""
        return self._is_received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._is_received = True
