"""What Slurm sends before it takes a job's time away: every rank notes it, and leaves in good order."""

from __future__ import annotations

import signal
import threading
from types import FrameType

#: Exit status of ranks that made room: the job has more to do. It is BSD's EX_TEMPFAIL.
AGAIN = 75


class Notice:
    """Note SIGUSR2, which `sbatch --signal=USR2@SECONDS` sends before the time limit and at preemption.

    The handler only sets a flag: what a rank does about it, it does between two batches. It must be in place before MPI
    starts, and it takes the place of submitit's, which would requeue the job from inside one of its ranks.
    """

    def __init__(self) -> None:
        self._is_given = False
        # Tests run a worker in a thread, where no handler can be set.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR2, self._note)

    def is_given(self) -> bool:
        """Whether this rank is to make room."""
        return self._is_given

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._is_given = True
