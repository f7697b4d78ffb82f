"""Verify the best networks of a sweep and export the best one to best/ in its folder: python jobs/collect.py.

The sweep may still be running: the best so far is taken.
"""

from pathlib import Path

from glrnn_hpc import logs
from glrnn_hpc.collector.collect import collect

SWEEP = "runs/sweep"
TOP = 5  # how many of the best trials to verify and list


def main() -> None:
    """Load the best models anew, compute their losses on the validation and test split again, export the best."""
    logs.to_stderr()
    found = collect(Path(SWEEP), TOP)
    for trial in found["refused"]:
        print(f"trial {trial['number']} was refused: {trial['reason']}")
    for trial in found["top"]:
        print(f"trial {trial['number']}: {found['metric']} {trial['value']:.5g} with {trial['config']}")
    print(f"the best is trial {found['best']['number']} -> {found['best']['path']}")


if __name__ == "__main__":
    main()
