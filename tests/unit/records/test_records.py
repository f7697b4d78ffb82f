"""Records of a sweep: what is written is read again, records of version 0.1.0 too, and broken ones are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.processes import Process
from glrnn_hpc.records.json_types import FIRST_VERSION, VERSION
from glrnn_hpc.records.metrics import Metrics, read_metrics
from glrnn_hpc.records.ownership import (
    Owner,
    WorkerRecord,
    read_lease_owner,
    read_started,
    read_worker_record,
    write_started,
)
from glrnn_hpc.records.sweep_state import LaunchPlan, SweepState, Timing, read_sweep_state
from glrnn_hpc.records.trial_result import TrialOutcome, TrialResult, read_trial_result
from glrnn_hpc.records.utilisation import Devices, Utilisation, read_utilisation

RESULT = TrialResult(
    state="finished",
    value=0.25,
    metrics={"val_loss": 0.25, "test_loss": 0.5},
    epochs=3,
    best_epoch=2,
    software={"python": "3.11"},
    number=7,
    generation=2,
    point={"learning_rate": 1e-3, "pressure": ["0.2e6", "0.5e6"]},
    started=100.0,
    seconds=5.0,
)

STATE = SweepState(
    state="running",
    n_trials=4,
    created=100.0,
    launch=LaunchPlan(workers=2, cluster="slurm", profile={"partition": "short"}, timing=Timing(1.0, 2.0, 3.0)),
)


@pytest.fixture
def trial(tmp_path: Path) -> layout.TrialFolder:
    return layout.TrialFolder(tmp_path)


@pytest.fixture
def sweep(tmp_path: Path) -> layout.SweepFolder:
    return layout.SweepFolder(tmp_path)


def change(path: Path, **keys: Any) -> None:
    """Change keys of a JSON file; those that are None are removed."""
    content = {**json.loads(path.read_text()), **keys}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_a_result_is_read_as_it_was_published_and_only_once(trial: layout.TrialFolder):
    assert RESULT.publish(trial)
    assert not replace(RESULT, value=0.1).publish(trial)
    assert read_trial_result(trial) == RESULT


def test_a_result_has_the_keys_of_version_0_1_0_and_its_version(trial: layout.TrialFolder):
    RESULT.publish(trial)
    assert list(json.loads(trial.result.read_text())) == [
        *("state", "value", "metrics", "epochs", "best_epoch", "software"),
        *("number", "generation", "point", "started", "seconds", "version"),
    ]


def test_a_failed_trial_has_no_keys_that_do_not_apply(trial: layout.TrialFolder):
    outcome = TrialOutcome(state="failed", error="no data")
    TrialResult.of(outcome, number=0, generation=1, point={}, started=0.0, seconds=0.0).publish(trial)
    assert set(json.loads(trial.result.read_text())) == {
        *("state", "error", "number", "generation", "point", "started", "seconds", "version")
    }
    assert read_trial_result(trial).metrics is None


def test_a_result_without_version_is_of_version_0_1_0(trial: layout.TrialFolder):
    RESULT.publish(trial)
    change(trial.result, version=None)
    assert read_trial_result(trial) == replace(RESULT, version=FIRST_VERSION)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"state": None}, "it has no state"),
        ({"state": "done"}, "state must be one of finished, pruned, failed, it is 'done'"),
        ({"number": "7"}, "number must be a whole number, it is '7'"),
        ({"generation": True}, "generation must be a whole number, it is True"),
        ({"seconds": float("nan")}, "seconds must be a finite number, it is nan"),
        ({"point": [1]}, r"point must be a mapping, it is \[1\]"),
        ({"metrics": {"val_loss": "low"}}, "metrics must be numbers by name"),
    ],
)
def test_a_broken_result_is_named_with_its_file(keys: dict[str, Any], message: str, trial: layout.TrialFolder):
    RESULT.publish(trial)
    change(trial.result, **keys)
    with pytest.raises(RecordError, match=f"result.json: is broken: {message}"):
        read_trial_result(trial)


def test_a_state_is_read_as_it_was_written_with_the_launch_settings_beside_it(sweep: layout.SweepFolder):
    STATE.write(sweep)
    assert read_sweep_state(sweep) == STATE
    content = json.loads(sweep.state.read_text())
    assert (content["workers"], content["timing"]["dead_after"], content["version"]) == (2, 2.0, VERSION)
    assert not {"reason", "is_past_target", "launch"} & set(content)


def test_a_state_that_is_written_again_has_the_version_of_the_writer(sweep: layout.SweepFolder):
    STATE.write(sweep)
    change(sweep.state, version=None)
    old = read_sweep_state(sweep)
    assert old.version == FIRST_VERSION
    replace(old, state="finished", reason="every trial is final", is_past_target=True).write(sweep)
    new = read_sweep_state(sweep)
    assert (new.version, new.reason, new.is_past_target) == (VERSION, "every trial is final", True)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"created": None}, "it has no created"),
        ({"created": "yesterday"}, "created must be a finite number, it is 'yesterday'"),
        ({"state": "paused"}, "state is 'paused', not running, cancelled, finished"),
        ({"timing": 15}, "timing must be a mapping, it is 15"),
        ({"timing": {"heartbeat": 1}}, "timing has no dead_after, hang_timeout"),
    ],
)
def test_a_broken_state_is_named_with_its_file(keys: dict[str, Any], message: str, sweep: layout.SweepFolder):
    STATE.write(sweep)
    change(sweep.state, **keys)
    with pytest.raises(RecordError, match=f"state.json: is broken: {message}"):
        read_sweep_state(sweep)


def test_metrics_are_read_as_they_were_written_to_the_last_digit(tmp_path: Path):
    metrics = Metrics.numbered([{"loss": 0.1, "val_loss": 1 / 3}]).with_epoch({"epoch": 2, "loss": 1e-30})
    metrics.write(tmp_path / "metrics.csv")
    assert (tmp_path / "metrics.csv").read_text() == "epoch,loss,val_loss\n1,0.1,0.3333333333333333\n2,1e-30,\n"
    assert read_metrics(tmp_path / "metrics.csv") == metrics
    assert metrics.values("val_loss") == [1 / 3]
    assert metrics.n_epochs == 2


def test_a_training_without_metrics_has_no_epochs(tmp_path: Path):
    assert read_metrics(tmp_path / "metrics.csv").n_epochs == 0


def test_broken_metrics_are_named_with_their_file(tmp_path: Path):
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,\x00\n")
    with pytest.raises(RecordError, match="metrics.csv: is broken"):
        read_metrics(tmp_path / "metrics.csv")


def test_lines_of_utilisation_are_read_with_their_worker_and_torn_ones_left_out(sweep: layout.SweepFolder):
    line = Utilisation(
        rank=1,
        host="node-7",
        trial=None,
        ended=10.0,
        seconds={"fit": 2.0},
        spans=(("fit", 2.0),),
        devices=Devices(threads=4, gpu=None, visible="0,1"),
    )
    worker = sweep.worker("a")
    worker.root.mkdir(parents=True)
    line.append(worker.utilisation)
    with worker.utilisation.open("a") as file:
        file.write('{"rank": 1, "ended": NaN, "seconds": {}}\n{"rank": 1, "ended"')
    assert list(read_utilisation(sweep)) == [("a", line)]


def test_a_lease_belongs_to_the_first_owner_that_publishes_it(trial: layout.TrialFolder):
    first, second = (Owner(job, 0, Process("node-7", 1, "5")) for job in ("a", "b"))
    assert first.publish(trial, 1)
    assert not second.publish(trial, 1)
    assert read_lease_owner(trial, 1) == first


def test_a_broken_lease_is_named_with_its_file(trial: layout.TrialFolder):
    trial.lease(1).write_text('{"job": "a", "rank": 0, "process": {"host": "node-7"}}')
    with pytest.raises(RecordError, match="lease-1.json: is broken"):
        read_lease_owner(trial, 1)


def test_the_processes_of_a_worker_are_read_as_they_were_written(sweep: layout.SweepFolder):
    folder = sweep.worker("a")
    folder.root.mkdir(parents=True)
    assert (read_worker_record(folder), read_started(folder)) == (None, None)
    process = Process("node-7", 1, "5")
    record = WorkerRecord((process, Process("node-8", 2, "6")), ("mpich_shm_1",))
    record.write(folder)
    write_started(folder, process)
    assert (read_worker_record(folder), read_started(folder)) == (record, process)
