"""Slots, leases, death and adoption under random kills and suspensions, with trials that sleep."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.records.sweep_state import LaunchPlan, Timing
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation, leases, liveness, study

N_TRIALS = 240
N_WORKERS = 8
#: Trials that are not final, at most; fewer than workers.
N_WAITING = 6
#: Fractions of a second, so that a minute holds many deaths.
TIMING = Timing(heartbeat=0.1, dead_after=0.8, hang_timeout=60)


def sleeping_sweep(root: Path, n_trials: int) -> layout.SweepFolder:
    keys = {"raw_data": "none.hdf5", "learning_rate": {"min": 1e-3, "max": 1e-2}}
    spec = load_sweep({"method": "random", "run_cap": n_trials, "parameters": keys})
    return creation.create(root, spec, n_trials, LaunchPlan())


class Crowd:
    """Worker processes that are killed, suspended and started again."""

    def __init__(self, folder: layout.SweepFolder, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._started = 0
        self.living: list[subprocess.Popen[bytes]] = []
        self.sleeping: dict[int, tuple[subprocess.Popen[bytes], float]] = {}

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.drills.sleeper", self._folder.root, f"w{self._started}", self._seconds]
        command += [TIMING.heartbeat, TIMING.dead_after, TIMING.hang_timeout]
        log = (self._folder.root / f"log-{self._started}").open("wb")
        self.living.append(subprocess.Popen(list(map(str, command)), stdout=log, stderr=log))
        log.close()
        self._started += 1

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait()
        self.living.remove(worker)

    def suspend(self, worker: subprocess.Popen[bytes], seconds: float) -> None:
        worker.send_signal(signal.SIGSTOP)
        self.sleeping[worker.pid] = worker, time.monotonic() + seconds

    def wake(self, *, everybody: bool = False) -> None:
        for pid, (worker, end) in list(self.sleeping.items()):
            if everybody or time.monotonic() > end:
                with contextlib.suppress(ProcessLookupError):
                    worker.send_signal(signal.SIGCONT)
                del self.sleeping[pid]

    def awake(self) -> list[subprocess.Popen[bytes]]:
        self.living = [worker for worker in self.living if worker.poll() is None]
        return [worker for worker in self.living if worker.pid not in self.sleeping]

    def end(self) -> None:
        self.wake(everybody=True)
        for worker in self.living:
            worker.wait(60)


def holders_of_trials(seen: study.SweepStudy) -> set[int]:
    running = [seen.folder.trial(slot.number) for slot in seen.slots() if slot.state == "running"]
    owners = [leases.owner_of(trial, trial.newest_generation()) for trial in running]
    return {owner.process.pid for owner in owners if owner is not None}


def test_random_deaths_and_suspensions_lose_no_trial_and_double_none(tmp_path: Path):
    seed = int(os.environ.get("GLRNN_DRILL_SEED", "7"))
    chance = random.Random(seed)
    folder = sleeping_sweep(tmp_path / "sweep", N_WAITING)
    crowd = Crowd(folder, seconds=0.3)
    seen = study.SweepStudy(folder)
    kills = suspensions = 0
    end = time.monotonic() + 240
    while not seen.is_finished() or len(seen.slots()) < N_TRIALS:
        assert time.monotonic() < end, f"seed {seed}: {collections.Counter(slot.state for slot in seen.slots())}"
        # Few trials wait at any time: ranks are often without work, and adopt from the suspended soon.
        n_final = sum(slot.value is not None for slot in seen.slots())
        seen.add_slots(min(N_TRIALS, n_final + N_WAITING))
        state = layout.read_json(folder.state)
        if state["state"] == "finished":
            layout.write_json(folder.state, {**state, "state": "running"})
        crowd.wake()
        while len(crowd.awake()) < N_WORKERS:
            crowd.start()
        time.sleep(chance.uniform(0.02, 0.3))
        holders = holders_of_trials(seen)
        victims = [worker for worker in crowd.awake() if worker.pid in holders]
        if not victims:
            continue
        if chance.random() < 0.2 and kills < 40:
            crowd.kill(chance.choice(victims))
            kills += 1
        elif chance.random() < 0.7 and len(crowd.sleeping) < 3:
            # Some wake before they count as dead, most after their trial was adopted.
            crowd.suspend(chance.choice(victims), chance.uniform(0.2, 4.0))
            suspensions += 1
    crowd.end()
    liveness.clean_up(folder)

    slots = study.SweepStudy(folder).slots()
    assert [slot.number for slot in slots] == list(range(N_TRIALS))
    assert {slot.state for slot in slots} == {"finished"}
    assert [slot.value for slot in slots] == [float(number) for number in range(N_TRIALS)]
    starts = [tuple(map(int, line.split())) for line in (folder.root / "starts").read_text().splitlines()]
    owners = collections.Counter((number, generation) for number, generation, _ in starts)
    assert max(owners.values()) == 1, f"seed {seed}: a generation had two owners"
    for number in range(N_TRIALS):
        trial = folder.trial(number)
        result = layout.read_json(trial.result)
        assert result["number"] == number
        assert 1 <= result["generation"] <= trial.newest_generation()
        assert (number, result["generation"]) in owners
        names = {path.name for path in trial.root.iterdir()}
        leases = {f"lease-{generation}.json" for generation in range(1, trial.newest_generation() + 1)}
        assert names == {"result.json", *leases}, f"seed {seed}: trial {number} has {names}"
    adopted = sum(folder.trial(number).newest_generation() > 1 for number in range(N_TRIALS))
    logs = "".join(path.read_text() for path in folder.root.glob("log-*"))
    abandoned = logs.count("was adopted by another worker")
    assert "Traceback" not in logs, logs
    assert kills >= 10
    assert suspensions >= 10
    assert adopted >= 20
    assert abandoned >= 3
    assert [path for path in folder.root.rglob(".*")] == []


def test_a_rank_that_hangs_ends_itself_and_its_trial_is_adopted(tmp_path: Path):
    folder = sleeping_sweep(tmp_path / "sweep", 1)
    command = [sys.executable, "-m", "tests.drills.sleeper", str(folder.root)]
    # A step takes ten seconds, which is no progress for a rank that must make some every second.
    hanging = subprocess.run([*command, "hangs", "100", "0.1", "0.8", "1"], check=False, stderr=subprocess.PIPE)
    assert hanging.returncode == 1
    assert b"no progress for 1 s (hang_timeout)" in hanging.stderr
    assert study.SweepStudy(folder).slots()[0].state == "running"
    subprocess.run([*command, "works", "0.1", "0.1", "0.8", "60"], check=True)
    assert study.SweepStudy(folder).slots()[0].state == "finished"
    assert folder.trial(0).newest_generation() == 2
