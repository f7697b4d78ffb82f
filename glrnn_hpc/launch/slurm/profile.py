"""Profile of a site: the settings with which Slurm starts workers there, in one YAML file."""

from __future__ import annotations

import math
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from glrnn_hpc.config import Count, Keys, load_yaml, not_a_bool, parse
from glrnn_hpc.errors import ConfigError

#: Set by the sweep or by this package; another value under `sbatch` would break what they do.
_SET_ELSEWHERE = frozenset(
    {"array", "output", "error", "open-mode", "signal", "requeue", "no-requeue", "job-name", "nodes", "ntasks"}
    | {"ntasks-per-node"}
)
#: With these sbatch submits nothing, does not return, or does not say the number of the job: nobody could cancel it.
_NOT_SUBMITTING = frozenset({"parsable", "quiet", "test-only", "wait", "wrap", "help", "usage", "version"})


def _whole_to_text(value: Any) -> Any:
    # A number with a point stays wrong: 2023.10 would become the module 2023.1.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _minutes(value: Any) -> Any:
    """Return the minutes of one of Slurm's times; seconds are rounded up, as Slurm does."""
    if not isinstance(value, str) or value.strip().isdigit():
        return value
    time = _SLURM_TIME.fullmatch(value.strip())
    if time is None:
        raise ValueError(
            "minutes are needed, or one of Slurm's times: 720, 12:00:00 (hours), 90:00 (minutes), 1-12 or 1-12:00:00 "
            "(days)"
        )
    parts = [int(part) for part in time["rest"].split(":")]
    # With days the first part is hours; without them, two parts are minutes and seconds.
    if time["days"] is None and len(parts) == 2:
        parts = [0, *parts]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return (int(time["days"] or 0) * 24 + hours) * 60 + minutes + math.ceil(seconds / 60)


#: Slurm's times: minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes, days-hours:minutes:seconds.
_SLURM_TIME = re.compile(r"(?:(?P<days>\d+)-(?=\d)|(?=\d+:))(?P<rest>\d+(?::\d+){0,2})")

#: Names that Slurm has for kinds of MPI, among them the versions of PMIx such as pmix_v4 and Cray's cray_shasta.
_MPI_TYPE = re.compile(r"none|pmi[a-z0-9_]*|openmpi|lam|mpich\w*|mvapich|cray\w*")


def _check_mpi_type(value: str) -> str:
    if not _MPI_TYPE.fullmatch(value):
        raise ValueError("is no kind of MPI of Slurm; `srun --mpi=list` lists those of a cluster: pmix, pmi2, none...")
    return value


Word = Annotated[str, BeforeValidator(_whole_to_text)]
Minutes = Annotated[Count, BeforeValidator(_minutes)]
MpiType = Annotated[str, AfterValidator(_check_mpi_type)]
Gpus = Annotated[int | str, BeforeValidator(not_a_bool)]


class Profile(Keys):
    """A site's settings; what is not given is left to Slurm's own defaults."""

    modules: list[Word] = Field([], description="environment modules to load, in this order")
    setup: list[str] = Field([], description="lines of shell before the workers start, such as activating a venv")
    python: str | None = Field(None, description="command that runs Python on a node; default: this Python")
    mpi: MpiType = Field("pmix", description="how srun starts the ranks, as `srun --mpi=list` names it")
    mpi_library: str | None = Field(None, description="file name of libmpi, if mpi4py would load another one")
    partition: Word | None = Field(None, description="partition")
    account: Word | None = Field(None, description="account to charge")
    qos: Word | None = Field(None, description="quality of service")
    constraint: Word | None = Field(None, description="features that the nodes must have")
    time: Minutes = Field(60, description="minutes of a job, or a time of Slurm's; a longer sweep requeues it")
    nodes: Count = Field(1, description="nodes of a worker")
    cpus_per_task: Count = Field(1, description="CPUs of a rank")
    mem: Word | None = Field(None, description="memory of a node, such as 16G; a number is MB, 0 all of the node")
    gpus_per_node: Gpus | None = Field(None, description="GPUs of a node, such as 4 or a100:4")
    gpus_per_task: Gpus | None = Field(None, description="GPUs of a rank")
    array_parallelism: Count = Field(1000, description="workers that run at the same time at most")
    signal_seconds: Count = Field(90, description="seconds before the time limit at which the ranks begin to leave")
    max_restarts: Annotated[int, BeforeValidator(not_a_bool), Field(ge=0)] = Field(
        100, description="how often a job is put into the queue again, ends because of the memory aside"
    )
    scratch: str | None = Field(
        None, description="folder on a node's own disk, such as $TMPDIR: the data are copied there to be read"
    )
    sbatch: dict[str, str | int | bool] = Field({}, description="any other option of sbatch, without its dashes")

    @field_validator("sbatch")
    @classmethod
    def _check_options(cls, value: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        for key in value:
            option = key.replace("_", "-")
            if not re.fullmatch("[a-z][a-z-]+", option):
                raise ValueError(
                    f"{key!r} is no option of sbatch; it is written without dashes in front, like mail-type"
                )
            if option in _SET_ELSEWHERE | {name.replace("_", "-") for name in cls.model_fields}:
                raise ValueError(f"{key} is set elsewhere: by a key of the profile, or by the sweep")
            if option in _NOT_SUBMITTING:
                raise ValueError(f"with {key} sbatch would not submit jobs as `glrnn` needs it; leave it out")
        return value

    @model_validator(mode="after")
    def _check_signal_time(self) -> Profile:
        if self.signal_seconds >= 60 * self.time:
            raise ValueError(
                f"signal_seconds={self.signal_seconds} is all of time={self.time} (minutes): ranks would be told to "
                "leave as soon as they begin"
            )
        return self

    def python_command(self) -> str:
        """Return the command that runs Python, as a shell reads it."""
        return self.python or shlex.quote(sys.executable)

    @property
    def uses_pmix(self) -> bool:
        """Whether srun starts the ranks by PMIx, of whatever version."""
        return self.mpi.startswith("pmix")

    def setup_lines(self) -> list[str]:
        """Return the shell lines that come before srun."""
        lines = [f"module load {shlex.quote(module)}" for module in self.modules]
        if self.mpi_library is not None:
            lines.append(f"export MPI4PY_LIBMPI={shlex.quote(self.mpi_library)}")
        return [*lines, *self.setup]

    def check_lines(self) -> None:
        """Check that bash can read the lines of the batch script; a quote that is left open would swallow the others.

        Raises
        ------
        ConfigError
            If it cannot.
        """
        lines = "\n".join([*self.setup_lines(), self.python_command()])
        done = subprocess.run(["/bin/bash", "-n"], input=lines, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = " ".join(done.stderr.replace("/bin/bash: ", "").split())
            raise ConfigError(f"profile: bash cannot read what modules, setup and python are together: {message}")

    def sbatch_options(self) -> dict[str, str | int | bool]:
        """Return the other options of sbatch; one that is false is none."""
        return {key: value for key, value in self.sbatch.items() if value is not False}


def load_profile(path: str | Path) -> Profile:
    """Read a profile.

    Raises
    ------
    ConfigError
        If the file cannot be read, a key is unknown, or a value not allowed.
    """
    return parse(Profile, load_yaml(path), str(path))
