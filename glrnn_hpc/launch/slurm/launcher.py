"""Launcher of Slurm: workers are arrays of jobs, which are watched until they have left the queue."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar

from glrnn_hpc import layout, logs
from glrnn_hpc.config import parse
from glrnn_hpc.errors import LaunchError, SweepError
from glrnn_hpc.launch.launcher import Launcher, OnProgress
from glrnn_hpc.launch.slurm import batch_script, commands, submission
from glrnn_hpc.launch.slurm.commands import COMPLETING, run_command
from glrnn_hpc.launch.slurm.profile import Profile
from glrnn_hpc.records.sweep_state import LaunchPlan, read_sweep_state
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy

logger = logging.getLogger(__name__)

#: Seconds between two looks at the study, and between two questions to Slurm: at first, and at most.
POLL_SECONDS = 0.5
QUERY_SECONDS = (2.0, 120.0)

#: Reasons to wait that are no more than the way of a queue.
_USUAL_REASONS = frozenset(
    {"None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency", "Cleaning", COMPLETING}
)

#: Reason of a job whose output Slurm could not open on the node, and of other jobs that never ran a line.
_NOT_LAUNCHED = "JobLaunchFailure"


class SlurmLauncher(Launcher):
    """Launcher that submits the workers of one sweep to Slurm.

    Parameters
    ----------
    folder : SweepFolder
        The sweep, on a file system that all nodes see.
    plan : LaunchPlan
        Its `jobs` is the name of the jobs, which no other sweep's have: one question to Slurm is for all of them.
    """

    takes_profile: ClassVar[bool] = True
    collects_in_a_job: ClassVar[bool] = True

    def __init__(self, folder: layout.SweepFolder, plan: LaunchPlan) -> None:
        super().__init__(folder, plan)
        self.profile = parse(Profile, plan.profile, "profile")
        self._not_begun: set[str] = set()

    @classmethod
    def default_ranks(cls, n_trials: int, ranks_per_trial: int) -> int:
        """Raise an error: the user must choose.

        Raises
        ------
        LaunchError
            Always.
        """
        raise LaunchError("--ranks-per-worker: give the MPI ranks of a job; this machine cannot tell them.")

    @classmethod
    def nodes_per_worker(cls, profile: Profile) -> int:
        """Return the profile's `nodes`."""
        return profile.nodes

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
        n_ranks, n_nodes = self.plan.ranks_per_worker, self.profile.nodes
        if n_ranks % n_nodes:
            raise LaunchError(
                f"--ranks-per-worker {n_ranks}: these ranks cannot be spread evenly over the {n_nodes} nodes of a "
                "worker (`nodes` of the profile)."
            )
        if self.profile.mpi == "none" and n_ranks > 1:
            raise LaunchError(
                f"--ranks-per-worker {n_ranks}: with `mpi: none` in the profile these ranks would not see each other; "
                "set it to pmix or pmi2, or use --ranks-per-worker 1."
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
        staying = [
            job for job, reason in jobs.items() if reason != COMPLETING and not self.folder.worker(job).leaving.exists()
        ]
        missing = max(0, self.plan.workers - len(staying))
        submitted: list[str] = []
        try:
            with submission.as_launch_error("the workers"):
                for size in _array_sizes(missing, commands.largest_array()):
                    submitted += self._submit(size)
                self._not_begun = {*jobs, *submitted}
                if self.plan.collect and missing:
                    submitted.append(self._submit_collector({*jobs, *submitted}))
        except LaunchError:
            for job in submitted:
                run_command("scancel", job)
            raise
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
        with submission.as_launch_error("the job that exports the best model"):
            self._submit_collector(set(self._jobs()))

    def wait(self, report: OnProgress) -> None:
        """Wait until every job has left the queue; Slurm starts them again itself.

        Raises
        ------
        SweepError
            If they are gone and trials are left, or no model was exported; or if a node could not begin a job, as it
            cannot see the folder: the other jobs are cancelled then.
        """
        study = SweepStudy(self.folder)
        least, most = QUERY_SECONDS
        logged_reasons: set[str] = set()
        pause = least
        last_query = time.monotonic()
        are_jobs_cancelled = False
        while True:
            report(study)
            if not are_jobs_cancelled and read_sweep_state(self.folder).is_stopped:
                # By its ranks: the jobs that still wait in the queue would only begin and end.
                are_jobs_cancelled = True
                with contextlib.suppress(LaunchError):  # the controller is busy; they end by themselves
                    self.cancel()
            # Slurm is to be queried seldom; the study tells how far the trials are.
            if time.monotonic() - last_query >= (least if study.is_finished() else pause):
                pause = min(2 * pause, most)
                with contextlib.suppress(LaunchError):  # the controller is busy, or being restarted
                    jobs = self._jobs()
                    self._mark_ended(jobs)
                    self._check_launched(jobs)
                    _log_unusual_reasons(jobs, logged_reasons)
                    if not jobs:
                        break
                last_query = time.monotonic()
            time.sleep(POLL_SECONDS)
        self._wait_for_collector()
        liveness.clean_up(self.folder)
        if read_sweep_state(self.folder).state == "running":
            if not study.is_finished():
                raise SweepError(
                    f"{self.folder.root}: every job has ended, but trials are left; {self._last_error()}"
                    f"`glrnn resume {self.folder.root}` submits workers again."
                )
            study.end_if_finished()
        if self.plan.collect and study.is_finished() and not self.folder.best.provenance.exists():
            raise SweepError(
                f"{self.folder.root}: the trials are done, but the job that exports the best model did not do it; "
                f"{self._last_error()}`glrnn collect {self.folder.root}` does it too."
            )

    def _wait_for_collector(self) -> None:
        logged_reasons: set[str] = set()
        pause, most = QUERY_SECONDS
        while True:
            with contextlib.suppress(LaunchError):  # the controller is busy, or being restarted
                jobs = self._collectors()
                _log_unusual_reasons(jobs, logged_reasons)
                if not jobs:
                    return
            time.sleep(pause)
            pause = min(1.5 * pause, most)

    def cancel(self) -> None:
        """Take those jobs out of the queue that have not begun; the others end by themselves."""
        for name in (self.plan.jobs, self._collector_name):
            if commands.queued_jobs(name):
                commands.cancel_waiting_jobs(name)

    def _submit(self, n_workers: int) -> list[str]:
        profile = self.profile
        submitter = self._submitter(
            job_name=self.plan.jobs,
            nodes=profile.nodes,
            ntasks_per_node=self.plan.ranks_per_worker // profile.nodes,
            array_parallelism=profile.array_parallelism,
            teardown=batch_script.teardown(profile.max_restarts, self.folder),
            srun_args=submission.srun_arguments(profile),
        )
        jobs = submitter.submit_array(n_workers, batch_script.work, str(self.folder.root), self.plan.ranks_per_worker)
        logger.info("submitted: %s%s", jobs[0], f" to {jobs[-1]}" if len(jobs) > 1 else "")
        return jobs

    def _submit_collector(self, workers: set[str]) -> str:
        """Submit the job that comes after the workers, however they end."""
        if self._collectors():
            commands.cancel_waiting_jobs(self._collector_name)
        arrays = sorted({job.partition("_")[0] for job in workers})
        after = {"dependency": ":".join(["afterany", *arrays])} if arrays else {}
        submitter = self._submitter(
            job_name=self._collector_name, nodes=1, ntasks_per_node=1, srun_args=["--mpi=none"], **after
        )
        return submitter.submit(batch_script.collect_best, str(self.folder.root))

    def _submitter(self, **parameters: Any) -> submission.Submitter:
        return submission.Submitter(self.folder.slurm, self.profile, **parameters)

    def _jobs(self) -> dict[str, str]:
        return commands.queued_jobs(self.plan.jobs)

    def _collectors(self) -> dict[str, str]:
        return commands.queued_jobs(self._collector_name)

    @property
    def _collector_name(self) -> str:
        return f"{self.plan.jobs}-collect"

    def _mark_ended(self, jobs: Collection[str]) -> None:
        """Record which workers Slurm has ended: those who look for dead owners need not wait for a heartbeat."""
        for worker in self.folder.all_workers():
            job = worker.root.name
            # Workers of slurm/run_sweep.sbatch have numbers too, but another name in the queue.
            was_ours = submission.was_submitted(self.folder.slurm, job)
            if job not in jobs and was_ours and not worker.ended.exists():
                layout.write_json(worker.ended, {"time": time.time()})

    def _check_launched(self, jobs: Collection[str]) -> None:
        """Cancel all and raise if Slurm could not begin a job on its node; Slurm is queried once for each ended job.

        Where another worker has begun, some nodes see the folder: then it is logged, and the others go on.
        """
        for job in sorted(self._not_begun - set(jobs)):
            self._not_begun.discard(job)
            if self.folder.worker(job).record.exists():
                continue
            with contextlib.suppress(LaunchError):  # Slurm has forgotten it
                if re.search(rf"\bReason={_NOT_LAUNCHED}\b", run_command("scontrol", "--oneliner", "show", "job", job)):
                    if any(worker.record.exists() for worker in self.folder.all_workers()):
                        logger.warning("Slurm could not begin job %s on its node; does it see this folder?", job)
                        continue
                    self._cancel_all()
                    raise SweepError(
                        f"{self.folder.root}: Slurm could not begin job {job} on its node, as it does where that node "
                        "does not see this folder: --out must be on a file system that all nodes share. All jobs of "
                        "this sweep are cancelled."
                    )

    def _cancel_all(self) -> None:
        for name in (self.plan.jobs, self._collector_name):
            with contextlib.suppress(LaunchError):
                run_command("scancel", f"--name={name}")

    def _last_error(self) -> str:
        files = sorted(self.folder.slurm.glob("*_log.err"), key=lambda path: path.stat().st_mtime, reverse=True)
        if not files:
            return "none of them wrote a line: look whether the nodes see this folder, and at `scontrol show job`; "
        errors = ((logs.last_error(file.read_text(encoding="utf-8", errors="replace")), file) for file in files)
        last, file = next((pair for pair in errors if pair[0]), ("", files[0]))
        return f"the last one said: {last}; see {file}. " if last else f"see {file}. "


def _log_unusual_reasons(jobs: Mapping[str, str], logged: set[str]) -> None:
    """Log each unusual reason for which jobs wait once: it may be for ever."""
    for reason in sorted(set(jobs.values()) - _USUAL_REASONS - logged):
        count = sum(each == reason for each in jobs.values())
        logger.warning("%d jobs wait for %s; `man squeue` (JOB REASON CODES) tells what that is", count, reason)
        logged.add(reason)


def _array_sizes(count: int, largest: int) -> Iterator[int]:
    while count > 0:
        yield min(count, largest)
        count -= largest
