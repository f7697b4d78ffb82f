"""Memory of a worker: where its limit comes from, and what happens near it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glrnn_hpc import processes
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.worker.memory import MemoryWatch, memory_limit, size_in_bytes

MB = 2**20


@pytest.mark.parametrize(
    ("text", "size"),
    [("16G", 16 * 1024 * MB), ("16GB", 16 * 1024 * MB), ("800m", 800 * MB), ("500", 500 * MB), ("2T", 2**41)]
    + [("much", None), ("-1G", None), ("", None)],
)
def test_a_size_is_read_as_slurm_reads_it(text: str, size: int | None):
    assert size_in_bytes(text) == size


@pytest.mark.parametrize(
    ("plan", "limit"),
    [
        (LaunchPlan(), 900),
        (LaunchPlan(workers_per_node=3), 300),
        (LaunchPlan(memory="1G", profile={"mem": "2G"}), 1024),
        (LaunchPlan(profile={"mem": "2G"}), 2048),
        (LaunchPlan(profile={"mem": "0"}), 900),
    ],
)
def test_the_limit_is_the_plans_or_the_profiles_or_the_kernels(plan: LaunchPlan, limit: int):
    assert memory_limit(plan, 900 * MB) == limit * MB
    assert memory_limit(LaunchPlan(), None) is None


@pytest.mark.parametrize("version", [1, 2])
def test_the_kernels_limit_is_the_smallest_of_the_groups_around_a_process(version: int, tmp_path: Path):
    top, name = (tmp_path / "memory", "memory.limit_in_bytes") if version == 1 else (tmp_path, "memory.max")
    unlimited = str(2**63 - 4096) if version == 1 else "max"
    (top / "slurm/job_7/step_0").mkdir(parents=True)
    for folder, text in (("", unlimited), ("slurm", unlimited), ("slurm/job_7", str(900 * MB))):
        (top / folder / name).write_text(text)
    (top / "slurm/job_7/step_0" / name).write_text(unlimited)
    of_process = tmp_path / "cgroup"
    of_process.write_text(("3:cpu,memory:" if version == 1 else "0::") + "/slurm/job_7/step_0\n1:name=systemd:/x\n")
    assert processes.memory_limit(tmp_path, of_process) == 900 * MB
    (top / "slurm/job_7" / name).write_text(unlimited)
    assert processes.memory_limit(tmp_path, of_process) is None
    assert processes.memory_limit(tmp_path, tmp_path / "nowhere") is None


def test_the_memory_of_processes_is_counted_without_what_they_map_from_files():
    before = processes.memory_of([os.getpid()])
    ballast = b"x" * 64 * MB
    grown = processes.memory_of([os.getpid()]) - before
    assert len(ballast) * 0.9 < grown < len(ballast) * 1.5
    assert processes.memory_of([0]) == 0, "one that is gone has none"


def test_ranks_that_come_near_their_limit_tell_the_whole_worker_to_end(tmp_path: Path):
    pids = [os.getpid()]
    limit = processes.memory_of(pids) + 32 * MB
    limit += limit // 5
    watch = MemoryWatch(limit, pids, tmp_path / "full")
    elsewhere = MemoryWatch(None, [], tmp_path / "full")
    assert not watch.is_ending_requested(True)
    assert not elsewhere.is_ending_requested(True)
    ballast = b"x" * (limit // MB) * MB
    assert not watch.is_ending_requested(False), "a worker that ends does a trial first"
    assert not elsewhere.is_ending_requested(True)
    assert watch.is_ending_requested(True)
    del ballast
    assert elsewhere.is_ending_requested(False)


def test_a_limit_below_what_ranks_take_before_their_first_trial_is_said_and_not_watched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    watch = MemoryWatch(MB, [os.getpid()], tmp_path / "full")
    assert "before their first trial, of 1 MB: their memory is not watched" in caplog.text
    assert not watch.is_ending_requested(True)
