"""Runs of W&B that the owners of a trial write, with the real client; nothing is trained here."""

from __future__ import annotations

import csv
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import config, layout
from glrnn_hpc.errors import ConfigError, SweepError, TrackingError
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.records.json_types import VERSION
from glrnn_hpc.records.tracking_settings import read_tracking_settings
from glrnn_hpc.records.trial_result import TrialEnding, TrialResult
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.tracking import bounded_calls, run, server, trial_tracker
from glrnn_hpc.tracking.offline_runs import offline_runs
from glrnn_hpc.tracking.run_from_records import write_run_from_records
from glrnn_hpc.tracking.service import service_pids
from glrnn_hpc.tracking.trial_tracker import TrialTracker
from tests.conftest import write_steps
from tests.offline import OfflineRun, metrics_of, newest, read_run

POINT = {"learning_rate": 1e-3}
METRICS = {"loss": 0.5, "mae": 0.4, "val_loss": 0.3, "val_mae": 0.2, "test_loss": 0.6, "test_mae": 0.5}


def spec_of(folder: Path, **labels: Any) -> SweepSpec:
    data = write_steps(folder / "a.hdf5")
    parameters = {"raw_data": str(data), "window_size": 3, "learning_rate": {"values": [1e-3, 1e-2]}}
    return load_sweep({"method": "random", "run_cap": 4, "parameters": parameters, **labels})


def make(folder: Path, **arguments: Any) -> layout.SweepFolder:
    spec = spec_of(folder, name="night", project="dem", entity="team")
    return run_sweep(spec, folder / "sweep", n_workers=0, **{"wandb": "offline", **arguments})


@pytest.fixture
def sweep(tmp_path: Path) -> layout.SweepFolder:
    return make(tmp_path)


def row(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "loss": 1 / epoch, "mae": 1.0, "val_loss": 2 / epoch, "val_mae": 1.0}


def result(state: Any = "finished", generation: int = 1, **other: Any) -> TrialResult:
    keys: dict[str, Any] = {"value": 0.3, "metrics": METRICS, "epochs": 3, "best_epoch": 2, "point": POINT, **other}
    return TrialResult(state=state, generation=generation, number=0, started=0.0, seconds=1.0, **keys)


def trained(sweep: layout.SweepFolder, number: int = 0, epochs: int = 3) -> layout.TrialFolder:
    """Write what a trial of some epochs leaves."""
    trial = sweep.trial(number)
    trial.root.mkdir(exist_ok=True)
    layout.write_text(trial.config, config.dump_yaml({"window_size": 3, "learning_rate": 1e-3}))
    layout.write_json(trial.train_stats, {"num_labels": 2})
    trial.model(weights_only=False).write_bytes(b"a model")
    with trial.metrics.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row(1)))
        writer.writeheader()
        writer.writerows(row(epoch) for epoch in range(1, epochs + 1))
    return trial


def track(tracker: TrialTracker, ending: TrialEnding, epochs: range, number: int = 0, generation: int = 1) -> None:
    tracker.begin(number, generation, POINT, {"window_size": 3, "learning_rate": 1e-3})
    for epoch in epochs:
        tracker.log(row(epoch))
    tracker.conclude(ending)


def begin(tracker: TrialTracker, sweep: layout.SweepFolder, generation: int = 1) -> int:
    """Begin trial 0 and wait until its run is open; return the process of W&B's service."""
    before = len(offline_runs(sweep.trial(0)))
    tracker.begin(0, generation, POINT, {})
    end = time.monotonic() + 60
    while len(offline_runs(sweep.trial(0))) == before:
        assert time.monotonic() < end
        time.sleep(0.01)
        tracker.log()
    (service,) = service_pids()
    return service


def epochs_of(found: OfflineRun) -> list[int]:
    return [each["epoch"] for each in metrics_of(found)]


def test_a_finished_trial_is_a_run_with_identity_configuration_history_summary_and_files(sweep: layout.SweepFolder):
    trial = trained(sweep)
    tracker = TrialTracker(sweep)
    tracker.prepare()
    track(tracker, result(), range(1, 4))
    tracker.close()
    assert service_pids() == []
    settings = read_tracking_settings(sweep)
    assert settings is not None
    (offline_run,) = offline_runs(trial)
    assert offline_run.folder.root.parent == trial.wandb
    assert offline_run.folder.log.name == f"run-{settings.prefix}-0.wandb"
    record = {"generation": 1, "state": "finished", "epochs": 3, "version": VERSION}
    assert layout.read_json(offline_run.folder.record) == record
    found = newest(trial)
    identity = (found.run.run_id, found.run.run_group, found.run.job_type, found.run.display_name)
    assert identity == (f"{settings.prefix}-0", "night", "trial", "trial 0")
    assert (found.run.project, found.run.entity, found.tags) == ("dem", "team", ["random"])
    assert found.config == {"raw_data": str(sweep.root.parent / "a.hdf5"), "window_size": 3, "learning_rate": 1e-3}
    tests = {"test_loss": 0.6, "test_mae": 0.5}
    assert metrics_of(found) == [row(1), row(2), {**row(3), **tests}]
    assert [each["_step"] for each in found.history] == [1, 2, 3]
    summary = {name: found.summary[name] for name in (*METRICS, "state", "epochs", "best_epoch")}
    assert summary == {**METRICS, "state": "finished", "epochs": 3, "best_epoch": 2}
    assert found.files == {"sweep.yaml", "train_stats.json", layout.MODEL_WHOLE}
    assert (found.exit_code, found.is_preempting, found.n_system_metrics) == (0, False, 0)
    model = trial.model(weights_only=False)
    assert (offline_run.folder.files / model.name).samefile(model), "a model takes its place on the disk once"
    assert (offline_run.folder.files / "config.yaml").read_bytes() == trial.config.read_bytes()


def test_pruned_and_failed_trials_say_so(sweep: layout.SweepFolder):
    tracker = TrialTracker(sweep)
    trained(sweep, 1)
    track(tracker, result("pruned"), range(1, 4), 1)
    error = result("failed", error="training diverged: loss is nan", metrics=None)
    track(tracker, error, range(1, 2), 2)
    track(tracker, error, range(0), 3)
    pruned, failed, early = (newest(sweep.trial(number)) for number in (1, 2, 3))
    assert (pruned.exit_code, pruned.summary["state"], pruned.tags) == (0, "pruned", ["random", "pruned"])
    assert (failed.exit_code, failed.summary["state"], failed.tags) == (1, "failed", ["random", "failed"])
    assert failed.summary["error"] == "training diverged: loss is nan"
    assert epochs_of(failed) == [1]
    assert (early.exit_code, early.history) == (1, [])


def test_a_trial_that_is_given_back_is_preempted_and_its_next_owner_tells_all_epochs(sweep: layout.SweepFolder):
    trial = trained(sweep)
    tracker = TrialTracker(sweep)
    track(tracker, "released", range(1, 4))
    first = newest(trial)
    assert (first.exit_code, first.is_preempting, first.summary["state"]) == (75, True, "given back")
    # The second owner dies without a word; the third goes on after epoch 2, where the checkpoint was.
    killed = TrialTracker(sweep)
    begin(killed, sweep, 2)
    killed.log(row(1), row(2), row(3), row(4))
    assert [offline_run.state for offline_run in offline_runs(trial)] == ["given back", "running"]
    bounded_calls.BoundedCalls().end_service()
    third = TrialTracker(sweep)
    third.begin(0, 3, POINT, {})
    third.log(row(1), row(2))
    third.log(row(3))
    third.conclude(result(generation=3))
    (offline_run,) = offline_runs(trial)
    assert (offline_run.generation, offline_run.state) == (3, "finished")
    found = newest(trial)
    assert found.run.run_id == first.run.run_id
    assert epochs_of(found) == [1, 2, 3]
    # The second one was only suspended: it has lost the trial, and leaves nothing.
    killed.conclude("abandoned")
    assert offline_runs(trial) == [offline_run]
    assert list(trial.wandb.iterdir()) == [offline_run.folder.root]


def test_the_result_of_another_owner_is_not_logged_as_ones_own(sweep: layout.SweepFolder):
    trial = trained(sweep)
    track(TrialTracker(sweep), result(generation=2), range(1, 4), generation=1)
    assert offline_runs(trial) == []


def test_the_run_of_a_trial_is_written_from_the_local_records(sweep: layout.SweepFolder, caplog):
    with pytest.raises(TrackingError, match="has no result"):
        write_run_from_records(sweep, 0)
    trial = trained(sweep)
    assert result("pruned", generation=2).publish(trial)
    left = TrialTracker(sweep)
    begin(left, sweep, 2)  # its owner died after it had published the result
    bounded_calls.BoundedCalls().end_service()
    offline_run = write_run_from_records(sweep, 0)
    assert offline_runs(trial) == [offline_run]
    found = newest(trial)
    assert epochs_of(found) == [1, 2, 3]
    assert found.config["learning_rate"] == 1e-3
    assert (found.exit_code, found.summary["state"], found.summary["test_mae"]) == (0, "pruned", 0.5)
    assert found.files == {"sweep.yaml", "train_stats.json", layout.MODEL_WHOLE}
    failed = sweep.trial(1)
    failed.root.mkdir()
    assert result("failed", error="no data", metrics=None).publish(failed)
    write_run_from_records(sweep, 1)
    assert (newest(failed).exit_code, newest(failed).config["learning_rate"]) == (1, 1e-3)
    (sweep.trial(1).wandb).rename(sweep.trial(1).root / "moved")
    (sweep.trial(1).wandb).touch()  # no folder can be made
    with pytest.raises(TrackingError, match="W&B cannot write its run"):
        write_run_from_records(sweep, 1)


def test_a_run_has_the_constants_of_the_start_whatever_becomes_of_the_sweep_file(sweep: layout.SweepFolder):
    content = config.load_yaml(sweep.sweep)
    for text in ("method: [", config.dump_yaml({**content, "method": "grid", "parameters": {"dense_units": 9}})):
        sweep.sweep.write_text(text)
        trial = trained(sweep)
        assert result().publish(trial)
        write_run_from_records(sweep, 0)
        found = newest(trial)
        assert (found.tags, found.config["raw_data"]) == (["random"], str(sweep.root.parent / "a.hdf5"))
        assert "dense_units" not in found.config
        layout.remove_folder(trial.root)
    # A folder of an earlier version.
    settings = {
        key: value for key, value in layout.read_json(sweep.tracking).items() if key not in ("method", "constants")
    }
    layout.write_json(sweep.tracking, settings)
    sweep.sweep.write_text(config.dump_yaml({**content, "method": "grid"}))
    trial = trained(sweep)
    assert result().publish(trial)
    write_run_from_records(sweep, 0)
    assert (newest(trial).tags, newest(trial).config["raw_data"]) == (["grid"], str(sweep.root.parent / "a.hdf5"))


def test_a_service_that_hangs_or_is_killed_costs_a_run_a_warning_and_little_time(
    sweep: layout.SweepFolder, caplog, monkeypatch
):
    monkeypatch.setattr(run, "STEP_SECONDS", 0.7)
    monkeypatch.setattr(run, "FINISH_SECONDS", {"offline": 0.7})
    trained(sweep)
    progress: list[None] = []
    tracker = TrialTracker(sweep, lambda: progress.append(None))

    def disturb(sign: signal.Signals) -> None:
        os.kill(begin(tracker, sweep), sign)
        tracker.log(row(1))
        tracker.conclude(result())

    with caplog.at_level(logging.INFO):
        disturb(signal.SIGSTOP)
        assert progress, "waiting for W&B is no hang of the rank"
        disturb(signal.SIGKILL)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([message for message in warnings if message.startswith("W&B")]) == 1
    assert [offline_run.is_final() for offline_run in offline_runs(sweep.trial(0))] == [False, False]
    track(tracker, result(), range(1, 4))
    assert offline_runs(sweep.trial(0))[-1].is_final(), "the next run has a service of its own"
    disturb(signal.SIGKILL)
    before = offline_runs(sweep.trial(0))
    track(tracker, result(), range(1, 4))
    assert offline_runs(sweep.trial(0)) == before, "W&B is not tried for ever"


def test_a_service_that_does_not_open_a_run_is_given_up(sweep: layout.SweepFolder, caplog, monkeypatch):
    trained(sweep)
    tracker = TrialTracker(sweep)
    track(tracker, result(), range(1, 4))
    (service,) = service_pids()
    os.kill(service, signal.SIGSTOP)
    monkeypatch.setattr(trial_tracker, "START_SECONDS", 0.5)
    tracker.begin(1, 1, POINT, {})
    tracker.log(row(1))
    time.sleep(0.6)
    tracker.log(row(2))
    tracker.conclude(result())
    assert "W&B cannot start, trial 1 goes on without it: TrackingError: no answer within 0.5 s" in caplog.text
    assert service_pids() == []
    assert offline_runs(sweep.trial(1)) == []


def test_a_rank_without_wandb_goes_on_after_one_warning(sweep: layout.SweepFolder, caplog, monkeypatch):
    trained(sweep)
    monkeypatch.setitem(sys.modules, "wandb", None)
    tracker = TrialTracker(sweep)
    tracker.prepare()
    for number in range(2):
        track(tracker, result(), range(1, 4), number)
    tracker.close()
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "W&B cannot start, trial 0 goes on without it: ModuleNotFoundError" in warnings[0]
    assert not sweep.trial(0).wandb.exists()


def test_a_full_disk_leaves_a_run_that_is_known_to_lack_something(tmp_path: Path, caplog):
    if os.geteuid() != 0:
        pytest.skip("a small file system must be mounted: run the tests as root")
    sweep = make(tmp_path)
    trial = trained(sweep)
    disk = trial.wandb
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], check=True)
    try:
        tracker = TrialTracker(sweep)
        begin(tracker, sweep)
        (offline_run,) = offline_runs(trial)
        (disk / "filler").write_bytes(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize))
        for epoch in range(1, 400):
            tracker.log(row(epoch))
        tracker.conclude(result())
        assert not offline_runs(trial)[-1].is_final()
        assert read_run(offline_run.folder.log).exit_code is None
        track(tracker, result(), range(1, 4), generation=2)
        assert result().publish(trial)
        with pytest.raises(TrackingError, match="trials/0: W&B"):
            write_run_from_records(sweep, 0)
        (disk / "filler").unlink()
        assert write_run_from_records(sweep, 0).is_final()
        assert epochs_of(newest(trial)) == [1, 2, 3]
    finally:
        bounded_calls.BoundedCalls().end_service()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # the client keeps its own log open
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING and "W&B" in each.message]) == 1


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_rank_has_a_service_of_its_own_and_none_is_left_when_it_is_killed(sweep: layout.SweepFolder):
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from glrnn_hpc import layout\n"
        "from glrnn_hpc.tracking import trial_tracker\n"
        "from glrnn_hpc.tracking.service import service_pids\n"
        "tracker = trial_tracker.TrialTracker(layout.SweepFolder(Path(sys.argv[1])))\n"
        "tracker.prepare()\n"
        "tracker.begin(0, 1, {}, {})\n"
        "while not service_pids():\n"
        "    time.sleep(0.01)\n"
        "print(*service_pids(), flush=True)\n"
        "time.sleep(60)\n"
    )
    # The variable by which W&B's client lets the processes that it starts share its service.
    variables = {**os.environ, "WANDB_SERVICE": "3-1-unix-/nowhere"}
    rank = subprocess.Popen([sys.executable, "-c", program, str(sweep.root)], stdout=subprocess.PIPE, env=variables)
    assert rank.stdout is not None
    service = int(rank.stdout.readline())
    rank.kill()
    rank.wait()
    # The end of what it prints: mpiexec waits for it.
    assert rank.stdout.read() == b""
    rank.stdout.close()
    # A process that ends closes its files before it is gone.
    deadline = time.monotonic() + 30
    while is_alive(service):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("anew")
def test_how_a_sweep_is_tracked_is_decided_once(tmp_path: Path, monkeypatch):
    for name, number in (("WANDB_PROJECT", "site"), ("WANDB_ENTITY", "group")):
        monkeypatch.setenv(name, number)
    monkeypatch.delenv("WANDB_MODE")
    plain = run_sweep(spec_of(tmp_path), tmp_path / "plain", n_workers=0)
    found = read_tracking_settings(plain)
    assert found is not None
    assert (found.mode, found.project, found.entity, found.group) == ("offline", "site", "group", "plain")
    assert (found.sweep_id, len(found.prefix)) == (None, 8)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    disabled = run_sweep(spec_of(tmp_path), tmp_path / "disabled", n_workers=0)
    assert read_tracking_settings(disabled) is None
    TrialTracker(disabled).begin(0, 1, {}, {})
    assert not disabled.trial(0).root.exists()
    given = run_sweep(spec_of(tmp_path), tmp_path / "given", n_workers=0, wandb="offline", wandb_sweep="me/dem/ab12")
    found = read_tracking_settings(given)
    assert found is not None
    assert (found.entity, found.project, found.sweep_id) == ("me", "dem", "ab12")
    trained(given)
    track(TrialTracker(given), result(), range(1, 2))
    assert newest(given.trial(0)).run.sweep_id == "ab12"
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ConfigError, match="WANDB_MODE: 'sometimes' is not one of offline, online, disabled"):
        run_sweep(spec_of(tmp_path), tmp_path / "no", n_workers=0)
    monkeypatch.delenv("WANDB_MODE")
    for wrong, sweep_id, message in (
        ("off", None, "--wandb: 'off' is not one of"),
        ("disabled", "ab12", "--wandb-sweep: no run would arrive there"),
        ("offline", "dem/ab12", "--wandb-sweep: 'dem/ab12' is neither create nor an id"),
        ("offline", "", "--wandb-sweep: '' is neither create nor an id"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_sweep(spec_of(tmp_path), tmp_path / "no", n_workers=0, wandb=wrong, wandb_sweep=sweep_id)
    assert not (tmp_path / "no").exists()
    with pytest.raises(SweepError, match="holds a sweep already"):
        run_sweep(spec_of(tmp_path), given.root, n_workers=0, wandb_sweep="create", wandb="offline")


def test_a_sweep_on_a_server_that_is_not_there_is_refused_within_seconds(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(TrackingError, match=r"no API key for W&B's server http://127\.0\.0\.1:9: run `wandb login`"):
        make(tmp_path, wandb_sweep="create")
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login user password {'k' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    with pytest.raises(TrackingError, match="cannot be reached: URLError: .*refused.*; run this on a node with inter"):
        make(tmp_path, wandb_sweep="create")
    assert not (tmp_path / "sweep").exists()
    with pytest.raises(TrackingError, match="cannot be reached"):
        server.require_server()
