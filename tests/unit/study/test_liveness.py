from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from glrnn_hpc import layout, processes
from glrnn_hpc.launch import local
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import Timing
from glrnn_hpc.study import liveness


@pytest.fixture
def sweep(tmp_path: Path) -> layout.SweepFolder:
    folder = layout.SweepFolder(tmp_path)
    folder.worker("w").root.mkdir(parents=True)
    return folder


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    seen = processes.process(child.pid)
    assert seen.is_alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not seen.is_alive(), "nobody has waited for it yet"
    child.communicate()


def test_a_worker_is_alive_while_one_of_its_processes_is(sweep: layout.SweepFolder):
    folder = sweep.worker("w")
    assert not liveness.is_alive(folder)
    me = processes.this_process()
    layout.write_json(folder.started, vars(me))
    assert liveness.is_alive(folder), "its launcher has started it, but it has not registered yet"
    liveness.register(folder, [processes.Process(me.host, me.pid, "another start"), me])
    assert liveness.is_alive(folder)
    liveness.register(folder, [processes.Process(me.host, me.pid, "another start")])
    assert not liveness.is_alive(folder)
    liveness.register(folder, [processes.Process("elsewhere", 1, "?")])
    assert liveness.is_alive(folder)
    layout.write_json(folder.ended, {"status": 0})
    assert not liveness.is_alive(folder)


def test_an_owner_is_dead_when_its_process_is_gone_or_its_heartbeat_stands_still(sweep: layout.SweepFolder):
    now = 1000.0
    observer = liveness.Observer(sweep, Timing(heartbeat=15, dead_after=90), clock=lambda: now)
    me = processes.this_process()
    assert observer.is_dead(Owner("w", 0, processes.Process(me.host, ended_pid(), "1")))
    far = Owner("w", 1, processes.Process("elsewhere", 1, "1"))
    heartbeat = liveness.Heartbeat(sweep.worker("w"), 15)
    heartbeat.beat()
    assert not observer.is_dead(far)
    now += 80
    heartbeat.beat()
    assert not observer.is_dead(far)
    now += 90
    assert not observer.is_dead(far), "90 s are not more than 90 s"
    now += 0.1
    assert observer.is_dead(far)
    heartbeat.beat()
    assert not observer.is_dead(far), "a suspended worker that woke up is alive again"
    layout.write_json(sweep.worker("w").ended, {"status": 1})
    assert observer.is_dead(far)


def test_a_worker_that_never_had_a_heartbeat_dies_too(sweep: layout.SweepFolder):
    now = 0.0
    observer = liveness.Observer(sweep, Timing(dead_after=90), clock=lambda: now)
    owner = Owner("never", 0, processes.Process("elsewhere", 1, "1"))
    assert not observer.is_dead(owner)
    now = 91.0
    assert observer.is_dead(owner)


def test_a_heart_beats_until_it_is_stopped(sweep: layout.SweepFolder):
    heartbeat = liveness.Heartbeat(sweep.worker("w"), 0.02)
    heartbeat.start()
    end = time.monotonic() + 10
    while not sweep.worker("w").heartbeat.exists() or sweep.worker("w").heartbeat.read_text() < "3":
        assert time.monotonic() < end
        time.sleep(0.01)
    heartbeat.stop()
    heartbeat.join()


def test_a_heart_outlives_a_file_system_that_is_away(tmp_path: Path, caplog):
    liveness.Heartbeat(layout.WorkerFolder(tmp_path / "gone"), 1).beat()
    assert "no heartbeat" in caplog.text


def test_a_rank_without_progress_ends_itself(caplog):
    ended = threading.Event()
    now = 0.0
    watchdog = liveness.Watchdog(0.02, end=ended.set, clock=lambda: now)
    watchdog.start()
    now = 0.015
    watchdog.progress()
    now = 0.03
    assert not ended.wait(0.1), "its last progress was 0.015 s ago"
    now = 0.04
    assert ended.wait(10)
    assert "no progress for 0.02 s (hang_timeout)" in caplog.text


def test_a_watchdog_that_is_stopped_ends_no_process(caplog):
    ended = []
    watchdog = liveness.Watchdog(0.2, end=lambda: ended.append(True))
    watchdog.start()
    watchdog.stop()
    watchdog.join(10)
    assert (watchdog.is_alive(), ended, caplog.text) == (False, [], "")


def test_what_dead_processes_left_is_removed_and_what_living_ones_write_is_kept(sweep: layout.SweepFolder):
    host, dead = socket.gethostname(), ended_pid()
    trial = sweep.trial(0).checkpoint(1)
    trial.mkdir(parents=True)
    left = [trial / f".{host}-{dead}-01234567.model-best.keras", sweep.root / f".{host}-{dead}-89abcdef.state.json"]
    kept = [
        trial / f".{host}-{os.getpid()}-01234567.metrics.csv",
        sweep.root / f".elsewhere-{dead}-01234567.state.json",
        sweep.root / ".gitignore",
    ]
    for path in left + kept:
        path.touch()
    (sweep.root / f".{host}-{dead}-00000000.best").mkdir()
    gone = sweep.worker("gone")
    gone.root.mkdir()
    segment = Path("/dev/shm/mpich_shm_of_a_test")
    segment.touch()
    liveness.register(
        gone, [processes.Process(host, dead, "1"), processes.Process("elsewhere", 77, "1")], [segment.name]
    )
    layout.write_json(gone.ended, {})
    far = sweep.root / ".elsewhere-77-01234567.heartbeat"
    far.touch()
    liveness.clean_up(sweep)
    assert sorted(sweep.root.rglob(".*")) == sorted(kept)
    assert not segment.exists()


def test_a_job_that_came_back_removes_what_its_own_ranks_left_on_another_node(sweep: layout.SweepFolder):
    trial = sweep.trial(0).root
    trial.mkdir(parents=True)
    left, others = trial / ".node2-64-0a1b2c3d.heartbeat", trial / ".node3-64-0a1b2c3d.heartbeat"
    for file in (left, others):
        file.touch()
    folder = sweep.worker("7_1")
    folder.root.mkdir(parents=True)
    liveness.clean_up_after(sweep, folder)
    assert left.exists(), "nobody was there before"
    liveness.register(folder, [processes.Process("node2", 64, "1"), processes.Process("node2", 65, "1")])
    liveness.clean_up_after(sweep, folder)
    assert not left.exists()
    assert others.exists()


def test_an_owner_is_dead_when_its_job_runs_again_with_other_processes(sweep: layout.SweepFolder):
    observer = liveness.Observer(sweep, Timing())
    before, after = (processes.Process(host, 1, "1") for host in ("node-a", "node-b"))
    liveness.register(sweep.worker("w"), [before])
    liveness.Heartbeat(sweep.worker("w"), 15).beat()
    assert not observer.is_dead(Owner("w", 0, before))
    liveness.register(sweep.worker("w"), [after])
    assert observer.is_dead(Owner("w", 0, before))
    assert not observer.is_dead(Owner("w", 0, after))


def test_workers_of_other_hosts_are_told_by_their_heartbeats(sweep: layout.SweepFolder):
    here, there, still = (sweep.worker(name) for name in ("w", "there", "still"))
    for folder in (there, still):
        folder.root.mkdir()
        liveness.register(folder, [processes.Process("elsewhere", 1, "1")])
        liveness.Heartbeat(folder, 15).beat()
    liveness.register(here, [processes.this_process()])
    assert [liveness.is_elsewhere(folder) for folder in (here, there, still)] == [False, True, True]
    heartbeat = liveness.Heartbeat(there, 0.05)
    heartbeat.start()
    assert liveness.are_beating([there, still], 0.5) == [there]
    heartbeat.stop()
    heartbeat.join()


@pytest.mark.parametrize(("told", "said"), [(b"go\n", b"worked"), (b"", b"")])
def test_a_worker_whose_launcher_died_before_it_was_noted_does_not_begin(told: bytes, said: bytes):
    program = [*local.START_GATE, sys.executable, "-c", "print('worked', end='')"]
    ran = subprocess.run(program, input=told, capture_output=True, check=False)
    assert ran.stdout == said
    assert (ran.returncode == 0) == bool(said)
