"""Loop of a rank over trials: results, failures, adoption, cancellation, preemption."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import layout, processes
from glrnn_hpc.errors import ModelError
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import Timing, read_sweep_state
from glrnn_hpc.records.trial_result import TrialEnding, TrialOutcome, TrialResult, read_trial_result
from glrnn_hpc.study import leases, liveness, study
from glrnn_hpc.worker import trial_loop
from glrnn_hpc.worker.preemption import PreemptionNotice
from tests.unit.study.test_study import make, owner

FINISHED = TrialOutcome(state="finished", value=0.5, metrics={"val_loss": 0.5})


@pytest.fixture
def seen(tmp_path: Path) -> study.SweepStudy:
    return make(tmp_path / "sweep")


#: How the trials ended, in their order.
ENDINGS: list[TrialEnding] = []


def run(seen: study.SweepStudy, train: Any, seconds: float = 0.0) -> study.Claim:
    claim = seen.claim(owner())
    ENDINGS.clear()
    guard = trial_loop.Guard(seen, claim, seconds, liveness.Watchdog(60))
    trial_loop.run(seen, claim, train, guard, lambda _, ending: ENDINGS.append(ending))
    return claim


def result_of(claim: study.Claim, generation: int) -> TrialResult:
    return replace(claim.result_of(FINISHED, started=0.0, seconds=1.0), generation=generation)


def adopt(seen: study.SweepStudy, claim: study.Claim) -> leases.Lease:
    lease = leases.take(claim.lease.folder, owner("adopter"), claim.lease.generation + 1)
    assert lease is not None
    return lease


def test_a_result_is_published_and_settled(seen: study.SweepStudy):
    claim = run(seen, lambda claim, guard: FINISHED)
    result = layout.read_json(claim.lease.folder.result)
    assert {"state", "value", "metrics", "number", "point", "started", "seconds", "generation", "version"} == set(
        result
    )
    assert (result["number"], result["point"], result["generation"]) == (0, claim.point, 1)
    assert (seen.slots()[0].state, seen.slots()[0].value) == ("finished", 0.5)
    assert [read_trial_result(claim.lease.folder)] == ENDINGS


def test_a_trial_that_raises_is_failed_with_its_reason(seen: study.SweepStudy):
    def wrong(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        raise ModelError("the model does not fit")

    def bug(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        return TrialOutcome(state="finished", value=1 / 0)

    first, second = run(seen, wrong), run(seen, bug)
    assert layout.read_json(first.lease.folder.result)["error"] == "the model does not fit"
    result = layout.read_json(second.lease.folder.result)
    assert result["error"] == "ZeroDivisionError: division by zero"
    assert "1 / 0" in result["traceback"]
    assert [slot.state for slot in seen.slots()] == ["failed", "failed", "waiting", "waiting"]


def test_a_full_disk_ends_the_rank_and_leaves_the_trial_to_be_adopted(seen: study.SweepStudy):
    def full(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ValueError("the model cannot be saved") from error

    with pytest.raises(ValueError, match="cannot be saved"):
        run(seen, full)
    assert seen.slots()[0].state == "running"
    assert seen.adopt(owner("new"), lambda _: True).number == 0


def test_a_rank_of_a_cancelled_sweep_releases_its_trial(seen: study.SweepStudy):
    def cancelled(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        guard.step()
        seen.change_state(lambda state: replace(state, state="cancelled"))
        guard.step()
        raise AssertionError("the guard lets a cancelled sweep go on")

    run(seen, cancelled)
    assert ENDINGS == ["released"]
    assert seen.slots()[0].is_released
    assert not seen.folder.trial(0).result.exists()


def test_the_guard_looks_at_the_files_once_per_heartbeat(seen: study.SweepStudy):
    def unseen(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        seen.change_state(lambda state: replace(state, state="cancelled"))
        for _ in range(100):
            guard.step()
        return FINISHED

    run(seen, unseen, seconds=60)
    assert seen.slots()[0].state == "finished"


@pytest.mark.parametrize(
    ("way", "said"), [("guard", "this one abandons it"), ("error", "here it ended with"), ("result", "is dropped")]
)
def test_an_owner_whose_trial_was_adopted_leaves_no_trace(way: str, said: str, seen: study.SweepStudy, caplog):
    caplog.set_level(logging.WARNING)
    taken = []

    def late(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        taken.append(adopt(seen, claim))
        if way == "guard":
            guard.check()
        if way == "error":
            raise FileNotFoundError(errno.ENOENT, "the checkpoint's folder is gone")
        return TrialOutcome(state="failed", error="late")

    claim = run(seen, late)
    assert ENDINGS == ["abandoned"]
    assert f"adopted by another worker; {said}" in caplog.text or f"; this result {said}" in caplog.text
    assert not claim.lease.folder.result.exists()
    assert seen.slots()[0].state == "running"
    assert taken[0].publish(result_of(claim, 2))
    assert seen.settle(0).generation == 2
    assert seen.slots()[0].value == 0.5


def test_a_rank_that_loses_the_race_to_publish_settles_the_winners_result(seen: study.SweepStudy):
    def slow(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        # Another one published and died before it could settle the trial.
        assert replace(result_of(claim, 1), value=0.25).publish(claim.lease.folder)
        return TrialOutcome(state="failed", error="late")

    run(seen, slow)
    assert (seen.slots()[0].state, seen.slots()[0].value) == ("finished", 0.25)


def test_a_trial_is_settled_later_if_the_study_is_away_for_a_moment(seen: study.SweepStudy, caplog):
    away = seen.folder.journal.with_name("away")

    def lost(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        seen.folder.journal.rename(away)
        threading.Timer(0.5, away.rename, [seen.folder.journal]).start()
        return FINISHED

    run(seen, lost)
    assert "trial 0 cannot be settled in the study yet" in caplog.text
    assert seen.slots()[0].state == "finished"


def test_a_rank_works_until_every_trial_is_final_and_ends_the_sweep(seen: study.SweepStudy):
    timing = Timing(heartbeat=0.05, dead_after=0.2)
    dead = seen.claim(owner("dead"))  # its heartbeat never comes
    dead.lease.folder.generation(1).metrics.write_text("epoch\n")
    numbers = []

    def train(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        numbers.append((claim.number, claim.lease.generation))
        return FINISHED

    far = Owner("dead", 0, processes.Process("elsewhere", 1, "1"))
    layout.write_json(
        dead.lease.folder.lease(1), {"job": far.job, "rank": 0, "process": vars(far.process), "time": 0.0}
    )
    trial_loop.work_on_trials(seen, owner(), timing, train, liveness.Watchdog(60))
    assert numbers == [(1, 1), (2, 1), (3, 1), (0, 2)]
    assert layout.read_json(seen.folder.state)["reason"] == "every trial is final"


@pytest.mark.parametrize(("rank", "numbers"), [(0, [0, 1, 2, 3]), (1, [1, 2, 3, 0])])
def test_the_first_rank_of_a_worker_takes_the_trials_of_the_dead_before_waiting_ones(
    rank: int, numbers: list[int], seen: study.SweepStudy
):
    far = Owner("dead", 0, processes.Process("elsewhere", 1, "1"))
    assert seen.claim(far).number == 0
    ended = seen.folder.worker("dead").ended
    ended.parent.mkdir(parents=True)
    layout.write_json(ended, {})
    trained = []

    def train(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        trained.append(claim.number)
        return FINISHED

    me = Owner("me", rank, processes.this_process())
    # One look at the beginning; the other one when nothing waits.
    trial_loop.work_on_trials(seen, me, Timing(heartbeat=0.2, dead_after=60), train, liveness.Watchdog(60))
    assert trained == numbers


def test_a_rank_that_leaves_says_so_and_stays_if_the_sweep_was_resumed_meanwhile(seen: study.SweepStudy, monkeypatch):
    worker = seen.folder.worker(owner().job)
    worker.root.mkdir(parents=True)
    states = iter(["cancelled", "running"])
    before = read_sweep_state(seen.folder)
    monkeypatch.setattr(trial_loop, "read_sweep_state", lambda _: replace(before, state=next(states, "cancelled")))
    assert trial_loop._is_running(seen, owner())
    assert not worker.leaving.exists()
    assert not trial_loop._is_running(seen, owner())
    assert worker.leaving.exists()


def test_an_owner_that_comes_after_the_result_removes_what_it_wrote(seen: study.SweepStudy):
    def late(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        winner = adopt(seen, claim)
        assert winner.publish(result_of(claim, 2))
        seen.settle(0)
        folder = claim.lease.folder.checkpoint(1)
        folder.mkdir(exist_ok=True)
        (folder / "state.npz").write_bytes(b"of an epoch that nobody wants")
        guard.check()
        raise AssertionError("the check above must not return")

    claim = run(seen, late)
    assert not claim.lease.folder.checkpoint(1).exists()
    assert layout.read_json(claim.lease.folder.result)["generation"] == 2


def test_a_rank_that_is_to_leave_releases_its_trial_at_the_next_step(seen: study.SweepStudy):
    requested = threading.Event()

    def train(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        guard.step()  # within the heartbeat: no file is looked at
        requested.set()
        guard.step()
        raise AssertionError("the step above must not return")

    arguments = (Timing(heartbeat=60.0), train, liveness.Watchdog(60))
    trial_loop.work_on_trials(seen, owner(), *arguments, is_leaving_requested=requested.is_set)
    assert [slot.state for slot in seen.slots()] == ["running", "waiting", "waiting", "waiting"]
    assert seen.slots()[0].is_released
    assert not seen.folder.worker("w").leaving.exists(), "the same job comes back"
    assert seen.adopt_released(owner("new")).lease.generation == 2


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_rank_notes_the_signals_that_ask_it_to_leave_and_goes_on(number: signal.Signals):
    before = signal.getsignal(number)
    with contextlib.closing(PreemptionNotice()) as preemption:
        assert not preemption.is_leaving_requested()
        os.kill(os.getpid(), number)
        assert preemption.is_leaving_requested()
    assert signal.getsignal(number) == before, "a process that did a debug sweep can be ended again"


def test_a_rank_that_is_to_end_finishes_its_trial_and_claims_no_other(seen: study.SweepStudy):
    ending = threading.Event()

    def train(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        ending.set()
        guard.check()
        return FINISHED

    arguments = (Timing(), train, liveness.Watchdog(60))
    trial_loop.work_on_trials(seen, owner(), *arguments, is_ending_requested=lambda _: ending.is_set())
    assert [slot.state for slot in seen.slots()] == ["finished", "waiting", "waiting", "waiting"]
    assert read_sweep_state(seen.folder).state == "running"


def test_a_rank_says_with_each_question_whether_it_has_trained_a_trial(seen: study.SweepStudy):
    asked = []

    def is_ending_requested(has_trained: bool) -> bool:
        asked.append(has_trained)
        return has_trained

    arguments = (Timing(), lambda claim, guard: FINISHED, liveness.Watchdog(60))
    trial_loop.work_on_trials(seen, owner(), *arguments, is_ending_requested=is_ending_requested)
    assert asked == [False, True]
    assert [slot.state for slot in seen.slots()] == ["finished", "waiting", "waiting", "waiting"]


def test_a_rank_that_is_to_end_when_every_trial_is_final_ends_the_sweep(seen: study.SweepStudy):
    def train(claim: study.Claim, guard: trial_loop.Guard) -> TrialOutcome:
        return FINISHED

    arguments = (Timing(), train, liveness.Watchdog(60))
    trial_loop.work_on_trials(seen, owner(), *arguments, is_ending_requested=lambda _: seen.is_finished())
    assert read_sweep_state(seen.folder).state == "finished"
