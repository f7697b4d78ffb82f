"""The trials of a real sweep, among them killed, adopted, pruned and failed ones, on their way to W&B."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import config, layout
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.study import leases
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.tracking.offline_runs import offline_runs
from glrnn_hpc.tracking.sync import sync
from glrnn_hpc.tracking.sync_marks import read_marks
from glrnn_hpc.tracking.upload import SyncTimeouts
from tests.conftest import write_steps
from tests.tracking.server import WandbServer

N_TRIALS, EPOCHS = 12, 40
TIMEOUTS = SyncTimeouts(stall=3, silence=60, confirmation=10)


def start(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    command = [sys.executable, "-m", "glrnn_hpc", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def end_of(process: subprocess.Popen[str], *expected: int) -> None:
    with process:
        try:
            _, said = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode in expected, said


def glrnn(cwd: Path, *arguments: str) -> None:
    end_of(start(cwd, *arguments), 0, 3)


def signal_owner_of(study: SweepStudy, number: int, generation: int, sign: signal.Signals) -> None:
    """Wait until that generation of a trial has finished an epoch of its own, and send a signal to its process."""
    trial, end = study.folder.trial(number), time.monotonic() + 120
    while True:
        assert time.monotonic() < end, [slot.state for slot in study.slots()]
        has_epoch = trial.checkpoint_file(generation).exists()
        owner = leases.owner_of(trial, generation) if has_epoch else None
        if owner is not None:
            os.kill(owner.process.pid, sign)
            return
        time.sleep(0.005)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> layout.SweepFolder:
    """Return a sweep of 12 trials; four of them fail.

    In the first trial its worker was killed twice, and then told to leave; `given-back` beside the sweep is a copy of
    what it left.
    """
    root = tmp_path_factory.mktemp("trained")
    data = write_steps(root / "a.hdf5", n_samples=8)
    fixed = {"raw_data": str(data), "lstm_units": 4, "dense_units": 4, "batch_size": 8, "epochs": EPOCHS}
    rates = {"values": [1e-3, 2e-3, 1e30]}
    searched = {"seed": {"values": [1, 2]}, "window_size": {"values": [3, 4]}, "learning_rate": rates}
    content = {
        "name": "dem",
        "project": "twelve",
        "method": "grid",
        "metric": {"name": "val_loss", "goal": "minimize"},
        "early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 2},
        "parameters": {**fixed, **searched, "patience": EPOCHS, "train_frac": 0.5, "val_frac": 0.25},
    }
    (root / "s.yaml").write_text(config.dump_yaml(content))
    times = ("--heartbeat", "0.5", "--dead-after", "20", "--hang-timeout", "120")
    glrnn(root, "sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", "1", "--no-wait", *times)
    sweep = layout.SweepFolder(root / "sweep")
    study = SweepStudy(sweep)
    signal_owner_of(study, 0, 1, signal.SIGKILL)
    glrnn(root, "resume", "sweep", "--no-wait")
    signal_owner_of(study, 0, 2, signal.SIGKILL)
    worker = start(root, "worker", "sweep", "--job", "by-hand", "--ranks", "1")
    signal_owner_of(study, 0, 3, signal.SIGUSR2)
    end_of(worker, 75)
    shutil.copytree(sweep.root, root / "given-back")
    glrnn(root, "resume", "sweep")
    return sweep


@pytest.fixture
def sweep(trained: layout.SweepFolder, tmp_path: Path, server: WandbServer) -> layout.SweepFolder:
    """Return a copy of the sweep that the server knows nothing of; its run ids are its own."""
    folder = layout.SweepFolder(tmp_path / "sweep")
    shutil.copytree(trained.root, folder.root)
    server.proxy.recorder.forget_project("twelve")
    return folder


def results_of(sweep: layout.SweepFolder) -> list[dict[str, Any]]:
    return [layout.read_json(sweep.trial(number).result) for number in range(N_TRIALS)]


def test_the_trials_of_a_sweep_arrive_whole_each_once(server: WandbServer, sweep: layout.SweepFolder):
    results = results_of(sweep)
    counts = Counter(result["state"] for result in results)
    assert counts["failed"] == 4
    assert counts["finished"] >= 1
    assert counts["pruned"] >= 1
    assert sweep.trial(0).newest_generation() == 4, "killed twice and given back"

    outcomes = sync(sweep.root, timeouts=TIMEOUTS)
    assert [(each.name, each.state) for each in outcomes] == [(f"trial {k}", "synced") for k in range(N_TRIALS)]
    runs = server.proxy.recorder.runs_of("twelve")
    prefix = layout.read_json(sweep.tracking)["prefix"]
    assert set(runs) == {f"{prefix}-{number}" for number in range(N_TRIALS)}
    for number, result in enumerate(results):
        run, trial = runs[f"{prefix}-{number}"], sweep.trial(number)
        kept = server.asked(f"/api/v2/runs/{prefix}-{number}")["run"]
        assert (run.said("groupName"), run.said("jobType"), run.said("displayName")) == (
            "dem",
            "trial",
            f"trial {number}",
        )
        assert run.state == ("failed" if result["state"] == "failed" else "finished")
        assert run.summary["state"] == kept["summary"]["state"] == result["state"]
        assert {key: run.config[key] for key in ("seed", "window_size", "learning_rate", "epochs")} == {
            **result["point"],
            "epochs": EPOCHS,
        }
        rows = read_metrics(trial.metrics).rows
        assert [row["epoch"] for row in run.history] == [row["epoch"] for row in rows], "complete, none twice"
        assert [row["val_loss"] for row in run.history] == pytest.approx([row["val_loss"] for row in rows])
        assert run.n_lines == len(run.history)
        if result["state"] != "finished":
            assert result["state"] in run.said("tags")
        if result["state"] == "failed":
            assert "learning_rate=1e+30" in run.summary["error"]
            continue
        assert run.summary["val_loss"] == kept["summary"]["val_loss"] == pytest.approx(result["metrics"]["val_loss"])
        assert run.files["train_stats.json"] == trial.train_stats.read_bytes()
        assert run.files[layout.MODEL_WHOLE] == trial.model(weights_only=False).read_bytes()
        assert config.load_yaml(sweep.sweep) == config.parse_yaml(run.files["sweep.yaml"].decode(), "sweep.yaml")

    n_operations = len(server.proxy.recorder.operations)
    again = subprocess.run(
        [sys.executable, "-m", "glrnn_hpc", "sync", str(sweep.root), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    content = json.loads(again.stdout)
    assert (again.returncode, content["synced"], content["skipped"], content["failed"]) == (0, 0, N_TRIALS, 0)
    assert len(server.proxy.recorder.operations) == n_operations


def test_a_server_that_dies_in_the_middle_loses_nothing(server: WandbServer, sweep: layout.SweepFolder):
    recorder = server.proxy.recorder
    prefix = layout.read_json(sweep.tracking)["prefix"]
    late = tuple(f"/{prefix}-{number}/file_stream" for number in range(8, N_TRIALS))

    def die_at_the_first_mark(method: str, path: str, body: bytes) -> int | None:
        if any(sweep.trials.glob("*/wandb/*/synced.json")):
            server.kill()
        # Four of the five that the client sends at a time do not end before.
        return 500 if path.endswith(late) else None

    recorder.faults.append(die_at_the_first_mark)
    started = time.monotonic()
    try:
        outcomes = sync(sweep.root, timeouts=TIMEOUTS)
        assert time.monotonic() - started < 120
    finally:
        recorder.faults.clear()
        server.kill()
        server.start()
    states = Counter(each.state for each in outcomes)
    assert states["synced"] >= 1
    assert states["failed"] >= 1
    assert set(states) == {"synced", "failed"}
    assert all("cannot be reached" in each.reason for each in outcomes if each.state == "failed")
    runs = [offline_runs(sweep.trial(number))[-1] for number in range(N_TRIALS)]
    assert sum(offline_run.folder.synced.exists() for offline_run in runs) == states["synced"]

    later = Counter(each.state for each in sync(sweep.root, timeouts=TIMEOUTS))
    assert later == {"synced": states["failed"], "skipped": states["synced"]}
    runs = recorder.runs_of("twelve")
    assert len(runs) == N_TRIALS
    for run in runs.values():
        assert [row["epoch"] for row in run.history] == list(range(1, len(run.history) + 1))


def test_a_trial_that_w_and_b_missed_is_written_from_its_records(server: WandbServer, sweep: layout.SweepFolder):
    finished = next(number for number, result in enumerate(results_of(sweep)) if result["state"] == "finished")
    for number in range(N_TRIALS):
        if number != finished:
            layout.remove_folder(sweep.trial(number).root)
    shutil.rmtree(sweep.trial(finished).wandb)
    (planned,) = sync(sweep.root, is_dry=True)
    assert (planned.state, planned.reason) == ("would sync", "from the records of the trial")
    (outcome,) = sync(sweep.root, timeouts=TIMEOUTS)
    assert outcome.state == "synced", outcome.reason
    (run,) = server.proxy.recorder.runs_of("twelve").values()
    assert [row["epoch"] for row in run.history] == [
        row["epoch"] for row in read_metrics(sweep.trial(finished).metrics).rows
    ]
    assert layout.MODEL_WHOLE in run.files


def test_a_damaged_log_of_a_trial_is_written_anew_from_its_records(server: WandbServer, sweep: layout.SweepFolder):
    finished = next(number for number, result in enumerate(results_of(sweep)) if result["state"] == "finished")
    for number in range(N_TRIALS):
        if number != finished:
            layout.remove_folder(sweep.trial(number).root)
    (offline_run,) = offline_runs(sweep.trial(finished))
    mark = {"path": "me/twelve/x", "server": "http://elsewhere", "at": "2026-01-01T00:00:00+00:00"}
    layout.write_json(offline_run.folder.synced, [mark])
    content = offline_run.folder.log.read_bytes()
    offline_run.folder.log.write_bytes(content[: len(content) // 2])
    (outcome,) = sync(sweep.root, timeouts=TIMEOUTS)
    assert outcome.state == "synced", outcome.reason
    (run,) = server.proxy.recorder.runs_of("twelve").values()
    assert run.state == "finished"
    assert len(run.history) == len(read_metrics(sweep.trial(finished).metrics).rows)
    (offline_run,) = offline_runs(sweep.trial(finished))
    assert [mark.server for mark in read_marks(offline_run.folder)] == ["http://elsewhere", server.proxy.url]


def test_a_trial_that_was_given_back_is_sent_as_far_as_it_is_and_its_end_later(
    server: WandbServer, trained: layout.SweepFolder, tmp_path: Path
):
    folder = layout.SweepFolder(tmp_path / "sweep")
    shutil.copytree(trained.root.with_name("given-back"), folder.root)
    server.proxy.recorder.forget_project("twelve")
    assert len(list(folder.trials.iterdir())) == 1
    (waiting,) = sync(folder.root, timeouts=TIMEOUTS)
    assert (waiting.state, waiting.reason) == ("skipped", "is not finished")
    (outcome,) = sync(folder.root, include_unfinished=True, timeouts=TIMEOUTS)
    assert (outcome.state, outcome.reason) == ("synced", "so far; it is not finished")
    run_id = f"{layout.read_json(folder.tracking)['prefix']}-0"
    run = server.proxy.recorder.runs_of("twelve")[run_id]
    n_before = len(run.history)
    assert 1 <= n_before < EPOCHS
    assert [row["epoch"] for row in run.history] == list(range(1, n_before + 1))
    assert (run.exit_codes, run.state, run.summary["state"]) == ([75], "failed", "given back")
    assert not list(folder.root.rglob("*synced*")), "more of it will come"

    shutil.rmtree(folder.root)
    shutil.copytree(trained.root, folder.root)
    for number in range(1, N_TRIALS):
        layout.remove_folder(folder.trial(number).root)
    (outcome,) = sync(folder.root, timeouts=TIMEOUTS)
    assert (outcome.state, outcome.reason) == ("synced", "")
    runs = server.proxy.recorder.runs_of("twelve")
    assert list(runs) == [run_id], "the same run"
    result, rows = layout.read_json(folder.trial(0).result), read_metrics(folder.trial(0).metrics).rows
    assert (result["state"], result["generation"], len(rows)) == ("finished", 4, EPOCHS)
    assert [row["epoch"] for row in run.history] == [row["epoch"] for row in rows], "complete, none twice"
    assert [row["val_loss"] for row in run.history] == pytest.approx([row["val_loss"] for row in rows])
    assert (run.exit_codes, run.state, run.summary["state"]) == ([75, 0], "finished", "finished")
    assert run.files[layout.MODEL_WHOLE] == folder.trial(0).model(weights_only=False).read_bytes()
    kept = server.asked(f"/api/v2/runs/{run_id}")["run"]
    assert (kept["state"], kept["summary"]["state"]) == ("finished", "finished")
    assert kept["summary"]["val_loss"] == pytest.approx(result["metrics"]["val_loss"])
