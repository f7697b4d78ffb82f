"""Interruption of a command that waits for a sweep: what goes on without it, and how to watch or stop that."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import typer

from glrnn_hpc import layout
from glrnn_hpc.errors import GlrnnError

#: Exit status of a command that Ctrl-C has ended.
INTERRUPTED = 130


@contextlib.contextmanager
def telling_what_goes_on(folder: Path) -> Iterator[None]:
    """Print on stderr, after Ctrl-C, what goes on with a sweep, and end with status 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nglrnn: {_what_goes_on(folder)}", file=sys.stderr, flush=True)
        raise typer.Exit(INTERRUPTED) from None


def _what_goes_on(folder: Path) -> str:
    from glrnn_hpc.records.sweep_state import read_sweep_state
    from glrnn_hpc.study import liveness

    sweep, name = layout.SweepFolder(folder.resolve()), shlex.quote(str(folder))
    if not sweep.state.exists():
        return "interrupted before any worker was started; no sweep was made."
    try:
        state = read_sweep_state(sweep)
        n_alive = sum(liveness.is_alive(worker) for worker in sweep.all_workers())
    except GlrnnError as error:
        return f"interrupted; what goes on cannot be told: {error}"
    goes_on = f"`glrnn resume {name}`"
    if state.state != "running":
        return f"interrupted; the sweep is {state.state}: `glrnn status {name}` shows it, {goes_on} goes on with it."
    if state.launch.cluster == "debug":
        return f"interrupted; this process has trained the trials, so that nothing goes on; {goes_on} does."
    # Jobs of Slurm, or of a launcher of the user's own, may still wait in a queue, without any worker.
    has_jobs = state.launch.cluster != "local"
    if not (has_jobs or n_alive):
        return f"interrupted; no worker runs; {goes_on} starts the workers again."
    who = "its jobs go on" if has_jobs else "1 worker goes on" if n_alive == 1 else f"{n_alive} workers go on"
    return (
        f"interrupted; {who} without this command: `glrnn status {name} --watch` shows the trials, {goes_on} waits for "
        f"them again, `glrnn cancel {name}` stops them."
    )
