"""Commands of Slurm: what they answer, and what their errors say."""

from __future__ import annotations

import re
import subprocess

from glrnn_hpc.errors import LaunchError
from glrnn_hpc.launch.environment import of_queries

#: States of a job that has not begun, and of one that is about to leave the queue.
PENDING, COMPLETING = "PENDING", "COMPLETING"

#: Largest array that every cluster allows, and one more.
_DEFAULT_ARRAY = 1001


def run_command(*command: str) -> str:
    """Return what a command of Slurm prints.

    Raises
    ------
    LaunchError
        If it fails.
    """
    try:
        done = subprocess.run(command, env=of_queries(), capture_output=True, text=True, check=False)
    except OSError as error:
        raise LaunchError(f"{command[0]} of Slurm cannot be started here: {error.strerror}.") from error
    if done.returncode != 0:
        raise LaunchError(f"{command[0]} failed: {error_text(done.stderr)}")
    return done.stdout


def error_text(error: object) -> str:
    """Return the text of an error of Slurm in one line."""
    lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return " ".join(line.partition("error:")[2].strip() for line in lines) or " ".join(str(error).split())


def queued_jobs(name: str) -> dict[str, str]:
    """Return the jobs of this name that have not left the queue, each with the reason why it waits.

    The reason is `None`, as a text, for a job that runs, and `COMPLETING` for one that ends.

    Raises
    ------
    LaunchError
        If Slurm does not answer.
    """
    lines = run_command("squeue", "--noheader", "--array", f"--name={name}", "--format=%i|%T|%r").splitlines()
    rows = [line.strip().split("|", 2) for line in lines if line.strip()]
    return {job: state if state == COMPLETING else reason for job, state, reason in rows}


def cancel_waiting_jobs(name: str) -> None:
    """Take the jobs of this name out of the queue that have not begun.

    Raises
    ------
    LaunchError
        If Slurm does not answer.
    """
    run_command("scancel", f"--name={name}", f"--state={PENDING}")


def largest_array() -> int:
    """Return how many jobs an array may have on this cluster.

    Raises
    ------
    LaunchError
        If Slurm does not answer.
    """
    setting = re.search(r"MaxArraySize\s*=\s*(\d+)", run_command("scontrol", "show", "config"))
    # The index of an element must be below it.
    return max(1, int(setting[1]) if setting else _DEFAULT_ARRAY)


def mpi_types() -> list[str]:
    """Return the kinds of MPI that srun can start ranks with, versions of PMIx among them.

    Raises
    ------
    LaunchError
        If srun does not answer.
    """
    try:
        done = subprocess.run(["srun", "--mpi=list"], env=of_queries(), capture_output=True, text=True, check=False)
    except OSError as error:
        raise LaunchError(f"srun of Slurm cannot be started here: {error.strerror}.") from error
    # Versions of Slurm print the list to stdout or to stderr, and some put the name of the program before each line.
    listed = (done.stdout + "\n" + done.stderr).replace("srun:", "")
    if done.returncode != 0:
        raise LaunchError(f"srun --mpi=list failed: {error_text(listed)}")
    return types_in_list(listed)


def types_in_list(text: str) -> list[str]:
    """Return the kinds of MPI in what `srun --mpi=list` prints: one a line, and the versions of PMIx in one line."""
    names = []
    for line in text.splitlines():
        title, colon, versions = line.partition(":")
        words = versions.replace(",", " ").split() if colon else title.split()
        if colon or len(words) == 1:
            names += words
    return list(dict.fromkeys(names))
