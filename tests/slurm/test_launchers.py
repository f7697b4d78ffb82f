"""Contract of every launcher, wherever its workers run: on this machine and on Slurm."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from glrnn_hpc import layout
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.study import leases, liveness
from tests.slurm.conftest import TIMES, Site, process_of
from tests.users_files import names_that_were_run, write_files_named_like_libraries

SIZE = ("--workers", "2", "--ranks-per-worker", "2")


class Place:
    """A site, and how one of the launchers is asked to start workers there."""

    def __init__(self, site: Site, cluster: str) -> None:
        self.site = site
        self.cluster = cluster
        self.sweep = site.sweep

    def start(self, n_trials: int, epochs: int, *more: str) -> str:
        sweep, profile = self.site.write(n_trials, epochs)
        where = ("--cluster", "slurm", "--profile", profile) if self.cluster == "slurm" else ()
        return self.site.glrnn("sweep", sweep, "--out", "sweep", *where, *SIZE, *TIMES, *more)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.site.glrnn("status", "sweep", "--json"))
        return found

    def jobs(self) -> set[str]:
        return {worker.root.name for worker in self.sweep.all_workers()}

    def kill(self, owner: Owner) -> None:
        pid = owner.process.pid if self.cluster == "local" else process_of(owner.process.pid, owner.job)
        os.kill(pid, signal.SIGKILL)

    def is_quiet(self) -> bool:
        if self.cluster == "slurm":
            return not self.site.queue()
        return not any(liveness.is_alive(worker) for worker in self.sweep.all_workers())


@pytest.fixture(params=["local", "slurm"])
def place(request: pytest.FixtureRequest, sleeping: Site) -> Iterator[Place]:
    made = Place(sleeping, request.param)
    yield made
    if made.sweep.root.exists():
        sleeping.glrnn("cancel", "sweep", status=None)
        sleeping.until(made.is_quiet)


def test_the_workers_that_were_asked_for_do_all_trials_and_no_more_come_afterwards(place: Place):
    write_files_named_like_libraries(place.site.folder)
    place.start(6, 30)
    assert names_that_were_run(place.site.folder) == []
    found = place.status()
    assert (found["state"], found["trials"]["finished"]) == ("finished", 6)
    owners = [row["where"].split(":") for row in found["table"]]
    assert {job for _, job, _ in owners} <= place.jobs()
    assert {rank for *_, rank in owners} <= {"0", "1"}
    assert len(place.jobs()) == 2
    assert place.site.until(place.is_quiet, 30)
    place.site.glrnn("resume", "sweep")
    assert len(place.jobs()) == 2


def test_workers_need_no_launcher_and_resume_brings_those_that_are_missing(place: Place):
    place.start(6, 200, "--no-wait")
    owner = place.site.until(place.site.training)[0][1]
    others = {each.process for _, each in place.site.training() if each.job != owner.job}
    place.kill(owner)
    place.site.glrnn("resume", "sweep", "--no-wait")
    place.site.hurry()
    place.site.glrnn("resume", "sweep")
    found = place.status()
    assert (found["state"], found["trials"]["finished"]) == ("finished", 6)
    assert [row["epochs"] for row in found["table"]] == [200] * 6
    if place.cluster == "slurm":
        assert f"the ranks ended with status 137: job {owner.job} is put into the queue again" in place.site.logs()
    held = [leases.owner_of(trial, generation) for trial, generation in place.site.generations()]
    assert len(held) > 6, "at least one trial was adopted"
    by_job = {each.job: {lease.process for lease in held if lease and lease.job == each.job} for each in held if each}
    assert all(others <= by_job[job] for job in by_job if others & by_job[job]), "the other worker went on"


def test_cancel_releases_the_trials_and_resume_goes_on_with_them(place: Place):
    place.start(4, 300, "--no-wait")
    numbers = {number for number, _ in place.site.until(place.site.training)}
    place.site.glrnn("cancel", "sweep")
    place.site.until(place.is_quiet, 60)
    found = place.status()
    assert (found["state"], found["trials"]["running"], found["trials"]["finished"]) == ("cancelled", 0, 0)
    place.site.hurry()
    place.site.glrnn("resume", "sweep")
    found = place.status()
    assert (found["state"], found["trials"]["finished"]) == ("finished", 4)
    assert [row["epochs"] for row in found["table"]] == [300] * 4
    assert all(layout.read_json(place.sweep.trial(number).result)["generation"] > 1 for number in numbers)


def test_workers_that_cannot_work_say_why_and_are_not_started_for_ever(place: Place):
    sweep, profile = place.site.write(4, 2)
    place.site.glrnn("sweep", sweep, "--out", "sweep", "--workers", "0")
    (place.site.folder / "a.hdf5").write_bytes(b"overwritten by something else")
    where = ("--cluster", "slurm", "--profile", profile) if place.cluster == "slurm" else ("--cluster", "local")
    said = place.site.glrnn("resume", "sweep", *where, *SIZE, status=2)
    assert "has ended, but trials are left" in said
    assert f"{place.site.folder / 'a.hdf5'}: is truncated or no HDF5 file" in said
    assert "`glrnn resume " in said
    assert len(place.jobs()) == 2, "none was started again"
    assert place.site.until(place.is_quiet, 30)
