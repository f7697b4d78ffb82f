"""What `glrnn doctor` does: look at this machine, or at a site's nodes by one short job.

Nothing here loads TensorFlow, h5py or MPI, which may end a process or make it hang: the ranks do (`probe`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from glrnn_hpc import layout, logs
from glrnn_hpc.doctor import probe
from glrnn_hpc.doctor.checks import Asked, Check, Finding, Report, judge
from glrnn_hpc.errors import LaunchError
from glrnn_hpc.launch import local
from glrnn_hpc.launch.slurm.profile import Profile

logger = logging.getLogger(__name__)

#: After which ranks that hang on this machine are ended.
LOCAL_SECONDS = 300

_PACKAGES = (
    *("tensorflow", "keras", "numpy", "scipy", "h5py", "mpi4py", "optuna", "submitit", "pydantic", "matplotlib"),
)
_SLURM = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")


def examine_machine() -> Report:
    """Look at this machine: what is installed, and what two ranks find that are started here."""
    report = Report()
    with _folder() as folder:
        report.checks += [_python(), _packages(), _wandb(), _grainlearning(), _slurm_here(), _gpus_here()]
        _run_here(report, folder)
    return report


def examine_site(profile: Profile, timeout_s: float) -> Report:
    """Look at a site's nodes by one short job with the settings of its profile.

    Parameters
    ----------
    profile : Profile
        The site.
    timeout_s : float
        Seconds for which the job may wait in the queue.

    Raises
    ------
    LaunchError
        If this machine has no Slurm.
    """
    missing = [command for command in _SLURM if shutil.which(command) is None]
    if missing:
        raise LaunchError(
            f"--profile: {', '.join(missing)} of Slurm is not on this machine; run this on a login node, or without "
            "--profile to look at this machine."
        )
    # Here, as submitit and what it loads are of no use on a machine without Slurm.
    from glrnn_hpc.doctor.site_job import Visit

    report = Report()
    with _folder() as folder:
        report.checks += [_python(), _packages(), _srun(profile), _sacct()]
        Visit(profile, folder, report).make(timeout_s)
    return report


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Give a new folder in the current one, where sweeps will lie, and remove it."""
    folder = Path.cwd() / f".glrnn-doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
        probe.prepare(folder)
    except OSError as error:
        raise LaunchError(f"{folder.parent}: cannot be written to ({error.strerror}); start this elsewhere.") from error
    try:
        yield folder
    finally:
        layout.remove_folder(folder)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _python() -> Check:
    return Check("Python", "ok", f"{platform.python_version()} ({sys.executable})")


def _packages() -> Check:
    versions = {package: _version(package) for package in _PACKAGES}
    missing = [package for package, version in versions.items() if version is None]
    if missing:
        return Check("packages", "problem", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Check("packages", "ok", ", ".join(f"{package} {version}" for package, version in versions.items()))


def _wandb() -> Check:
    version = _version("wandb")
    if version is None:
        return Check("wandb", "problem", "missing", "pip install wandb")
    return Check("wandb", "ok", version)


def _grainlearning() -> Check:
    version = _version("grainlearning")
    if version is None:
        return Check("GrainLearning", "ok", "not here", "To calibrate: pip install '.[calibration]' (with numpy 1).")
    return Check("GrainLearning", "ok", version)


def _slurm_here() -> Check:
    there = [command for command in _SLURM if shutil.which(command)]
    if not there:
        return Check("Slurm", "ok", "not here: sweeps run on this machine (--cluster local)")
    missing = [command for command in _SLURM if command not in there]
    if missing:
        return Check("Slurm", "warning", f"missing: {', '.join(missing)}", "--cluster slurm needs a login node.")
    done = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition(": ")[2]
        return Check("Slurm", "ok", f"its commands are here, but no cluster ({reason}): --cluster local")
    return Check("Slurm", "ok", f"{done.stdout.strip()}; look at its nodes by --profile FILE")


def _gpus_here() -> Check:
    names = probe.nvidia_gpus("name")
    return Check("GPUs", "ok", ", ".join(names) if names else "nvidia-smi finds none: the CPUs are used")


def _said(*command: str) -> str:
    """Return what a command prints in one line, wherever it prints it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return " ".join((done.stdout + " " + done.stderr).split())


def _srun(profile: Profile) -> Check:
    said = _said("srun", "--mpi=list")
    types = re.findall(r"\b(?:pmix|pmi2|none)\b", said)
    if profile.mpi in types:
        return Check("srun", "ok", f"knows --mpi={profile.mpi}, of {', '.join(dict.fromkeys(types))}")
    return Check("srun", "problem", f"does not know --mpi={profile.mpi}: {said}", "Set mpi to one that it lists.")


def _sacct() -> Check:
    done = subprocess.run(["sacct", "--noheader", "--allocations"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Check("sacct", "ok", "is there")
    return Check("sacct", "ok", f"not there ({' '.join(done.stderr.split())}); it is not needed")


def _run_here(report: Report, folder: Path) -> None:
    launcher = local.mpiexec()
    if launcher is None:
        advice = "pip install '.[embedded-mpi]', or the MPI of the system, to use more than one CPU."
        report.checks.append(Check("mpiexec", "warning", "not here: one rank only", advice))
        n_ranks, command = 1, []
    else:
        report.checks.append(Check("mpiexec", "ok", str(launcher)))
        n_ranks, command = probe.RANKS_PER_NODE, [str(launcher), "-n", str(probe.RANKS_PER_NODE)]
    asked = Asked(1, n_ranks)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, sys.executable, "-m", "glrnn_hpc.doctor.probe", str(folder)],
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
    report.ranks = probe.found_in(folder)
    text = (folder / "log").read_text(encoding="utf-8", errors="replace")
    if not report.ranks:
        report.log = text
        advice = f"`{' '.join(command)} {sys.executable} -c ''` must run by itself."
        report.checks.append(
            Check("ranks", "problem", f"none was started: {logs.last_error(text) or 'it said nothing'}", advice)
        )
        return
    if len(report.ranks) < n_ranks or any(each["doing"] for each in report.ranks):
        report.log = text
    report.checks += judge(report.ranks, asked, probe.count_in(folder), logs.last_error(text))
    report.checks += _unused_gpus(report.ranks)


def _unused_gpus(found: list[Finding]) -> list[Check]:
    if not found[0]["gpus"] or any(each.get("TensorFlow", {}).get("gpu") for each in found):
        return []
    text = f"TensorFlow sees none of {len(found[0]['gpus'])}"
    return [Check("TensorFlow's GPUs", "warning", text, "pip install '.[gpu]'")]
