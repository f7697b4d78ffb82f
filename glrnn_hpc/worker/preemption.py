"""Preemption notice of a scheduler: every rank notes SIGUSR2 or SIGTERM and leaves between two batches."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

#: Exit status of ranks that leave although the sweep has more to do. It is BSD's EX_TEMPFAIL.
MORE_TO_DO = 75


#: Signals that ask a rank to leave. Slurm sends SIGUSR2 by `sbatch --signal=USR2@SECONDS` before the time limit, and
#: SIGTERM alone where a partition's preemption has a grace period, at scancel, and to a job that is requeued.
SIGNALS = (signal.SIGUSR2, signal.SIGTERM)


class PreemptionNotice:
    """Handler that notes the signals that ask a rank to leave.

    The handler only sets a flag: a rank acts on it between two batches. It must be in place before MPI starts, and it
    takes the place of submitit's, which would requeue the job from inside one of its ranks, and ignore SIGTERM.
    """

    def __init__(self) -> None:
        self._is_received = False
        self._before: dict[signal.Signals, Any] = {}
        # Tests run a worker in a thread, where no handler can be set.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def close(self) -> None:
        """Put the handlers back that were there before: the process may do something else than a worker's work."""
        for number, handler in self._before.items():
            # None: a library in C had set it, which Python cannot do again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def is_leaving_requested(self) -> bool:
        """Whether this rank is to leave."""
        return self._is_received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._is_received = True
