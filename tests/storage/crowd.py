"""Processes that claim and settle instant trials as fast as the storage allows; prints how long it took."""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

from glrnn_hpc import layout, processes
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.trial_result import TrialOutcome
from glrnn_hpc.study.study import SweepStudy


def work(root: Path, number: int) -> None:
    """Take trials until none waits."""
    study = SweepStudy(layout.SweepFolder(root))
    owner = Owner(f"w{number}", 0, processes.this_process())
    while (claim := study.claim(owner)) is not None:
        outcome = TrialOutcome(state="finished", value=float(claim.number))
        assert claim.lease.publish(claim.result_of(outcome, started=0.0, seconds=0.0))
        study.settle(claim.number)


def main(root: Path, n_workers: int) -> None:
    """Start the processes at once and wait for them."""
    # Forked, and not started anew: 64 imports on two cores would take longer than the work.
    context = multiprocessing.get_context("fork")
    crowd = [context.Process(target=work, args=(root, number)) for number in range(n_workers)]
    started = time.monotonic()
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    sys.stdout.write(f"{time.monotonic() - started}\n")
    sys.exit(max(abs(process.exitcode or 0) for process in crowd))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
