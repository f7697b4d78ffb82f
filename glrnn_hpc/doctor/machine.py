"""Examination of this machine: what is installed, and what two ranks record that are started here.

Nothing here loads TensorFlow, h5py or MPI, which may end a process or make it hang: the ranks do (`probe`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from glrnn_hpc import layout, logs
from glrnn_hpc.doctor import probe
from glrnn_hpc.doctor.checks import RankRequest, check_ranks
from glrnn_hpc.doctor.probe import RankRecord
from glrnn_hpc.doctor.report import Check, Report
from glrnn_hpc.errors import LaunchError
from glrnn_hpc.import_path import module_command
from glrnn_hpc.launch import local
from glrnn_hpc.launch.environment import of_local_ranks

logger = logging.getLogger(__name__)

#: After which ranks that hang on this machine are ended.
LOCAL_SECONDS = 300

#: Commands of Slurm that a launcher or the doctor calls.
SLURM_COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")

_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "scipy",
    "h5py",
    "mpi4py",
    "optuna",
    "submitit",
    "pydantic",
    "matplotlib",
)


def examine_machine() -> Report:
    """Examine this machine.

    Raises
    ------
    LaunchError
        If the current folder cannot be written to.
    """
    report = Report()
    with temporary_folder() as folder:
        report.checks += [
            check_python(),
            check_packages(),
            _check_wandb(),
            _check_grainlearning(),
            _check_slurm_commands(),
            _check_gpus(),
        ]
        _examine_ranks(report, folder)
    return report


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder in the current one, where sweeps will lie, and remove it at the end.

    Raises
    ------
    LaunchError
        If the current folder cannot be written to.
    """
    folder = Path.cwd() / f".glrnn-doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
        probe.prepare_folder(folder)
    except OSError as error:
        raise LaunchError(f"{folder.parent}: cannot be written to ({error.strerror}); start this elsewhere.") from error
    try:
        yield folder
    finally:
        layout.remove_folder(folder)


def check_python() -> Check:
    """Return the check of the Python that runs this."""
    return Check("Python", "ok", f"{platform.python_version()} ({sys.executable})")


def check_packages() -> Check:
    """Return the check of the packages that every part needs."""
    versions = {package: _version(package) for package in _PACKAGES}
    missing = [package for package, version in versions.items() if version is None]
    if missing:
        return Check("packages", "problem", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Check("packages", "ok", ", ".join(f"{package} {version}" for package, version in versions.items()))


def missing_slurm_commands() -> list[str]:
    """Return the commands of Slurm that are not on this machine."""
    return [command for command in SLURM_COMMANDS if shutil.which(command) is None]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _check_wandb() -> Check:
    version = _version("wandb")
    if version is None:
        return Check("wandb", "problem", "missing", "pip install wandb")
    return Check("wandb", "ok", version)


def _check_grainlearning() -> Check:
    version = _version("grainlearning")
    if version is None:
        return Check("GrainLearning", "ok", "not here", "To calibrate: pip install '.[calibration]' (with numpy 1).")
    return Check("GrainLearning", "ok", version)


def _check_slurm_commands() -> Check:
    missing = missing_slurm_commands()
    if len(missing) == len(SLURM_COMMANDS):
        return Check("Slurm", "ok", "not here: sweeps run on this machine (--cluster local)")
    if missing:
        return Check("Slurm", "warning", f"missing: {', '.join(missing)}", "--cluster slurm needs a login node.")
    done = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition(": ")[2]
        return Check("Slurm", "ok", f"its commands are here, but no cluster ({reason}): --cluster local")
    return Check("Slurm", "ok", f"{done.stdout.strip()}; look at its nodes by --profile FILE")


def _check_gpus() -> Check:
    names = probe.nvidia_gpus("name")
    return Check("GPUs", "ok", ", ".join(names) if names else "nvidia-smi finds none: the CPUs are used")


def _examine_ranks(report: Report, folder: Path) -> None:
    """Start ranks on this machine and check their records."""
    launcher = local.mpiexec()
    if launcher is None:
        advice = "pip install '.[embedded-mpi]', or the MPI of the system, to use more than one CPU."
        report.add("mpiexec", "warning", "not here: one rank only", advice)
        n_ranks, mpi_command = 1, []
    else:
        report.add("mpiexec", "ok", str(launcher))
        n_ranks, mpi_command = probe.RANKS_PER_NODE, [str(launcher), "-n", str(probe.RANKS_PER_NODE)]
    log = _run_ranks(mpi_command, folder)
    report.ranks = probe.read_records(folder)
    if not report.ranks:
        report.log = log
        advice = f"`{' '.join(mpi_command)} {sys.executable} -c ''` must run by itself."
        report.add("ranks", "problem", f"none was started: {logs.last_error(log) or 'it said nothing'}", advice)
        return
    if len(report.ranks) < n_ranks or any(record["doing"] for record in report.ranks):
        report.log = log
    request = RankRequest(1, n_ranks)
    report.checks += check_ranks(report.ranks, request, probe.read_counter(folder), logs.last_error(log))
    report.checks += _check_unused_gpus(report.ranks)


def _run_ranks(mpi_command: Sequence[str], folder: Path) -> str:
    """Run the probe in ranks until they end or hang; return what they print."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*mpi_command, *module_command("glrnn_hpc.doctor.probe"), str(folder)],
            env=of_local_ranks(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(LOCAL_SECONDS)
        except subprocess.TimeoutExpired:
            logger.warning("the ranks hang: they are ended after %d s", LOCAL_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return (folder / "log").read_text(encoding="utf-8", errors="replace")


def _check_unused_gpus(records: Sequence[RankRecord]) -> list[Check]:
    if not records[0]["gpus"] or any(record.get("TensorFlow", {}).get("gpu") for record in records):
        return []
    text = f"TensorFlow sees none of {len(records[0]['gpus'])}"
    return [Check("TensorFlow's GPUs", "warning", text, "pip install '.[gpu]'")]
