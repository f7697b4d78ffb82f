"""Sweeps as jobs of a real Slurm: ranks, nodes and jobs die, and every trial is finished once."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import config, layout
from glrnn_hpc.study import leases
from tests.slurm.conftest import REPOSITORY, SCRIPT, Site


def test_the_example_on_three_nodes_and_six_ranks_each_with_a_gpu_of_its_own(site: Site):
    command = ["sweep", "sweeps/example_sweep.yaml", "--cluster", "slurm", "--workers", 3, "--ranks-per-worker", 2]
    command += ["--profile", "slurm/profiles/test-cluster.yaml", "--collect", "--out", site.sweep.root]
    site.folder = REPOSITORY
    site.glrnn(*command)
    found = json.loads(site.glrnn("status", site.sweep.root, "--json"))
    assert found["trials"] == {"finished": 12, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    owners = {row["where"] for row in found["table"]}
    assert {owner.split(":")[0] for owner in owners} == {"node1", "node2", "node3"}
    lines = [
        json.loads(line) for each in site.sweep.all_workers() for line in each.utilisation.read_text().splitlines()
    ]
    assert {(line["host"], line["visible"]) for line in lines} == {
        (f"node{node}", str(gpu)) for node in (1, 2, 3) for gpu in (0, 1)
    }
    best = layout.read_json(site.sweep.best.provenance)
    assert best["trial"] == found["best"]["number"], "the job after the workers exported it"


def test_ranks_that_are_told_to_leave_release_their_trials_and_go_on_later(sleeping: Site):
    site = sleeping
    site.start(3, 600, n_workers=1, n_ranks=2)
    site.until(lambda: len(site.training()) == 2)
    job = site.training()[0][1].job
    # Before the time limit, and at a preemption with a grace period.
    for signal in ("USR2", "TERM"):
        told = {number: site.sweep.trial(number).newest_generation() for number, _ in site.training()}
        site.run("scancel", f"--signal={signal}", job)
        # Until an epoch of each is done again: the next signal would come too early otherwise.
        site.until(
            lambda told=told: all(
                site.sweep.trial(number).checkpoint_file(generation + 1).exists() for number, generation in told.items()
            )
        )
    site.hurry()
    site.assert_all_finished_once(3, 600)
    assert "the ranks ended with status 75" in site.logs()
    released = re.findall(r"trial (\d+) is released after epoch (\d+)", site.logs())
    went_on = re.findall(r"trials/(\d+): goes on after epoch (\d+)", site.logs())
    assert len(released) >= 4
    assert sorted(released) == sorted(went_on), "no epoch is trained twice but the one that was broken off"


def test_jobs_shorter_than_the_sweep_come_back_until_it_is_done(sleeping: Site):
    site = sleeping
    # Slurm looks at its jobs every half minute: a limit of one minute and two seconds of notice leave a rank 28 to 58
    # seconds, and half a minute to go. Two trials of a minute after each other are more than two jobs.
    site.variables["SLEEPERS_EPOCH"] = "1"
    epochs = 60
    site.start(4, epochs, n_workers=1, n_ranks=2, time=1, signal_seconds=2)
    site.assert_all_finished_once(4, epochs)
    assert site.logs().count("the ranks ended with status 75") >= 2
    released = re.findall(r"trial (\d+) is released after epoch (\d+)", site.logs())
    went_on = re.findall(r"trials/(\d+): goes on after epoch (\d+)", site.logs())
    assert sorted(pair for pair in released if pair[1] != "0") == sorted(went_on)


def test_a_node_that_crashes_costs_no_trial(sleeping: Site):
    site = sleeping
    # More trials than the four ranks that are left can do before the job comes back.
    site.start(9, 600, n_workers=3, n_ranks=2)
    victims = site.until(
        lambda: [(number, owner) for number, owner in site.training() if owner.process.host == "node2"]
    )
    numbers = {number for number, _ in victims}
    record = site.sweep.worker(victims[0][1].job).record
    ranks = record.read_text()
    site.run("bash", str(SCRIPT), "crash-node", "node2")
    try:
        done = {number: leases.Lease(site.sweep.trial(number), 1).n_epochs() for number in numbers}
        site.until(lambda: "down" in site.run("sinfo", "--noheader", "--format=%T"))
    finally:
        site.run("bash", str(SCRIPT), "start-node", "node2")
    # By itself: the resume below would bring another one.
    site.until(lambda: record.read_text() != ranks)
    site.hurry()
    site.assert_all_finished_once(9, 600)
    went_on = dict(re.findall(r"trials/(\d+): goes on after epoch (\d+)", site.logs()))
    assert all(int(went_on[str(number)]) >= done[number] - 1 for number in numbers), "an epoch is lost at most"
    site.until(lambda: "down" not in site.run("sinfo", "--noheader", "--format=%T"), 60)


def test_a_sweep_whose_jobs_are_all_cancelled_is_resumed(sleeping: Site):
    site = sleeping
    site.start(4, 300, n_workers=2, n_ranks=2)
    numbers = {number for number, _ in site.until(site.training)}
    site.cancel_all()
    site.hurry()
    site.assert_all_finished_once(4, 300)
    site.assert_they_went_on_from_their_checkpoints(numbers)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"partition": "nowhere"}, "Slurm does not take the workers: .*invalid partition specified: nowhere"),
        ({"gpus_per_task": 5}, "Slurm does not take the workers: .*Requested node configuration is not available"),
        ({"partitoin": "main"}, r"site\.yaml\.partitoin: unknown key; did you mean partition\?"),
        ({"time": 0}, r"site\.yaml\.time: Input should be greater than or equal to 1"),
        ({"sbatch": {"array": "0-3"}}, r"site\.yaml\.sbatch: array is set elsewhere"),
        ({"nodes": 3}, "--ranks-per-worker 2: these ranks cannot be spread evenly over the 3 nodes"),
        ({"mpi": "none"}, "--ranks-per-worker 2: with `mpi: none` in the profile these ranks would not see each other"),
        ({"python": "it's"}, "bash cannot read what modules, setup and python are together"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wrong_profile_is_one_message_and_leaves_nothing(profile: dict[str, Any], message: str, site: Site):
    sweep, file = site.write(4, 2, **profile)
    size = ("--workers", "2", "--ranks-per-worker", "2")
    said = site.glrnn("sweep", sweep, "--out", "sweep", "--cluster", "slurm", "--profile", file, *size, status=2)
    assert re.search(message, said), said
    assert not site.sweep.root.exists()
    assert site.queue() == []


def test_ranks_of_a_trial_that_would_span_nodes_are_refused(site: Site):
    sweep, file = site.write(4, 2, nodes=2)
    content = config.load_yaml(site.folder / sweep)
    content["parameters"]["ranks_per_trial"] = 2
    (site.folder / sweep).write_text(config.dump_yaml(content))
    where = ("--cluster", "slurm", "--profile", file, "--ranks-per-worker")
    said = site.glrnn("sweep", sweep, "--out", "sweep", *where, "6", status=2)
    assert "on each of the 2 nodes of a worker (`nodes` of the profile) are 3 ranks" in said
    assert "choose a multiple of 4" in said
    assert not site.sweep.root.exists()


def test_a_machine_without_slurm_is_one_message(site: Site, monkeypatch):
    sweep, file = site.write(4, 2)
    monkeypatch.setitem(site.variables, "PATH", str(Path(sys.executable).parent))
    size = ("--workers", "2", "--ranks-per-worker", "2")
    said = site.glrnn("sweep", sweep, "--out", "sweep", "--cluster", "slurm", "--profile", file, *size, status=2)
    monkeypatch.undo()
    assert "--cluster slurm needs sbatch, which is not on this machine" in said
    assert not site.sweep.root.exists()


def test_restarts_of_ranks_that_were_near_their_memory_do_not_use_up_those_of_the_job(sleeping: Site):
    site = sleeping
    # Each trial leaves 300 MB in its rank; before the first one, it takes some 100.
    site.variables |= {"SLEEPERS_EPOCH": "0.01", "SLEEPERS_BALLAST": "300"}
    site.start(6, 3, 1, 1, "--memory", "600M", max_restarts=0)
    site.assert_all_finished_once(6, 3)
    (worker,) = site.sweep.all_workers()
    assert len(worker.memory_ends.read_text().splitlines()) >= 2
    assert max(trial.newest_generation() for trial, _ in site.generations()) == 1, "no trial was begun twice"
