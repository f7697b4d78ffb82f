"""Faults between the login node and the first line of a worker."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from glrnn_hpc import config, layout
from tests.slurm.conftest import PROFILE, Site

SIZE = ("--workers", "3", "--ranks-per-worker", "1")
WHERE = ("--cluster", "slurm", "--profile", "site.yaml")
SLURM = (*WHERE, *SIZE)


def test_a_folder_that_the_nodes_do_not_see_is_said_at_once_and_nothing_stays_in_the_queue(site: Site):
    site.write(4, 2)
    out = Path(site.variables["SLURM_CLUSTER_PRIVATE"]) / "sweep"
    said = site.glrnn("sweep", "s.yaml", "--out", out, *SLURM, "--collect", status=2)
    assert re.search(
        rf"{out}: Slurm could not begin job \d+_\d on its node, as it does where that node does not see", said
    )
    assert "--out must be on a file system that all nodes share" in said
    assert site.until(lambda: not site.queue(), 20)


def test_a_folder_with_a_percent_sign_is_refused(site: Site):
    site.write(4, 2)
    said = site.glrnn("sweep", "s.yaml", "--out", "100%a", *SLURM, status=2)
    assert "100%a: Slurm expands % in the names of its files; choose another --out" in said
    assert not (site.folder / "100%a").exists()


def test_a_worker_that_cannot_begin_is_given_up_after_two_more_tries(site: Site):
    site.write(4, 2, setup=["export PYTHONHOME=/nowhere"])
    said = site.glrnn("sweep", "s.yaml", "--out", "sweep", *SLURM, status=2)
    assert "every job has ended, but trials are left" in said
    assert site.logs().count("is put into the queue again") == 2 * 3
    assert site.logs().count("after 2 restarts: job ") == 3


def test_jobs_of_several_arrays_that_cannot_begin_say_what_they_wait_for(sleeping: Site):
    site = sleeping
    site.write(4, 2, sbatch={"hold": True})
    # More than an array may have on this cluster.
    size = ("--workers", "5", "--ranks-per-worker", "1")
    site.glrnn("sweep", "s.yaml", "--out", "sweep", *WHERE, *size, "--no-wait")
    arrays = [job.split("_")[0] for job in site.queue()]
    assert sorted(arrays.count(array) for array in set(arrays)) == [1, 4]
    command = [sys.executable, "-m", "glrnn_hpc", "resume", "sweep"]
    with (site.folder / "said").open("w") as said:
        waiting = subprocess.Popen(command, cwd=site.folder, env=site.variables, stdout=said, stderr=said)
    try:
        site.until(lambda: "5 jobs wait for JobHeldUser;" in (site.folder / "said").read_text())
        for job in site.queue():
            site.run("scontrol", "release", job)
        assert waiting.wait(120) == 0
    finally:
        waiting.kill()
        waiting.wait()


def test_what_was_submitted_is_cancelled_if_slurm_takes_no_more(site: Site):
    site.write(4, 2, sbatch={"hold": True})
    real = shutil.which("sbatch")
    fickle = site.folder / "bin/sbatch"
    fickle.parent.mkdir()
    refusal = "sbatch: error: Job violates accounting policy"
    fickle.write_text(f'#!/bin/sh\nmkdir {site.folder}/once || {{ echo "{refusal}" >&2; exit 1; }}\nexec {real} "$@"\n')
    fickle.chmod(0o755)
    site.variables["PATH"] = f"{fickle.parent}:{site.variables['PATH']}"
    size = ("--workers", "5", "--ranks-per-worker", "1")
    said = site.glrnn("sweep", "s.yaml", "--out", "sweep", *WHERE, *size, status=2)
    assert "Slurm does not take the workers: Job violates accounting policy" in said
    assert site.until(lambda: not site.queue(), 20)
    assert not site.sweep.root.exists()


def test_a_collector_that_exports_nothing_says_why(site: Site):
    sweep, _ = site.write(2, 2)
    content = config.load_yaml(site.folder / sweep)
    content["parameters"]["learning_rate"] = 1e30
    (site.folder / sweep).write_text(config.dump_yaml(content))
    size = ("--workers", "1", "--ranks-per-worker", "2")
    said = site.glrnn("sweep", sweep, "--out", "sweep", *WHERE, *size, "--collect", status=2)
    assert "the job that exports the best model did not do it; the last one said: " in said
    assert "no trial has finished yet" in said


def test_a_resume_right_after_a_cancel_brings_other_workers_than_those_that_leave(sleeping: Site):
    site = sleeping
    site.start(4, 300, 2, 2)
    numbers = {number for number, _ in site.until(site.training)}
    site.glrnn("cancel", "sweep")
    site.hurry()
    site.assert_all_finished_once(4, 300)
    site.assert_they_went_on_from_their_checkpoints(numbers)


def test_a_resume_right_after_scancel_brings_other_workers_than_those_that_are_being_ended(sleeping: Site):
    site = sleeping
    site.start(4, 300, 2, 2)
    numbers = {number for number, _ in site.until(site.training)}
    jobs = site.queue()
    site.run("scancel", "--user=root")
    site.glrnn("resume", "sweep", "--no-wait")
    site.until(lambda: not site.has_processes(jobs))
    site.hurry()
    site.assert_all_finished_once(4, 300)
    site.assert_they_went_on_from_their_checkpoints(numbers)


def test_workers_that_wait_when_all_is_done_do_not_keep_the_collector_waiting(site: Site):
    site.start(2, 2, 3, 1, "--collect", sbatch={"hold": True})
    array = min(job for job in site.queue() if "_" in job).partition("_")[0]
    collector = next(job for job in site.queue() if "_" not in job)
    for job in (f"{array}_0", collector):
        site.run("scontrol", "release", job)
    site.glrnn("resume", "sweep")
    assert [worker.root.name for worker in site.sweep.all_workers()] == [f"{array}_0"]
    assert site.sweep.best.provenance.exists()
    assert site.queue() == []


def test_a_collector_that_did_not_export_is_an_error(site: Site):
    site.start(2, 2, 1, 1, "--collect", sbatch={"hold": True})
    worker, collector = sorted(site.queue())
    site.run("scancel", collector)
    site.run("scontrol", "release", worker)
    said = site.glrnn("resume", "sweep", status=2)
    assert "the trials are done, but the job that exports the best model did not do it" in said
    assert f"`glrnn collect {site.sweep.root}` does it too" in said
    site.glrnn(
        "resume", "sweep", "--no-wait"
    )  # has no trial to do, and submits the collector again, held like the first
    (again,) = site.queue()
    site.run("scontrol", "release", again)
    assert site.until(site.sweep.best.provenance.exists, 120)
    assert layout.read_json(site.sweep.best.provenance)["trial"] in (0, 1)


def test_a_cancel_where_slurm_is_not_says_what_stays(site: Site, monkeypatch):
    site.start(2, 2, 1, 1, sbatch={"hold": True})
    monkeypatch.setitem(site.variables, "PATH", str(Path(sys.executable).parent))
    said = site.glrnn("cancel", "sweep", status=2)
    monkeypatch.undo()
    assert "is cancelled, and its ranks will end; but what waits in the queue stays: squeue of Slurm cannot be" in said
    assert len(site.queue()) == 1


def test_a_worker_that_sbatch_started_is_not_taken_for_ended_by_a_launcher(sleeping: Site):
    site = sleeping
    site.start(4, 300, 1, 1)
    job = site.until(site.training)[0][1].job
    other = site.sweep.worker("999999")
    other.root.mkdir()
    gone = site.sweep.worker(f"{job}_7")
    gone.root.mkdir()
    (site.sweep.slurm / f"{job}_7_submitted.pkl").touch()
    site.glrnn("resume", "sweep", "--no-wait")
    assert gone.ended.exists()
    assert not other.ended.exists()


def test_a_shell_full_of_slurms_variables_inside_another_allocation_changes_nothing(sleeping: Site):
    site = sleeping
    theirs = {"TIMELIMIT": "1", "PARTITION": "nowhere", "ARRAY_INX": "0-3", "WAIT": "1", "NO_REQUEUE": "1"}
    theirs |= {"JOB_NAME": "mine", "OUTPUT": str(site.folder / "mine.out"), "SIGNAL": "USR1@5", "EXPORT": "NONE"}
    site.variables |= {f"SBATCH_{name}": value for name, value in theirs.items()}
    site.variables |= {"SUBMITIT_PREEMPT_SIGNAL": "USR1", "SQUEUE_STATES": "SUSPENDED", "PMIX_RANK": "0"}
    site.variables |= {
        "SLURM_JOB_ID": "1",
        "SLURM_MEM_PER_CPU": "1",
        "SLURM_NTASKS": "1",
        "SLURM_CPU_BIND": "map_cpu:9",
    }
    # Without the variables of this shell; the profile brings those that the ranks need.
    path = site.variables["PYTHONPATH"]
    setup = [*config.load_yaml(PROFILE)["setup"], f"export PYTHONPATH={path} SLEEPERS_EPOCH=0.1"]
    site.start(2, 300, 1, 2, setup=setup, mem=900)
    for name in ("SQUEUE_STATES", *(f"SBATCH_{name}" for name in theirs)):
        del site.variables[name]
    (worker,) = site.queue()
    shown = site.run("scontrol", "--oneliner", "show", "job", worker)
    assert "Partition=main" in shown
    assert "TimeLimit=00:10:00" in shown
    assert "Requeue=1" in shown
    job = site.until(site.training)[0][1].job
    site.run("scancel", "--signal=USR2", job)
    site.until(lambda: all(site.sweep.trial(number).newest_generation() > 1 for number in (0, 1)))
    site.hurry()
    site.assert_all_finished_once(2, 300)
    assert not (site.folder / "mine.out").exists()
