"""Workers as jobs of Slurm: submitted as arrays through submitit, watched until they have left the queue."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths

from glrnn_hpc import layout, logs
from glrnn_hpc.errors import LaunchError, SweepError
from glrnn_hpc.launch.slurm import batch_script
from glrnn_hpc.launch.slurm.profile import Profile
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy

logger = logging.getLogger(__name__)

#: Seconds between two looks at the study, and between two questions to Slurm: at first, and at most.
POLL_SECONDS = 0.5
ASK_SECONDS = (2.0, 120.0)

#: Of the shortest array that any cluster allows.
_DEFAULT_ARRAY = 1001

_WAITING, _ENDING = "PENDING", "COMPLETING"

#: Why a job waits, as long as that is no more than the way of a queue.
_USUAL = frozenset(
    {"None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency", "Cleaning", _ENDING}
)

#: What Slurm says of a job whose output it could not open on the node, and of other jobs that never ran a line.
_NOT_LAUNCHED = "JobLaunchFailure"


@dataclass
class SlurmLauncher:
    """Submit and watch the workers of one sweep.

    Attributes
    ----------
    folder : SweepFolder
        The sweep, on a file system that all nodes see.
    n_workers, n_ranks : int
        Jobs, and MPI ranks of each.
    profile : Profile
        The site.
    name : str
        Name of the jobs, unlike that of any other sweep's: by it Slurm is asked for all of them at once.
    is_collecting : bool
        Whether a job after the workers exports the best model.
    """

    folder: layout.SweepFolder
    n_workers: int
    n_ranks: int
    profile: Profile
    name: str
    is_collecting: bool = False
    _pauses: tuple[float, float] = field(default=ASK_SECONDS)
    _unseen: set[str] = field(default_factory=set)

    def check(self) -> None:
        """Check what can be known before anything is made.

        Raises
        ------
        LaunchError
            If there is no Slurm here, or the ranks cannot be spread evenly over the nodes or would not see each other,
            or the folder has a name that Slurm would read otherwise.
        ConfigError
            If the profile's lines of shell are not whole.
        """
        for command in ("sbatch", "srun", "squeue", "scontrol", "scancel"):
            if shutil.which(command) is None:
                raise LaunchError(
                    f"--cluster slurm needs {command}, which is not on this machine; run this on a login node, or use "
                    "--cluster local."
                )
        if "%" in str(self.folder.root):
            raise LaunchError(f"{self.folder.root}: Slurm expands % in the names of its files; choose another --out.")
        if self.n_ranks % self.profile.nodes:
            raise LaunchError(
                f"--ranks-per-worker {self.n_ranks}: these ranks cannot be spread evenly over the "
                f"{self.profile.nodes} nodes of a worker (`nodes` of the profile)."
            )
        if self.profile.mpi == "none" and self.n_ranks > 1:
            raise LaunchError(
                f"--ranks-per-worker {self.n_ranks}: with `mpi: none` in the profile these ranks would not see each "
                "other; set it to pmix or pmi2, or use --ranks-per-worker 1."
            )
        self.profile.check_lines()

    def start(self) -> int:
        """Submit the workers that are missing; return how many were.

        Raises
        ------
        LaunchError
            If Slurm is not there or does not take the jobs; none of them is left in its queue then.
        """
        self.check()
        jobs = self._jobs()
        self._mark_ended(jobs)
        # One that saw the sweep cancelled or finished, or that was cancelled itself, will do no more work.
        staying = [job for job, why in jobs.items() if why != _ENDING and not self.folder.worker(job).leaving.exists()]
        missing = max(0, self.n_workers - len(staying))
        submitted: list[str] = []
        try:
            for size in _parts(missing, _largest_array()):
                submitted += self._submit(size)
            self._unseen = {*jobs, *submitted}
            if self.is_collecting and missing:
                submitted.append(self._submit_collector({*jobs, *submitted}))
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            for job in submitted:
                run_command("scancel", job)
            raise LaunchError(f"Slurm does not take the workers: {reason_of(error)}") from error
        return missing

    def collect(self) -> None:
        """Submit the job that exports the best model of a finished sweep, unless one is there.

        Raises
        ------
        LaunchError
            If Slurm is not there or does not take it.
        """
        self.check()
        if self._collectors():
            return
        try:
            self._submit_collector(set(self._jobs()))
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise LaunchError(f"Slurm does not take the job that exports the best model: {reason_of(error)}") from error

    def wait(self, report: Callable[[SweepStudy], None]) -> None:
        """Wait until every job has left the queue; Slurm starts them again itself.

        Raises
        ------
        SweepError
            If they are gone and trials are left, or no model was exported; or if a node could not begin a job, as it
            cannot see the folder: the other jobs are cancelled then.
        """
        study = SweepStudy(self.folder)
        least, most = self._pauses
        waited_for: set[str] = set()
        pause = least
        asked = time.monotonic()
        while True:
            report(study)
            # Slurm's users are to ask it seldom; how far the trials are is seen from the study.
            if time.monotonic() - asked >= (least if study.is_finished() else pause):
                pause = min(2 * pause, most)
                with contextlib.suppress(LaunchError):  # the controller is busy, or being restarted
                    jobs = self._jobs()
                    self._mark_ended(jobs)
                    self._check_launched(jobs)
                    self._say_why(jobs, waited_for)
                    if not jobs:
                        break
                asked = time.monotonic()
            time.sleep(POLL_SECONDS)
        self._wait_for_collector()
        liveness.clean_up(self.folder)
        if read_sweep_state(self.folder).state == "running":
            if not study.is_finished():
                raise SweepError(
                    f"{self.folder.root}: every job has ended, but trials are left; {self._last_words()}"
                    f"`glrnn resume {self.folder.root}` submits workers again."
                )
            study.end_if_finished()
        if self.is_collecting and study.is_finished() and not self.folder.best.provenance.exists():
            raise SweepError(
                f"{self.folder.root}: the trials are done, but the job that exports the best model did not do it; "
                f"{self._last_words()}`glrnn collect {self.folder.root}` does it too."
            )

    def _wait_for_collector(self) -> None:
        waited_for: set[str] = set()
        pause, most = self._pauses
        while True:
            with contextlib.suppress(LaunchError):  # the controller is busy, or being restarted
                jobs = self._collectors()
                self._say_why(jobs, waited_for)
                if not jobs:
                    return
            time.sleep(pause)
            pause = min(1.5 * pause, most)

    def cancel(self) -> None:
        """Take those jobs out of the queue that have not begun; the others end by themselves."""
        for jobs, name in ((self._jobs(), self.name), (self._collectors(), self._collector)):
            if jobs:
                run_command("scancel", f"--name={name}", f"--state={_WAITING}")

    def _submit(self, n_workers: int) -> list[str]:
        profile = self.profile
        executor = self._executor(
            job_name=self.name,
            nodes=profile.nodes,
            ntasks_per_node=self.n_ranks // profile.nodes,
            signal_delay_s=profile.signal_seconds,
            array_parallelism=profile.array_parallelism,
            teardown=batch_script.teardown(profile.max_restarts, self.folder),
            srun_args=batch_script.srun_arguments(profile),
        )
        with executor.batch():
            jobs = [executor.submit(batch_script.work, str(self.folder.root), self.n_ranks) for _ in range(n_workers)]
        names = [str(job.job_id) for job in jobs]
        logger.info("submitted: %s%s", names[0], f" to {names[-1]}" if len(names) > 1 else "")
        return names

    def _submit_collector(self, workers: set[str]) -> str:
        """Submit the job that comes after the workers, however they end."""
        if self._collectors():
            run_command("scancel", f"--name={self._collector}", f"--state={_WAITING}")
        arrays = sorted({job.partition("_")[0] for job in workers})
        after = {"dependency": ":".join(["afterany", *arrays])} if arrays else {}
        executor = self._executor(
            job_name=self._collector, nodes=1, ntasks_per_node=1, srun_args=["--mpi=none"], **after
        )
        return str(executor.submit(batch_script.collect_best, str(self.folder.root)).job_id)

    def _executor(self, **parameters: Any) -> submitit.SlurmExecutor:
        return batch_script.executor_for(self.folder.slurm, self.profile, **parameters)

    def _jobs(self) -> dict[str, str]:
        """Return the workers that wait or run, and why each one waits, by one question for all of them.

        Raises
        ------
        LaunchError
            If Slurm does not answer.
        """
        return _queued(self.name)

    def _collectors(self) -> dict[str, str]:
        return _queued(self._collector)

    @property
    def _collector(self) -> str:
        return f"{self.name}-collect"

    def _mark_ended(self, jobs: Collection[str]) -> None:
        """Tell those who look for dead owners which workers Slurm has ended: they need not wait for a heartbeat."""
        for worker in self.folder.all_workers():
            job = worker.root.name
            # Those of slurm/run_sweep.sbatch have numbers too, but another name in the queue.
            if (
                job not in jobs
                and not worker.ended.exists()
                and JobPaths(self.folder.slurm, job).submitted_pickle.exists()
            ):
                layout.write_json(worker.ended, {"time": time.time()})

    def _check_launched(self, jobs: Collection[str]) -> None:
        """Cancel all and raise if Slurm could not begin a job on its node; only ended ones are asked for, once each.

        Where another worker has begun, the folder is seen by some nodes: then it is said, and the others go on.
        """
        for job in sorted(self._unseen - set(jobs)):
            self._unseen.discard(job)
            if self.folder.worker(job).record.exists():
                continue
            with contextlib.suppress(LaunchError):  # Slurm has forgotten it
                if re.search(rf"\bReason={_NOT_LAUNCHED}\b", run_command("scontrol", "--oneliner", "show", "job", job)):
                    if any(worker.record.exists() for worker in self.folder.all_workers()):
                        logger.warning("Slurm could not begin job %s on its node; does it see this folder?", job)
                        continue
                    self._withdraw()
                    raise SweepError(
                        f"{self.folder.root}: Slurm could not begin job {job} on its node, as it does where that node "
                        "does not see this folder: --out must be on a file system that all nodes share. All jobs of "
                        "this sweep are cancelled."
                    )

    def _withdraw(self) -> None:
        for name in (self.name, self._collector):
            with contextlib.suppress(LaunchError):
                run_command("scancel", f"--name={name}")

    @staticmethod
    def _say_why(jobs: Mapping[str, str], said: set[str]) -> None:
        """Say once of each unusual reason that jobs wait for it: it may be for ever."""
        for reason in sorted(set(jobs.values()) - _USUAL - said):
            count = sum(each == reason for each in jobs.values())
            logger.warning("%d jobs wait for %s; `man squeue` (JOB REASON CODES) tells what that is", count, reason)
            said.add(reason)

    def _last_words(self) -> str:
        files = sorted(self.folder.slurm.glob("*_log.err"), key=lambda path: path.stat().st_mtime, reverse=True)
        if not files:
            return "none of them wrote a line: look whether the nodes see this folder, and at `scontrol show job`; "
        said = ((logs.last_error(file.read_text(encoding="utf-8", errors="replace")), file) for file in files)
        last, file = next((pair for pair in said if pair[0]), ("", files[0]))
        return f"the last one said: {last}; see {file}. " if last else f"see {file}. "


def _queued(name: str) -> dict[str, str]:
    """Return the jobs of this name that have not left the queue, and why each one waits: None if it runs."""
    lines = run_command("squeue", "--noheader", "--array", f"--name={name}", "--format=%i|%T|%r").splitlines()
    rows = [line.strip().split("|", 2) for line in lines if line.strip()]
    return {job: state if state == _ENDING else reason for job, state, reason in rows}


def _parts(count: int, largest: int) -> Iterator[int]:
    while count > 0:
        yield min(count, largest)
        count -= largest


def _largest_array() -> int:
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", run_command("scontrol", "show", "config"))
    # The index of an element must be below it.
    return max(1, int(found[1]) if found else _DEFAULT_ARRAY)


def run_command(*command: str) -> str:
    """Return what a command of Slurm prints.

    Raises
    ------
    LaunchError
        If it fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise LaunchError(f"{command[0]} of Slurm cannot be started here: {error.strerror}.") from error
    if done.returncode != 0:
        raise LaunchError(f"{command[0]} failed: {reason_of(done.stderr)}")
    return done.stdout


def reason_of(error: object) -> str:
    """Return what Slurm says of an error, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
    return " ".join(line.partition("error:")[2].strip() for line in lines) or " ".join(str(error).split())
