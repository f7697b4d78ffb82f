"""One short job that looks at a site's nodes, with the settings of its profile and as workers are submitted."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import time
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError

from glrnn_hpc import logs
from glrnn_hpc.doctor import probe
from glrnn_hpc.doctor.checks import Asked, Check, Report, judge, mpi_advice
from glrnn_hpc.errors import LaunchError
from glrnn_hpc.launch.slurm import batch_script, launcher
from glrnn_hpc.launch.slurm.profile import Profile

logger = logging.getLogger(__name__)

#: Of the job at most; a profile's shorter time holds.
JOB_MINUTES = 10
#: Seconds between two questions to Slurm: at first, and at most.
ASK_SECONDS = (1.0, 10.0)
#: Seconds that a file server may take to show here what was written there.
SEEN_SECONDS = 30.0

_UNKNOWN = "UNKNOWN"
_NOT_RUNNING = ("PENDING", _UNKNOWN)


class Visit:
    """One job that looks at a site's nodes.

    Parameters
    ----------
    profile : Profile
        The site.
    folder : Path
        Where its ranks write, and what they print.
    report : Report
        Where the checks go.
    """

    def __init__(self, profile: Profile, folder: Path, report: Report) -> None:
        self._profile, self._folder, self._report = profile, folder, report
        self._name = f"glrnn-doctor-{secrets.token_hex(4)}"
        self._job = ""
        self._asked = Asked(
            profile.nodes,
            probe.RANKS_PER_NODE,
            profile.cpus_per_task,
            _number(profile.gpus_per_task),
            _number(profile.gpus_per_node),
            profile.mpi,
            profile.scratch is not None,
        )

    def make(self, timeout_s: float) -> None:
        """Submit the job, wait for it, judge what it found; none of it is left in the queue."""
        if not self._submit():
            return
        try:
            if self._wait(timeout_s):
                self._judge()
        finally:
            self._cancel()

    def _check(self, *words: Any) -> None:
        self._report.checks.append(Check(*words))

    def _submit(self) -> bool:
        profile = self._profile
        executor = batch_script.executor_for(
            self._folder / "slurm",
            profile,
            job_name=self._name,
            nodes=profile.nodes,
            ntasks_per_node=probe.RANKS_PER_NODE,
            time=min(profile.time, JOB_MINUTES),
            srun_args=batch_script.srun_arguments(profile),
        )
        try:
            self._job = str(executor.submit(probe.look, str(self._folder), profile.scratch).job_id)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            self._check("submission", "problem", f"Slurm does not take the job: {launcher.reason_of(error)}", _offers())
            return False
        logger.info("job %s is submitted", self._job)
        return True

    def _wait(self, timeout_s: float) -> bool:
        """Wait until the job has left the queue; False if it did not begin in time."""
        waits_since = time.monotonic()
        pause, most = ASK_SECONDS
        told = None
        while (state := self._state()) is not None:
            name, reason = state
            if name in _NOT_RUNNING:
                if reason not in (told, "None"):
                    logger.info("job %s waits in the queue: %s", self._job, reason)
                    told = reason
                if time.monotonic() - waits_since > timeout_s:
                    text = f"the job has been waiting for {timeout_s:.0f} s: {reason}; the nodes were not looked at"
                    advice = "Try again with a larger --timeout, or another partition or less in the profile."
                    self._check("queue", "warning", text, f"{advice} {_offers()}")
                    self._report.is_incomplete = True
                    return False
            else:
                # Its own time limit ends it now.
                waits_since = time.monotonic()
            time.sleep(pause)
            pause = min(1.5 * pause, most)
        return True

    def _state(self) -> tuple[str, str] | None:
        """Return what the job does and why it waits, None when it has left the queue."""
        try:
            said = launcher.run_command("squeue", "--noheader", f"--name={self._name}", "--format=%T|%r").strip()
        except LaunchError as error:  # the controller is busy, or being restarted
            return _UNKNOWN, str(error)
        state, _, reason = said.partition("|")
        return (state, reason) if said else None

    def _end(self) -> dict[str, str]:
        """Return what Slurm tells of the job that has ended; nothing if it has forgotten it."""
        try:
            said = launcher.run_command("scontrol", "--oneliner", "show", "job", self._job)
        except LaunchError:
            return {}
        return dict(re.findall(r"\b(JobState|Reason|ExitCode|NodeList)=(\S+)", said))

    def _judge(self) -> None:
        report, asked = self._report, self._asked
        end = self._end()
        ended = time.monotonic()
        while True:
            report.ranks = probe.found_in(self._folder)
            is_whole = len(report.ranks) == asked.n_ranks and all(each["doing"] is None for each in report.ranks)
            waited = time.monotonic() - ended
            if is_whole or waited > (SEEN_SECONDS if end.get("JobState") == "COMPLETED" else 1):
                break
            time.sleep(0.5)
        log = self._log()
        report.log = "" if is_whole else log
        on = end.get("NodeList", "the node")
        for line in dict.fromkeys(_SETUP_ERRORS.findall(log)):
            said = line.rpartition("slurm_script: ")[2].strip()
            self._check("setup", "problem", said, "Look at modules and setup of the profile; `module avail`.")
        if report.ranks:
            text = f"{self._folder.parent} is seen on {on}; files from there are here {waited:.0f} s after the job"
            self._check("folder", "ok", text)
            report.checks += judge(report.ranks, asked, probe.count_in(self._folder), logs.last_error(log))
        elif not log:
            text = f"{self._folder.parent}: {on} cannot write there: the job ended before its first line ({_say(end)})"
            advice = "Start this, and sweeps, in a folder that the nodes see too: on the site's parallel file system."
            self._check("folder", "problem", text, advice)
        else:
            text = f"no rank began ({_say(end)}): {logs.last_error(log) or 'it said nothing'}"
            self._check("ranks", "problem", text, _advice(log, self._profile))

    def _log(self) -> str:
        files = sorted((self._folder / "slurm").glob("*_log.err"))
        return "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)

    def _cancel(self) -> None:
        """End the job; wait until it writes no more, as its folder is about to be removed."""
        with contextlib.suppress(LaunchError):
            if self._state() is None:
                return
            launcher.run_command("scancel", f"--name={self._name}")
            end = time.monotonic() + SEEN_SECONDS
            while self._state() is not None and time.monotonic() < end:
                time.sleep(0.5)


#: What bash and both kinds of modules say of lines before srun that fail; the batch script goes on.
_SETUP_ERRORS = re.compile(
    r"^.*(?:slurm_script: line \d+: |Unable to locate a modulefile|module\(s\) are unknown).*$", re.MULTILINE
)


def _number(gpus: int | str | None) -> int:
    """Return how many GPUs a value such as 4 or a100:4 asks for."""
    last = str(gpus or 0).rpartition(":")[2]
    return int(last) if last.isdigit() else 1


def _offers() -> str:
    """Return the partitions with the nodes' sizes, for one who asked for something else."""
    try:
        lines = launcher.run_command("sinfo", "--noheader", "--format=%R: %c CPUs, %m MB, GPUs %G, %l").splitlines()
    except LaunchError:
        return "Look at sinfo."
    return "Partitions (nodes, longest time): " + "; ".join(dict.fromkeys(line.strip() for line in lines))


def _say(end: dict[str, str]) -> str:
    if not end:
        return "Slurm has forgotten how"
    return f"{end.get('JobState')}, {end.get('Reason')}, exit code {end.get('ExitCode')}"


def _advice(log: str, profile: Profile) -> str:
    if "execve" in log:
        return f"`{profile.python_command()}` is no command on the node: set python in the profile, or load its module."
    if "No module named" in log:
        return f"Install this package where `{profile.python_command()}` finds it."
    if "could not find submitted jobs" in log:
        return f"`{profile.python_command()}` does not see this folder: bind it into the container (apptainer --bind)."
    if "MPI" in log or "PMI" in log:
        return mpi_advice(profile.mpi)
    return "What the ranks wrote is below."
