"""A worker of one rank whose trials sleep: the real protocol without TensorFlow. Started by the tests."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.search import workers
from glrnn_hpc.search.leases import Owner
from glrnn_hpc.search.study import Claim, SweepStudy
from glrnn_hpc.worker import pull


def main(root: Path, job: str, seconds: float, timing: workers.Timing) -> None:
    """Work on the sweep in `root` with trials of about `seconds`."""
    study = SweepStudy(layout.SweepFolder(root))
    folder = study.folder.worker(job)
    folder.root.mkdir(parents=True)
    process = workers.this_process()
    workers.register(folder, [process])
    heart = workers.Heart(folder, timing.heartbeat)
    heart.start()
    watchdog = workers.Watchdog(timing.hang_timeout)
    watchdog.start()

    def sleep(claim: Claim, guard: pull.Guard) -> dict[str, Any]:
        # Every start leaves its line: the test counts who trained which generation.
        with (root / "starts").open("a", encoding="utf-8") as starts:
            starts.write(f"{claim.number} {claim.lease.generation} {os.getpid()}\n")
        end = time.monotonic() + seconds * random.uniform(0.2, 1.8)
        while time.monotonic() < end:
            time.sleep(seconds / 10)
            guard.step()
            # As after an epoch: a trial whose owners die without getting on is given up.
            claim.lease.folder.checkpoint_file(claim.lease.generation).touch()
        return {"state": "finished", "value": float(claim.number), "metrics": {}}

    pull.pull(study, Owner(job, 0, process), timing, sleep, watchdog)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), workers.Timing(*map(float, sys.argv[4:])))
