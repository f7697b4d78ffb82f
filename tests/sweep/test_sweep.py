"""Real sweeps: real MPI ranks, real worker processes, the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import config, layout, predict
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.errors import ConfigError, DataError, LaunchError, SweepError, WindowError
from glrnn_hpc.launch import local, resume_sweep, run_sweep
from glrnn_hpc.launch.slurm.profile import Profile
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import Timing, read_sweep_state
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.status import summarize
from glrnn_hpc.worker import preemption
from tests.conftest import write_steps
from tests.losses import losses_of
from tests.sleepers.trainer import HURRY
from tests.sweep.sweeps import owners, spec_of
from tests.users_files import names_that_were_run, write_files_named_like_libraries


def until(condition: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def glrnn(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glrnn_hpc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=300)


def test_a_cluster_that_is_none_and_a_profile_that_nobody_reads_are_refused(tmp_path: Path):
    spec = spec_of(write_steps(tmp_path / "a.hdf5"))
    with pytest.raises(ConfigError, match="--cluster: 'Slurm' is not one of local, slurm, debug"):
        run_sweep(spec, tmp_path / "out", cluster="Slurm")
    assert not (tmp_path / "out").exists()
    run_sweep(spec, tmp_path / "out", n_workers=0)
    with pytest.raises(
        ConfigError, match="--profile: belongs to --cluster slurm, and this sweep runs with --cluster local"
    ):
        resume_sweep(tmp_path / "out", profile=Profile())
    with pytest.raises(ConfigError, match="--cluster: 'slrum' is not one of"):
        resume_sweep(tmp_path / "out", cluster="slrum")


@pytest.mark.usefixtures("sleeping")
def test_a_killed_launcher_loses_nothing_and_resume_completes_the_sweep(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    (tmp_path / "s.yaml").write_text(config.dump_yaml(spec_of(data, epochs=20).as_dict()))
    folder = layout.SweepFolder(tmp_path / "sweep")
    command = [sys.executable, "-m", "glrnn_hpc", "sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", "2"]
    launcher = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: list(folder.trials.glob("*/checkpoint-1/state.npz")))
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    resume_sweep(folder.root)
    assert len(folder.all_workers()) == 1, "the worker outlived its launcher, so none was missing"
    assert summarize(folder.root)["trials"]["finished"] == 6
    assert len(owners(folder)) == 6


@pytest.mark.usefixtures("sleeping")
def test_killed_workers_are_replaced_and_their_trials_adopted(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    (tmp_path / "s.yaml").write_text(config.dump_yaml(spec_of(data, epochs=20).as_dict()))
    folder = layout.SweepFolder(tmp_path / "sweep")
    started = glrnn("sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", 2, "--no-wait", cwd=tmp_path)
    assert started.returncode == 0, started.stderr
    until(lambda: list(folder.trials.glob("*/checkpoint-1/state.npz")))
    for rank in layout.read_json(folder.all_workers()[0].record)["ranks"]:
        os.kill(rank["pid"], signal.SIGKILL)
    interrupted = len(owners(folder))
    resume_sweep(folder.root)
    summary = summarize(folder.root)
    assert summary["trials"]["finished"] == 6
    assert len(folder.all_workers()) == 2
    assert len(owners(folder)) >= 6
    generations = [layout.read_json(folder.trial(number).result)["generation"] for number in range(6)]
    assert 2 in generations
    assert interrupted >= 1
    assert list(folder.root.rglob(".*")) == []
    resume_sweep(folder.root)  # a finished sweep has nothing to resume
    assert len(folder.all_workers()) == 2


@pytest.mark.usefixtures("sleeping")
def test_a_cancelled_sweep_gives_its_trials_back_and_resume_goes_on_with_them(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    (tmp_path / "s.yaml").write_text(config.dump_yaml(spec_of(data, 3, epochs=150).as_dict()))
    folder = layout.SweepFolder(tmp_path / "sweep")
    start = ["sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", 2, "--heartbeat", "0.2", "--no-wait"]
    assert glrnn(*start, cwd=tmp_path).returncode == 0
    until(lambda: len(list(folder.trials.glob("*/checkpoint-1/state.npz"))) == 2)
    cancelled = glrnn("cancel", "sweep", "--json", cwd=tmp_path)
    assert cancelled.returncode == 0, cancelled.stderr
    assert json.loads(cancelled.stdout)["state"] == "cancelled"
    until(lambda: not any(liveness.is_alive(worker) for worker in folder.all_workers()))
    summary = summarize(folder.root)
    assert summary["trials"] == {"finished": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 3}
    done = max(row["epochs"] for row in summary["table"])
    assert 0 < done < 150
    (tmp_path / HURRY).touch()
    resumed = glrnn("resume", "sweep", "--trials", 4, "--json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    after = json.loads(resumed.stdout)
    assert after["trials"]["finished"] == 4
    assert [row["epochs"] for row in after["table"]] == [150] * 4
    assert sorted(row["generation"] for row in after["table"]) == [1, 1, 2, 2]
    refused = glrnn("cancel", "sweep", cwd=tmp_path)
    assert (refused.returncode, "is finished already" in refused.stderr) == (2, True)
    fewer = glrnn("resume", "sweep", "--trials", 2, cwd=tmp_path)
    assert (fewer.returncode, "has 4 trials already" in fewer.stderr) == (2, True)


@pytest.mark.usefixtures("sleeping")
def test_a_sweep_that_reached_its_target_goes_on_when_more_trials_are_asked_for(tmp_path: Path):
    spec = spec_of(write_steps(tmp_path / "a.hdf5"), 3)
    spec = load_sweep({**spec.as_dict(), "metric": {"name": "val_loss", "goal": "minimize", "target": 1e9}})
    folder = run_sweep(spec, tmp_path / "sweep", ranks_per_worker=1)
    assert summarize(folder.root)["trials"]["waiting"] == 2
    resume_sweep(folder.root)
    assert summarize(folder.root)["trials"]["waiting"] == 2, "nobody asked for more"
    resume_sweep(folder.root, n_trials=4)
    summary = summarize(folder.root)
    assert (summary["state"], summary["reason"]) == ("finished", "every trial is final")
    assert summary["trials"]["finished"] == 4


def test_failed_trials_are_run_again_on_demand(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    spec = load_sweep(
        {
            "method": "grid",
            "parameters": {
                **{"raw_data": str(data), "lstm_units": 4, "dense_units": 4, "epochs": 1, "window_size": 3},
                "learning_rate": {"values": [1e30, 1e-3]},
            },
        }
    )
    folder = run_sweep(spec, tmp_path / "sweep", ranks_per_worker=1)
    assert summarize(folder.root)["trials"]["failed"] == 1
    again = glrnn("resume", folder.root, "--retry-failed", "--json")
    found = json.loads(again.stdout)
    assert (again.returncode, found["trials"]["failed"], found["retried"]) == (3, 1, 1)
    assert [row["params"]["learning_rate"] for row in found["table"]] == [1e30, 1e-3, 1e30]


def test_hyperband_prunes_trials_that_keep_their_best_model(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    # Four trials that learn, then four of a rate with which nothing is learned: these are stopped at the first band.
    keys = {"learning_rate": {"values": [1e-2, 1e-7]}, "window_size": 3, "seed": {"values": [1, 2, 3, 4]}}
    spec = spec_of(data, 8, epochs=9, patience=9, **keys)
    early = {"type": "hyperband", "min_iter": 2, "eta": 2}
    spec = load_sweep({**spec.as_dict(), "method": "grid", "early_terminate": early})
    folder = run_sweep(spec, tmp_path / "sweep", ranks_per_worker=1)
    summary = summarize(folder.root)
    pruned = [row for row in summary["table"] if row["state"] == "pruned"]
    assert len(pruned) >= 2
    assert summary["trials"]["pruned"] + summary["trials"]["finished"] == 8
    assert summary["trials"]["failed"] == 0
    for row in pruned:
        assert row["epochs"] in (2, 4, 8)
        trial = folder.trial(row["number"])
        assert layout.read_json(trial.result)["state"] == "pruned"
        assert losses_of(trial.root)["val_loss"] == pytest.approx(row["best_so_far"], rel=1e-5)
    assert glrnn("status", folder.root).returncode == 0
    assert collect(folder.root)["best"]["number"] not in [row["number"] for row in pruned]


OWN = """
import tensorflow as tf
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression

class Smoothed(PreprocessorTriaxialCompression):
    @classmethod
    def get_default_config(cls):
        return {**super().get_default_config(), "smoothing": 1}

    def __init__(self, smoothing=1, source=None, **config):
        super().__init__(source=source, **config)
        self.smoothing = smoothing

    def prepare_datasets(self, seed=42):
        datasets, stats = super().prepare_datasets(seed)
        return {name: data.map(self._smooth) for name, data in datasets.items()}, stats

    @tf.autograph.experimental.do_not_convert
    def _smooth(self, inputs, labels):
        return inputs, labels / self.smoothing
"""


def test_a_preprocessor_of_the_users_own_is_searched_trained_and_verified(tmp_path: Path):
    write_steps(tmp_path / "a.hdf5")
    (tmp_path / "my_smoothing.py").write_text(OWN)
    write_files_named_like_libraries(tmp_path)
    keys = {"preprocessor": "my_smoothing:Smoothed", "raw_data": "a.hdf5", "smoothing": {"values": [1, 100]}}
    keys |= {"lstm_units": 4, "dense_units": 4, "epochs": 1, "window_size": 3}
    (tmp_path / "s.yaml").write_text(config.dump_yaml({"method": "grid", "parameters": keys}))
    ran = glrnn("sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", 1, "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert [row["params"] for row in json.loads(ran.stdout)["table"]] == [{"smoothing": 1}, {"smoothing": 100}]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    collected = glrnn("collect", tmp_path / "sweep", "--json", cwd=elsewhere)
    assert collected.returncode == 0, collected.stderr
    best = json.loads(collected.stdout)["best"]
    _, data, stats, _ = predict.get_best_run_from_sweep(tmp_path / "sweep")
    _, labels = next(iter(data))
    # The labels of value == step number, standardised and smoothed.
    expected = (np.arange(12) - stats["mean"][0]) / stats["std"][0] / best["config"]["smoothing"]
    np.testing.assert_allclose(labels.numpy()[:, 0], expected, atol=1e-5)
    assert best["config"] == {"smoothing": 100}
    assert names_that_were_run(tmp_path) == []
    told = layout.read_json(tmp_path / "sweep/best/provenance.json")
    assert [(row["name"], row["min"]) for row in told["parameters"][:2]] == [("E", None), ("v", None)]
    # Errors of its own windows, scaled back and standardised again, are what the training logged.
    assert told["mse_standardised"]["test"] == pytest.approx(told["metrics"]["test_loss"], rel=1e-4)
    assert told["data"]["path"] == str(tmp_path / "a.hdf5")


@pytest.mark.usefixtures("sleeping")
def test_status_can_be_watched_until_the_sweep_ends(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    (tmp_path / "s.yaml").write_text(config.dump_yaml(spec_of(data, 4, epochs=30).as_dict()))
    start = ["sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", 1, "--no-wait"]
    assert glrnn(*start, cwd=tmp_path).returncode == 0
    watched = glrnn("status", "sweep", "--watch", "--seconds", "0.3", "--json", cwd=tmp_path)
    assert watched.returncode == 0, watched.stderr
    looks = [json.loads(line) for line in watched.stdout.splitlines()]
    assert looks[0]["state"] == "running"
    assert looks[-1]["state"] == "finished"
    assert looks[-1]["trials"]["finished"] == 4
    assert any(look["eta_seconds"] is not None for look in looks)
    rates = [row["epochs_per_minute"] for look in looks for row in look["table"] if row["state"] == "running"]
    assert any(rate and rate > 0 for rate in rates)
    left = [row["eta_seconds"] for look in looks for row in look["table"] if row["eta_seconds"] is not None]
    assert left
    assert all(seconds >= 0 for seconds in left)


@pytest.mark.usefixtures("sleeping")
@pytest.mark.parametrize("is_full", [False, True], ids=["", "while it ends because of its memory"])
def test_a_worker_that_dies_is_started_again_by_its_launcher_but_not_for_ever(is_full: bool, tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    killed: list[int] = []

    def kill(study: SweepStudy) -> None:
        for worker in study.folder.all_workers():
            if worker.record.exists() and not worker.ended.exists():
                pid = layout.read_json(worker.record)["ranks"][0]["pid"]
                if pid not in killed:
                    assert len(killed) <= local.MAX_RESTARTS
                    killed.append(pid)
                    if is_full:
                        worker.full.touch()
                    os.kill(pid, signal.SIGKILL)

    with pytest.raises(SweepError, match=r"every worker has ended, but trials are left.*glrnn resume"):
        run_sweep(spec_of(data, 1, epochs=300), tmp_path / "sweep", ranks_per_worker=1, report=kill)
    assert len(killed) == 1 + local.MAX_RESTARTS


def test_a_trial_that_raises_is_recorded_and_the_others_go_on(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    spec = spec_of(data, 4, learning_rate={"values": [1e30, 1e-3]})
    folder = run_sweep(spec, tmp_path / "sweep", ranks_per_worker=1)
    summary = summarize(folder.root)
    n_failed = sum(row["params"]["learning_rate"] == 1e30 for row in summary["table"])
    assert summary["trials"]["failed"] == n_failed > 0
    assert summary["trials"]["finished"] == 4 - n_failed > 0
    errors = [row["error"] for row in summary["table"] if row["state"] == "failed"]
    assert all("learning_rate=1e+30 is too high" in error for error in errors)
    shown = glrnn("status", folder.root)
    assert shown.returncode == 3
    assert "failed: training diverged" in shown.stdout


def test_a_sweep_that_cannot_work_starts_nothing(tmp_path: Path, monkeypatch):
    data = write_steps(tmp_path / "a.hdf5")
    with pytest.raises(WindowError, match="parameters.window_size: 12 does not fit the 12 steps of 0.2e6/drained"):
        run_sweep(spec_of(data, window_size={"values": [3, 12]}), tmp_path / "sweep")
    with pytest.raises(DataError, match="there is no such file"):
        run_sweep(spec_of(tmp_path / "none.hdf5"), tmp_path / "sweep")
    with pytest.raises(DataError, match="no pressure '9e6'"):
        run_sweep(spec_of(data, pressure="9e6"), tmp_path / "sweep")
    with pytest.raises(DataError, match="of 20 sequences leave the val split empty"):
        run_sweep(spec_of(data, val_frac={"values": [0.15, 0.01]}), tmp_path / "sweep")
    small, large = np.ones((9, 2)), np.ones((9, 12, 3))
    groups = {"0.2e6/drained": (small, large, large[..., :2]), "0.5e6/drained": (small, large[..., :2], large[..., :2])}
    names = {"contact_params": ["E", "v"], "inputs": ["e_x", "e_y", "e_z"], "outputs": ["e", "p"]}
    write_file(tmp_path / "differ.hdf5", groups, **names)
    with pytest.raises(DataError, match=r"no load feature in common.*0\.2e6/drained: e_x, e_y, e_z; 0\.5e6"):
        run_sweep(spec_of(tmp_path / "differ.hdf5"), tmp_path / "sweep")
    monkeypatch.setattr(local, "mpiexec", lambda: None)
    with pytest.raises(LaunchError, match="2 ranks need MPI and there is no mpiexec: `pip install"):
        run_sweep(spec_of(data), tmp_path / "sweep", ranks_per_worker=2)
    assert local.default_ranks(6, 8) == 1
    assert not (tmp_path / "sweep").exists()


def test_a_worker_with_another_number_of_ranks_refuses_to_start(tmp_path: Path):
    folder = run_sweep(spec_of(write_steps(tmp_path / "a.hdf5")), tmp_path / "sweep", n_workers=0)
    refused = glrnn("worker", folder.root, "--ranks", 2)
    assert refused.returncode == 2
    assert "2 ranks were asked for, but this worker has 1" in refused.stderr


def test_a_worker_that_cannot_reach_its_study_may_be_started_again(tmp_path: Path):
    folder = run_sweep(spec_of(write_steps(tmp_path / "a.hdf5")), tmp_path / "sweep", n_workers=0)
    whole = folder.journal.read_bytes()
    folder.journal.write_bytes(b"no journal\n" + whole)
    lost = glrnn("worker", folder.root)
    assert (lost.returncode, "Traceback" in lost.stderr) == (preemption.MORE_TO_DO, False)
    assert "glrnn: " in lost.stderr
    assert "study.journal: is damaged and cannot be read" in lost.stderr


@pytest.mark.usefixtures("sleeping")
def test_without_workers_there_is_a_folder_for_those_that_a_script_starts(tmp_path: Path):
    write_steps(tmp_path / "a.hdf5")
    (tmp_path / "s.yaml").write_text(config.dump_yaml(spec_of(tmp_path / "a.hdf5", 2).as_dict()))
    made = glrnn("sweep", "s.yaml", "--out", "sweep", "--workers", 0, "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["trials"]["waiting"] == 2
    folder = layout.SweepFolder(tmp_path / "sweep")
    assert folder.all_workers() == []
    for command, waiting in ((("cancel",), 2), (("resume", "--trials", 3), 3)):
        told = glrnn(command[0], "sweep", *command[1:], "--json", cwd=tmp_path)
        assert json.loads(told.stdout)["trials"]["waiting"] == waiting, told.stderr
    assert read_sweep_state(folder).state == "running"
    assert folder.all_workers() == []
    worked = glrnn("worker", "sweep", "--job", "mine", "--ranks", 1, cwd=tmp_path)
    assert worked.returncode == 0, worked.stderr
    assert summarize(folder.root)["trials"]["finished"] == 3
    assert [worker.root.name for worker in folder.all_workers()] == ["mine"]


def test_debug_does_the_work_in_this_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    spec = spec_of(write_steps(tmp_path / "a.hdf5"), 2)
    with pytest.raises(LaunchError, match="one rank in this process; 2 workers of 1 ranks were asked for"):
        run_sweep(spec, tmp_path / "sweep", cluster="debug", n_workers=2)
    assert not (tmp_path / "sweep").exists()
    folder = run_sweep(spec, tmp_path / "sweep", cluster="debug", collect=True)
    record = layout.read_json(folder.worker("debug-000").record)
    assert [rank["pid"] for rank in record["ranks"]] == [os.getpid()]
    assert not {"heartbeat", "watchdog"} & {thread.name for thread in threading.enumerate() if thread.is_alive()}
    assert summarize(folder.root)["trials"]["finished"] == 2
    assert folder.best.provenance.exists()


def test_the_commands_work_in_order_on_a_grid(tmp_path: Path):
    write_steps(tmp_path / "a.hdf5")
    keys = {"raw_data": "a.hdf5", "lstm_units": 4, "dense_units": 4, "epochs": 1, "window_size": {"values": [3, 4]}}
    (tmp_path / "s.yaml").write_text(config.dump_yaml({"method": "grid", "parameters": keys}))
    ran = glrnn("sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", 1, "--json", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["trials"]["finished"] == 2
    collected = glrnn("collect", "sweep", cwd=tmp_path)
    assert (collected.returncode, "verified" in collected.stdout) == (0, True), collected.stderr
    predicted = glrnn("predict", "sweep/best", "a.hdf5", "--out", "p.hdf5", "--figure", "p.png", "--json", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert set(json.loads(predicted.stdout)["metrics"]["e"]) == {"mae", "rmse", "r2"}
    assert (tmp_path / "p.png").stat().st_size > 10_000
    again = glrnn("sweep", "s.yaml", "--out", "sweep", cwd=tmp_path)
    assert again.returncode == 2
    assert "holds a sweep already; `glrnn resume " in again.stderr
    assert "Traceback" not in again.stderr
    resumed = glrnn("resume", "sweep", "--json", cwd=tmp_path)
    assert json.loads(resumed.stdout)["state"] == "finished"


def test_ranks_train_a_trial_together_and_one_killed_in_a_collective_ends_its_worker(tmp_path: Path):
    spec = spec_of(write_steps(tmp_path / "a.hdf5"), 2, ranks_per_trial=2, epochs=80, patience=80)
    with pytest.raises(LaunchError, match="--ranks-per-worker 3 is no multiple of ranks_per_trial=2; choose 2 or 4"):
        run_sweep(spec, tmp_path / "sweep", ranks_per_worker=3)
    (tmp_path / "s.yaml").write_text(config.dump_yaml(spec.as_dict()))
    launched = glrnn("sweep", "s.yaml", "--out", "sweep", "--ranks-per-worker", 2, "--no-wait", cwd=tmp_path)
    assert launched.returncode == 0, launched.stderr
    folder = layout.SweepFolder(tmp_path / "sweep")
    worker = folder.worker("local-000")
    until(lambda: folder.trial(0).generation(1).metrics.exists())
    killed = time.monotonic()
    os.kill(layout.read_json(worker.record)["ranks"][1]["pid"], signal.SIGKILL)
    until(lambda: not liveness.is_alive(worker), 30)
    until(lambda: "Killed (signal 9)" in worker.stdout.read_text() + worker.stderr.read_text(), 30)
    assert time.monotonic() - killed < 30
    resume_sweep(folder.root, n_trials=2)
    summary = summarize(folder.root)
    assert summary["trials"]["finished"] == 2
    assert summary["table"][0]["generation"] == 2
    assert summary["table"][0]["epochs"] == 80
    assert {rank for _, rank in owners(folder)} == {0}
    assert 0 < summary["utilisation"] < 1
    assert summary["seconds"]["fit"] > 0


@pytest.mark.usefixtures("sleeping")
def test_a_sweep_whose_node_died_goes_on_on_another_one(tmp_path: Path):
    timing = Timing(heartbeat=0.3, dead_after=1.0)
    folder = run_sweep(spec_of(write_steps(tmp_path / "a.hdf5"), 2), tmp_path / "sweep", ranks_per_worker=1)
    # What the first node would have left: a registered worker, its last heartbeat, and a trial that it trained.
    state = layout.read_json(folder.state)
    layout.write_json(folder.state, {**state, "state": "running", "timing": vars(timing)})
    gone = folder.worker("local-007")
    gone.root.mkdir()
    far = liveness.Process("node-of-yesterday", 1, "1")
    liveness.register(gone, [far])
    gone.heartbeat.write_text("17\n")
    seen = SweepStudy(folder)
    seen.add_slots(3)
    assert seen.claim(Owner("local-007", 0, far)) is not None
    resume_sweep(folder.root, n_trials=3)
    summary = summarize(folder.root)
    assert (summary["state"], summary["trials"]["finished"]) == ("finished", 3)
    assert summary["table"][2]["generation"] == 2
