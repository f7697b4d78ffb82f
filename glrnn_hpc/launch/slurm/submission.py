"""Submission of jobs to Slurm by submitit, with the settings of a site's profile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from glrnn_hpc.errors import LaunchError
from glrnn_hpc.import_path import without_current_folder
from glrnn_hpc.launch import environment
from glrnn_hpc.launch.slurm.commands import error_text
from glrnn_hpc.launch.slurm.profile import Profile

#: Keys of a profile that submitit knows by the same names.
_SAME_NAMES = (
    "partition",
    "account",
    "qos",
    "constraint",
    "time",
    "cpus_per_task",
    "mem",
    "gpus_per_node",
    "gpus_per_task",
)

#: Signal that tells ranks to leave (`worker.preemption`).
PREEMPTION_SIGNAL = "USR2"

#: First lines of a batch script: srun hands all variables on, whatever `--export` was for sbatch, and the user's own
#: options of Slurm's commands do not decide what the script learns of its job.
EXPORT_LINES = (
    "export PATH SLURM_EXPORT_ENV=ALL",
    'unset SUBMITIT_PREEMPT_SIGNAL "${!SQUEUE_@}" "${!SCANCEL_@}"',
)


class Submitter:
    """Submitter of jobs of one kind on one site.

    Parameters
    ----------
    folder : Path
        Where submitit writes its files and the ranks their output; all nodes must see it.
    profile : Profile
        The site.
    **parameters
        More of submitit's parameters, or others than the profile's.
    """

    def __init__(self, folder: Path, profile: Profile, **parameters: Any) -> None:
        self._executor = submitit.SlurmExecutor(folder, python=without_current_folder(profile.python_command()))
        given = {name: getattr(profile, name) for name in _SAME_NAMES if getattr(profile, name) is not None}
        # submitit prefers an option of the profile to what is given here, such as the dependency of a collector.
        options = {key: value for key, value in profile.sbatch_options().items() if key not in parameters}
        # submitit takes the name of its signal from SUBMITIT_PREEMPT_SIGNAL; ranks wait for this one.
        signal = f"{PREEMPTION_SIGNAL}@{profile.signal_seconds}"
        more = {"requeue": True, "signal": signal, **options}
        self._executor.update_parameters(
            **{**given, **parameters}, setup=lines_before_srun(profile), additional_parameters=more
        )
        self._options = {*given, *parameters, *more}

    def submit(self, call: Callable[..., object], *arguments: object) -> str:
        """Submit one job that calls a function in each of its ranks; return the number of the job.

        Raises
        ------
        FailedSubmissionError, FailedJobError, OSError
            If Slurm does not take it; `as_launch_error` makes one error of them.
        """
        with self._clean_environment():
            return str(self._executor.submit(call, *arguments).job_id)

    def submit_array(self, n_jobs: int, call: Callable[..., object], *arguments: object) -> list[str]:
        """Submit an array of equal jobs like `submit`; return the names of its elements, `<array>_<index>`."""
        # The array is submitted where the inner block ends.
        with self._clean_environment(), self._executor.batch():
            jobs = [self._executor.submit(call, *arguments) for _ in range(n_jobs)]
        return [str(job.job_id) for job in jobs]

    def _clean_environment(self) -> contextlib.AbstractContextManager[None]:
        return environment.in_place_of_this(environment.of_submission(self._options))


@contextlib.contextmanager
def as_launch_error(job: str) -> Iterator[None]:
    """Turn what submitit and Slurm raise into one error that names the job.

    Raises
    ------
    LaunchError
        If Slurm does not take the job.
    """
    try:
        yield
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        raise LaunchError(f"Slurm does not take {job}: {error_text(error)}") from error


def was_submitted(folder: Path, job: str) -> bool:
    """Whether a job was submitted by a `Submitter` that writes into a folder."""
    return bool(JobPaths(folder, job).submitted_pickle.exists())


def lines_before_srun(profile: Profile) -> list[str]:
    """Return the lines of the batch script before srun: the site's own, and empty steps when the job came back.

    With `--export` srun would hand on only what that option names, not the variables of the modules and of submitit.

    A node that crashed keeps the socket of PMIx for the step of that number, which could not begin there again: each
    start of a job takes another number for the step of its ranks.
    """
    count = "$(seq $((${SLURM_RESTART_COUNT:-0} % 10)))"
    steps = f"for _ in {count}; do srun --mpi=none --nodes=1 --ntasks=1 true || true; done"
    return [*EXPORT_LINES, *profile.setup_lines(), *([steps] if profile.uses_pmix else [])]


def srun_arguments(profile: Profile) -> list[str]:
    """Return how srun starts the ranks of a job on a site."""
    return [f"--mpi={profile.mpi}", "--kill-on-bad-exit=1", f"--cpus-per-task={profile.cpus_per_task}"]
