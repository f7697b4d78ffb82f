"""Launcher for debugging: the work of a sweep is done in this very process."""

from __future__ import annotations

import contextlib

from glrnn_hpc.errors import LaunchError
from glrnn_hpc.launch.launcher import Launcher, OnProgress
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy


class DebugLauncher(Launcher):
    """Launcher of one rank in this process: breakpoints and tracebacks reach the trial."""

    def check(self) -> None:
        """Check that one worker of one rank is requested.

        Raises
        ------
        LaunchError
            If more are.
        """
        n_workers, n_ranks = self.plan.workers, self.plan.ranks_per_worker
        if (n_workers, n_ranks) != (1, 1):
            raise LaunchError(
                f"--cluster debug is one rank in this process; {n_workers} workers of {n_ranks} ranks were "
                "asked for: use --workers 1 --ranks-per-worker 1, or --cluster local."
            )

    def start(self) -> int:
        """Start nothing: `wait` does the work."""
        self.check()
        liveness.clean_up(self.folder)
        return 1

    def wait(self, report: OnProgress) -> None:
        """Work until every trial is final."""
        # Here: what it loads is of no use to a launcher of other processes, and may start MPI.
        from glrnn_hpc.worker import main, preemption

        job = f"debug-{len(self.folder.all_workers()):03d}"
        with contextlib.closing(preemption.PreemptionNotice()) as notice:
            main.run(self.folder.root, job, self.plan.ranks_per_worker, notice)
        report(SweepStudy(self.folder))

    def cancel(self) -> None:
        """Do nothing: the worker sees that the sweep is cancelled."""
