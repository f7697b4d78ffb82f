"""Verify the best networks of a sweep and export the best one to best/ in its folder: python jobs/collect.py.

The sweep may still be running: the best so far is taken.
"""

from pathlib import Path

from glrnn_hpc import collect, logs

SWEEP = "runs/sweep"
TOP = 5  # how many of the best trials to verify and list


def main() -> None:
    """Load the best models anew, compute their losses on the validation and test split again, export the best."""
    logs.to_stderr()
    summary = collect(Path(SWEEP), TOP)
    for trial in summary["refused"]:
        print(f"trial {trial['number']} was refused: {trial['reason']}")
    for trial in summary["top"]:
        print(f"trial {trial['number']}: {summary['metric']} {trial['value']:.5g} with {trial['config']}")
    print(f"the best is trial {summary['best']['number']} -> {summary['best']['path']}")


if __name__ == "__main__":
    main()
