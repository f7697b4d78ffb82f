"""Examination of a site's nodes by one short job, with the settings of its profile and as workers are submitted."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import logs
from glrnn_hpc.doctor import machine, probe
from glrnn_hpc.doctor.checks import RankRequest, check_ranks, mpi_advice
from glrnn_hpc.doctor.report import Check, Report
from glrnn_hpc.errors import LaunchError
from glrnn_hpc.launch.slurm import submission
from glrnn_hpc.launch.slurm.commands import mpi_types, run_command
from glrnn_hpc.launch.slurm.profile import Profile

logger = logging.getLogger(__name__)

#: Of the job at most; a profile's shorter time holds.
JOB_MINUTES = 10
#: Seconds between two questions to Slurm: at first, and at most.
QUERY_SECONDS = (1.0, 10.0)
#: Seconds that a file server may take to show here what was written there.
VISIBILITY_SECONDS = 30.0

_UNKNOWN = "UNKNOWN"
_NOT_RUNNING = ("PENDING", _UNKNOWN)

#: Messages of bash and of both kinds of modules about lines before srun that fail; the batch script goes on.
_SETUP_ERRORS = re.compile(
    r"^.*(?:slurm_script: line \d+: |Unable to locate a modulefile|module\(s\) are unknown).*$", re.MULTILINE
)


def examine_site(profile: Profile, timeout_s: float) -> Report:
    """Examine a site's nodes by one short job with the settings of its profile.

    Parameters
    ----------
    profile : Profile
        The site.
    timeout_s : float
        Seconds for which the job may wait in the queue.

    Raises
    ------
    LaunchError
        If this machine has no Slurm, or the current folder cannot be written to.
    """
    missing = machine.missing_slurm_commands()
    if missing:
        raise LaunchError(
            f"--profile: {', '.join(missing)} of Slurm is not on this machine; run this on a login node, or without "
            "--profile to look at this machine."
        )
    report = Report()
    with machine.temporary_folder() as folder:
        report.checks += [machine.check_python(), machine.check_packages(), _check_srun(profile), _check_sacct()]
        SiteJob(profile, folder, report).run(timeout_s)
    return report


def _check_srun(profile: Profile) -> Check:
    try:
        types = mpi_types()
    except LaunchError as error:
        return Check("srun", "problem", str(error), "srun must work where this is started.")
    listed = ", ".join(types)
    if profile.mpi in types:
        return Check("srun", "ok", f"knows --mpi={profile.mpi}, of {listed}")
    return Check("srun", "problem", f"does not know --mpi={profile.mpi}, only {listed}", "Set mpi to one of these.")


def _check_sacct() -> Check:
    done = subprocess.run(["sacct", "--noheader", "--allocations"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Check("sacct", "ok", "is there")
    return Check("sacct", "ok", f"not there ({' '.join(done.stderr.split())}); it is not needed")


@dataclass(frozen=True)
class _JobEnd:
    """End of a job as Slurm records it; all texts are empty if Slurm has forgotten the job."""

    state: str = ""
    reason: str = ""
    exit_code: str = ""
    nodes: str = ""

    def __str__(self) -> str:
        if not self.state:
            return "Slurm has forgotten how"
        return f"{self.state}, {self.reason}, exit code {self.exit_code}"


class SiteJob:
    """One job whose ranks examine a site's nodes.

    Parameters
    ----------
    profile : Profile
        The site.
    folder : Path
        Where its ranks write, and their log lies.
    report : Report
        Where the checks go.
    """

    def __init__(self, profile: Profile, folder: Path, report: Report) -> None:
        self._profile, self._folder, self._report = profile, folder, report
        self._name = f"glrnn-doctor-{secrets.token_hex(4)}"
        self._job = ""
        self._request = RankRequest(
            profile.nodes,
            probe.RANKS_PER_NODE,
            profile.cpus_per_task,
            _gpu_count(profile.gpus_per_task),
            _gpu_count(profile.gpus_per_node),
            profile.mpi,
            profile.scratch is not None,
        )

    def run(self, timeout_s: float) -> None:
        """Submit the job, wait for it, check the records of its ranks; nothing is left in the queue."""
        if not self._submit():
            return
        try:
            if self._wait(timeout_s):
                self._check_end()
        finally:
            self._cancel()

    def _submit(self) -> bool:
        profile = self._profile
        try:
            with submission.as_launch_error("the job"):
                submitter = submission.Submitter(
                    self._folder / "slurm",
                    profile,
                    job_name=self._name,
                    nodes=profile.nodes,
                    ntasks_per_node=probe.RANKS_PER_NODE,
                    time=min(profile.time, JOB_MINUTES),
                    srun_args=submission.srun_arguments(profile),
                )
                self._job = submitter.submit(probe.probe_rank, str(self._folder), profile.scratch)
        except LaunchError as error:
            self._report.add("submission", "problem", str(error), _partitions_advice())
            return False
        logger.info("job %s is submitted", self._job)
        return True

    def _wait(self, timeout_s: float) -> bool:
        """Wait until the job has left the queue; False if it did not begin in time."""
        waits_since = time.monotonic()
        pause, most = QUERY_SECONDS
        logged_reason = None
        while (state := self._state()) is not None:
            name, reason = state
            if name in _NOT_RUNNING:
                if reason not in (logged_reason, "None"):
                    logger.info("job %s waits in the queue: %s", self._job, reason)
                    logged_reason = reason
                if time.monotonic() - waits_since > timeout_s:
                    text = f"the job has been waiting for {timeout_s:.0f} s: {reason}; the nodes were not looked at"
                    advice = "Try again with a larger --timeout, or another partition or less in the profile."
                    self._report.add("queue", "warning", text, f"{advice} {_partitions_advice()}")
                    self._report.is_incomplete = True
                    return False
            else:
                # Its own time limit ends it now.
                waits_since = time.monotonic()
            time.sleep(pause)
            pause = min(1.5 * pause, most)
        return True

    def _state(self) -> tuple[str, str] | None:
        """Return the state of the job and why it waits, None when it has left the queue."""
        try:
            line = run_command("squeue", "--noheader", f"--name={self._name}", "--format=%T|%r").strip()
        except LaunchError as error:  # the controller is busy, or being restarted
            return _UNKNOWN, str(error)
        state, _, reason = line.partition("|")
        return (state, reason) if line else None

    def _end(self) -> _JobEnd:
        try:
            line = run_command("scontrol", "--oneliner", "show", "job", self._job)
        except LaunchError:
            return _JobEnd()
        end = dict(re.findall(r"\b(JobState|Reason|ExitCode|NodeList)=(\S+)", line))
        return _JobEnd(*(end.get(key, "") for key in ("JobState", "Reason", "ExitCode", "NodeList")))

    def _check_end(self) -> None:
        """Check the records and the log of the job, which has ended."""
        report, request = self._report, self._request
        end = self._end()
        ended = time.monotonic()
        while True:
            report.ranks = probe.read_records(self._folder)
            is_whole = len(report.ranks) == request.n_ranks and all(rank["doing"] is None for rank in report.ranks)
            waited = time.monotonic() - ended
            if is_whole or waited > (VISIBILITY_SECONDS if end.state == "COMPLETED" else 1):
                break
            time.sleep(0.5)
        log = self._log()
        report.log = "" if is_whole else log
        nodes = end.nodes or "the node"
        for line in dict.fromkeys(_SETUP_ERRORS.findall(log)):
            message = line.rpartition("slurm_script: ")[2].strip()
            report.add("setup", "problem", message, "Look at modules and setup of the profile; `module avail`.")
        if report.ranks:
            text = f"{self._folder.parent} is seen on {nodes}; files from there are here {waited:.0f} s after the job"
            report.add("folder", "ok", text)
            report.checks += check_ranks(report.ranks, request, probe.read_counter(self._folder), logs.last_error(log))
        elif not log:
            text = f"{self._folder.parent}: {nodes} cannot write there: the job ended before its first line ({end})"
            advice = "Start this, and sweeps, in a folder that the nodes see too: on the site's parallel file system."
            report.add("folder", "problem", text, advice)
        else:
            text = f"no rank began ({end}): {logs.last_error(log) or 'it said nothing'}"
            report.add("ranks", "problem", text, _start_advice(log, self._profile))

    def _log(self) -> str:
        files = sorted((self._folder / "slurm").glob("*_log.err"))
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)

    def _cancel(self) -> None:
        """End the job; wait until it writes no more, as its folder is about to be removed."""
        with contextlib.suppress(LaunchError):
            if self._state() is None:
                return
            run_command("scancel", f"--name={self._name}")
            end = time.monotonic() + VISIBILITY_SECONDS
            while self._state() is not None and time.monotonic() < end:
                time.sleep(0.5)


def _gpu_count(gpus: int | str | None) -> int:
    """Return how many GPUs a value such as 4 or a100:4 asks for."""
    last = str(gpus or 0).rpartition(":")[2]
    return int(last) if last.isdigit() else 1


def _partitions_advice() -> str:
    """Return the partitions with the sizes of their nodes, for one who requested something else."""
    try:
        lines = run_command("sinfo", "--noheader", "--format=%R: %c CPUs, %m MB, GPUs %G, %l").splitlines()
    except LaunchError:
        return "Look at sinfo."
    return "Partitions (nodes, longest time): " + "; ".join(dict.fromkeys(line.strip() for line in lines))


def _start_advice(log: str, profile: Profile) -> str:
    if "execve" in log:
        return f"`{profile.python_command()}` is no command on the node: set python in the profile, or load its module."
    if "No module named" in log:
        return f"Install this package where `{profile.python_command()}` finds it."
    if "could not find submitted jobs" in log:
        return f"`{profile.python_command()}` does not see this folder: bind it into the container (apptainer --bind)."
    if "MPI" in log or "PMI" in log:
        return mpi_advice(profile.mpi)
    return "What the ranks wrote is below."
