"""A worker of one rank whose trials sleep: the real protocol without TensorFlow. Started by the tests."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from glrnn_hpc import layout, processes
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import Timing
from glrnn_hpc.records.trial_result import TrialOutcome
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import Claim, SweepStudy
from glrnn_hpc.worker import trial_loop


def main(root: Path, job: str, seconds: float, timing: Timing) -> None:
    """Work on the sweep in `root` with trials of about `seconds`."""
    study = SweepStudy(layout.SweepFolder(root))
    folder = study.folder.worker(job)
    folder.root.mkdir(parents=True)
    process = processes.this_process()
    liveness.register(folder, [process])
    heartbeat = liveness.Heartbeat(folder, timing.heartbeat)
    heartbeat.start()
    watchdog = liveness.Watchdog(timing.hang_timeout)
    watchdog.start()

    def sleep(claim: Claim, guard: trial_loop.Guard) -> TrialOutcome:
        # Every start leaves its line: the test counts the owners of each generation.
        with (root / "starts").open("a", encoding="utf-8") as starts:
            starts.write(f"{claim.number} {claim.lease.generation} {os.getpid()}\n")
        end = time.monotonic() + seconds * random.uniform(0.2, 1.8)
        while time.monotonic() < end:
            time.sleep(seconds / 10)
            guard.step()
            # As after an epoch: a trial whose owners die without an epoch fails.
            claim.lease.folder.checkpoint_file(claim.lease.generation).touch()
        return TrialOutcome(state="finished", value=float(claim.number), metrics={})

    trial_loop.work_on_trials(study, Owner(job, 0, process), timing, sleep, watchdog)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), Timing(*map(float, sys.argv[4:])))
