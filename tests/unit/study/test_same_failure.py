"""Sweeps whose first trials fail with the same error: when they stop, and when they go on."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import processes
from glrnn_hpc.records.ownership import WorkerRecord
from glrnn_hpc.records.sweep_state import LaunchPlan, read_sweep_state
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation, study
from tests.unit.study.test_study import owner, settle, sweep

#: Three failures for each of two ranks.
ENOUGH = 6

BROKEN = "KeyError: 'smoothing' of <object at 0x7f12ab>"


def make(root: Path, n_trials: int = 20, **plan: Any) -> study.SweepStudy:
    plan = {"workers": 1, "ranks_per_worker": 2, **plan}
    return study.SweepStudy(creation.create(root / "sweep", load_sweep(sweep()), n_trials, LaunchPlan(**plan)))


def fail(seen: study.SweepStudy, count: int = 1, error: str = BROKEN) -> None:
    for _ in range(count):
        claim = seen.claim(owner())
        assert claim is not None
        settle(seen, claim, "failed", error=error)


def state_of(seen: study.SweepStudy) -> tuple[str, str | None]:
    state = read_sweep_state(seen.folder)
    return state.state, state.reason


def test_a_sweep_stops_when_three_trials_of_each_rank_failed_with_the_same_error(tmp_path: Path, caplog):
    seen = make(tmp_path)
    fail(seen, ENOUGH - 1)
    assert state_of(seen) == ("running", None)
    with caplog.at_level(logging.ERROR):
        fail(seen, error=f"{BROKEN.replace('0x7f12ab', '0x7f9900')}\nand a line more")
    assert state_of(seen) == ("running", None), "another error"
    seen = make(tmp_path / "other")
    fail(seen, ENOUGH - 1)
    with caplog.at_level(logging.ERROR):
        fail(seen, error=BROKEN.replace("0x7f12ab", "0x7f9900"))
    reason = "the first 6 trials failed with the same error: KeyError: 'smoothing' of <object at 0x>"
    assert state_of(seen) == ("cancelled", reason)
    assert f"the sweep is stopped: {reason}" in caplog.text
    assert [slot.state for slot in seen.slots()] == ["failed"] * 6 + ["waiting"] * 14


def test_an_error_that_names_a_file_of_its_trial_is_the_same_error(tmp_path: Path):
    seen = make(tmp_path)
    for number in range(ENOUGH):
        fail(seen, error=f"{seen.folder.trial(number).root}/a.csv: cannot be written")
    reason = f"the first 6 trials failed with the same error: {seen.folder.trials}/N/a.csv: cannot be written"
    assert state_of(seen) == ("cancelled", reason)


@pytest.mark.parametrize("state", ["finished", "pruned"])
def test_a_sweep_of_which_a_trial_ended_well_goes_on(state: str, tmp_path: Path):
    seen = make(tmp_path)
    claim = seen.claim(owner())
    assert claim is not None
    settle(seen, claim, state, value=1.0)
    fail(seen, 2 * ENOUGH)
    assert state_of(seen) == ("running", None)


def test_a_sweep_of_which_a_running_trial_has_an_epoch_goes_on(tmp_path: Path):
    seen = make(tmp_path)
    claim = seen.claim(owner())
    assert claim is not None
    metrics = seen.folder.trial(claim.number).generation(1).metrics
    metrics.write_text("epoch,val_loss\n")
    fail(seen, ENOUGH - 1)
    metrics.write_text("epoch,val_loss\n1,0.5\n")
    fail(seen)
    assert state_of(seen) == ("running", None)
    metrics.write_text("epoch,val_loss\n")
    fail(seen)
    assert state_of(seen)[0] == "cancelled"


def test_ranks_that_train_together_count_as_one(tmp_path: Path):
    spec = sweep()
    spec["parameters"]["ranks_per_trial"] = {"value": 2}
    plan = LaunchPlan(workers=1, ranks_per_worker=2)
    seen = study.SweepStudy(creation.create(tmp_path / "sweep", load_sweep(spec), 20, plan))
    fail(seen, 3)
    assert state_of(seen)[0] == "cancelled"


def test_where_a_script_starts_the_workers_those_that_registered_count(tmp_path: Path):
    seen = make(tmp_path, workers=0, ranks_per_worker=1)
    fail(seen, ENOUGH)
    assert state_of(seen) == ("running", None), "nobody knows how many ranks there are"
    worker = seen.folder.worker("job")
    worker.root.mkdir()
    WorkerRecord((processes.this_process(),) * 2).write(worker)
    fail(seen)
    assert state_of(seen)[0] == "cancelled"


def test_a_sweep_with_nothing_left_to_train_is_finished_and_not_stopped(tmp_path: Path):
    seen = make(tmp_path, ENOUGH)
    fail(seen, ENOUGH)
    assert state_of(seen) == ("running", None)
    seen.end_if_finished()
    assert state_of(seen) == ("finished", "every trial is final")


def test_the_rule_can_be_switched_off(tmp_path: Path):
    seen = make(tmp_path, keep_going=True)
    fail(seen, 2 * ENOUGH)
    assert state_of(seen) == ("running", None)


def test_after_a_resume_the_trials_that_failed_before_do_not_count(tmp_path: Path):
    seen = make(tmp_path, 40)
    fail(seen, ENOUGH)
    assert seen.retry_failed() == list(range(ENOUGH))
    seen.change_state(lambda state: replace(state, state="running", reason=None, n_failed_before=seen.n_failed()))
    fail(seen, ENOUGH - 1, "another error")
    assert state_of(seen) == ("running", None)
    fail(seen, 1, "another error")
    assert state_of(seen) == ("cancelled", "the first 6 trials failed with the same error: another error")
