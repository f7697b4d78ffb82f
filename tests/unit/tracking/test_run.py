from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from glrnn_hpc import layout, predict, train
from glrnn_hpc.errors import ConfigError, TrackingError, TrainingDiverged
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.tracking import bounded_calls
from glrnn_hpc.tracking.offline_log import read_log
from glrnn_hpc.tracking.run import tracked_run
from glrnn_hpc.tracking.service import service_pids
from tests.conftest import write_steps
from tests.offline import metrics_of, read_run


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_DIR", raising=False)


def runs_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "wandb").glob("offline-run-*") if path.is_dir()]


def log_of(folder: Path) -> Path:
    (run,) = runs_in(folder)
    log, end = next(run.glob("*.wandb")), time.monotonic() + 20
    while read_log(log).exit_code is None:  # W&B's service writes it a moment after a run of the user's own is finished
        assert time.monotonic() < end
        time.sleep(0.01)
    return log


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, train.Outcome]:
    """Return the folder of a training that was logged to W&B offline, and its outcome."""
    out = tmp_path_factory.mktemp("trained") / "out"
    config = {"raw_data": str(write_steps(out.parent / "a.hdf5")), "window_size": 3, "lstm_units": 4}
    config |= {"dense_units": 4, "batch_size": 32, "epochs": 3}
    return out, train.train_tracked(PreprocessorTriaxialCompression(**config), config, out=out, mode="offline")


def test_the_run_of_a_training_has_a_row_for_each_epoch_and_the_summary_of_the_best(
    trained: tuple[Path, train.Outcome],
):
    out, outcome = trained
    run = read_run(log_of(out))
    expected: list[dict[str, Any]] = [{"epoch": number} for number in (1, 2, 3)]
    for name, values in outcome.history.history.items():
        for row, value in zip(expected, values, strict=True):
            row[name] = value
    expected[-1] |= {name: outcome.metrics[name] for name in ("test_loss", "test_mae")}
    assert metrics_of(run) == [pytest.approx(row) for row in expected]
    assert [row["_step"] for row in run.history] == [1, 2, 3]
    summary = {name: run.summary[name] for name in ("val_loss", "test_mae", "epochs", "best_epoch")}
    assert summary == pytest.approx(
        {
            "val_loss": min(outcome.history.history["val_loss"]),
            "test_mae": outcome.metrics["test_mae"],
            "epochs": 3,
            "best_epoch": outcome.best_epoch,
        }
    )
    assert run.config == predict.get_pretrained_model(out)[2]
    assert run.files == {"train_stats.json", layout.MODEL_WHOLE}
    assert (run.exit_code, run.n_system_metrics) == (0, 0)


def test_files_of_a_run_are_those_of_its_folder_under_other_names(trained: tuple[Path, train.Outcome]):
    out, _ = trained
    (run,) = runs_in(out)
    for name in ("config.yaml", "train_stats.json", layout.MODEL_WHOLE):
        assert (run / "files" / name).read_bytes() == (out / name).read_bytes()
        assert not (run / "files" / name).is_symlink()
    # W&B's client writes a config.yaml of its own into its folder when it syncs.
    (run / "files" / "config.yaml").write_text("other")
    assert (out / "config.yaml").read_text() != "other"


def test_a_training_without_a_folder_leaves_a_trained_model_in_its_run_where_wandb_shall_write(
    tiny, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "chosen"))
    config = tiny(epochs=1, save_weights_only=True)
    history = train.train(PreprocessorTriaxialCompression(**config), config)
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    (run,) = runs_in(tmp_path / "chosen")
    _, stats, found = predict.get_pretrained_model(run / "files")
    assert stats["label_names"] == ["e", "p"]
    assert found["patience"] == 5
    assert not (tmp_path / "outputs").exists()
    assert not (tmp_path / "wandb").exists()


def open_run(folder: Path, **config: Any) -> Any:
    settings = wandb.Settings(x_disable_stats=True, silent=True)
    return wandb.init(mode="offline", dir=folder, config=config, settings=settings)


def test_an_open_run_is_used_and_left_open(tmp_path: Path):
    with open_run(tmp_path, patience=3, epochs=4) as opened:
        with tracked_run({"epochs": 2}) as run:
            assert run.config == {"patience": 3, "epochs": 2}
            assert run.folder == Path(opened.dir)
            run.update_config({"epochs": 9})
        assert wandb.run is opened
        assert opened.config["epochs"] == 9
    assert len(runs_in(tmp_path)) == 1


def test_steps_and_keys_of_the_users_own_in_an_open_run_stay(tiny, tmp_path: Path):
    with open_run(tmp_path, remark="mine", patience=3, network="resnet", experiment="night-3") as opened:
        opened.log({"before": 1.0})
        opened.log({"before": 2.0})
        config = tiny(epochs=1)
        train.train(PreprocessorTriaxialCompression(**config), config)
    run = read_run(log_of(tmp_path))
    rows = metrics_of(run)
    assert [row.get("before") for row in rows[:2]] == [1.0, 2.0]
    assert [row.get("epoch") for row in rows[2:]] == [1, 1]
    assert (run.config["remark"], run.config["patience"]) == ("mine", 3)
    # Common words of the user's own name neither a network nor an experiment, unless they are given to the training.
    assert (run.config["network"], run.config["experiment"]) == ("resnet", "night-3")


# W&B's client leaves the agent's file open.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.usefixtures("anew")
def test_the_configuration_of_an_agents_run_decides(tiny, tmp_path: Path, monkeypatch):
    # What `wandb agent` gives the program that it starts.
    chosen = {"patience": {"value": 7}, "network": {"value": {"lstm_units": 5}}}
    (tmp_path / "chosen.yaml").write_text(yaml.safe_dump({"wandb_version": 1, **chosen}))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "chosen.yaml"))
    config = tiny(epochs=1, patience=3)
    del config["lstm_units"]
    train.train_tracked(PreprocessorTriaxialCompression(**tiny()), config, out=tmp_path / "out")
    used = predict.get_pretrained_model(tmp_path / "out")[2]
    assert (used["patience"], used["lstm_units"], used["epochs"]) == (7, 5, 1)
    assert read_run(log_of(tmp_path / "out")).run.sweep_id == "sweep123"
    with open_run(tmp_path, patience=3), tracked_run({"patience": 2, "epochs": 1}) as run:
        assert run.config == {"patience": 7, "network": {"lstm_units": 5}, "epochs": 1}


def test_a_training_goes_on_without_wandb(tiny, tmp_path: Path, monkeypatch, caplog):
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "blocked" / "folder"))
    (tmp_path / "outputs").mkdir()
    config = tiny(epochs=1)
    with caplog.at_level(logging.WARNING):
        train.train(PreprocessorTriaxialCompression(**config), config)
    assert "W&B cannot start, the training goes on without it: NotADirectoryError" in caplog.text
    assert "renamed to outputs-1/" in caplog.text
    assert (tmp_path / "outputs" / layout.MODEL_WHOLE).exists()


@pytest.mark.parametrize("error", [ImportError("wandb is not installed"), RuntimeError("wandb is broken")])
def test_a_training_goes_on_where_wandb_cannot_be_imported(error: Exception, tmp_path: Path, monkeypatch, caplog):
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "wandb":
                raise error

    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with tracked_run({"epochs": 1}, folder=tmp_path / "out") as run:
        run.log({"epoch": 1, "loss": 1.0})
        run.save(tmp_path / "there is no such file")
        assert run.config == {"epochs": 1}
    assert f"W&B cannot start, the training goes on without it: {type(error).__name__}: {error}" in caplog.text
    assert not (tmp_path / "out").exists()


def test_a_service_that_is_killed_in_the_middle_costs_the_run_and_nothing_else(tmp_path: Path, caplog):
    with tracked_run({}) as run:
        run.log({"epoch": 1, "loss": 1.0})
        for pid in service_pids():
            os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while run.is_complete:
            assert time.monotonic() < end
            run.log({"epoch": 2, "loss": 1.0})
            time.sleep(0.01)
        run.update_summary({"loss": 1.0})
    assert caplog.text.count("W&B") == 1
    assert service_pids() == []
    with tracked_run({}) as run:
        run.log({"epoch": 1, "loss": 1.0})
    assert run.is_complete, "the next run has a service of its own"


def test_a_failing_wandb_is_given_up_after_one_warning(tmp_path: Path, caplog):
    with tracked_run({}) as run:
        run.save(tmp_path / "there is no such file")
        run.log({"epoch": 1, "loss": 1.0})
        assert run.folder is None
    assert caplog.text.count("W&B failed, the training goes on without it: FileNotFoundError") == 1


def test_who_waits_in_vain_ends_the_service_and_goes_on(tmp_path: Path):
    told: list[float] = []
    calls = bounded_calls.BoundedCalls(lambda: told.append(time.monotonic()))
    assert calls.call(lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 / 0, 10)
    with tracked_run({}):
        (service,) = service_pids()
        os.kill(service, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(TrackingError, match=r"no answer within 1\.2 s"):
            calls.call(lambda: time.sleep(30), 1.2)
        assert time.monotonic() - began < 25, "what it waits for takes 30 s"
        assert service_pids() == []
    assert len(told) >= 2
    assert calls.call(lambda: 8, 10) == 8


def test_disabled_means_no_run_at_all(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with tracked_run({"epochs": 2}) as run:
        run.log({"epoch": 1, "loss": 1.0})
        run.finish(0)
        assert run.config == {"epochs": 2}
    assert not (tmp_path / "wandb").exists()


def test_a_network_that_is_unknown_is_refused_before_a_run_is_opened(tiny, tmp_path: Path):
    with pytest.raises(ConfigError, match="config.network: there is no network 'lsmt'; did you mean lstm"):
        train.train(PreprocessorTriaxialCompression(**tiny()), {"network": "lsmt"})
    assert not (tmp_path / "wandb").exists()


def test_a_run_that_diverged_is_closed_as_failed(tiny, tmp_path: Path):
    config = tiny(learning_rate=1e30)
    with pytest.raises(TrainingDiverged, match=r"learning_rate=1e\+30"):
        train.train(PreprocessorTriaxialCompression(**config), config)
    assert wandb.run is None
    assert read_run(log_of(tmp_path)).exit_code == 1


def test_a_log_that_was_cut_off_is_read_as_far_as_it_is_whole(tmp_path: Path):
    with tracked_run({"epochs": 2}) as run:
        # Longer than a block of the log, so that a record lies in several.
        run.update_config({"text": "x" * 100_000})
        for epoch in range(1, 201):
            run.log({"epoch": epoch, "loss": 1.0})
    log = log_of(tmp_path)
    whole = read_run(log)
    assert (len(whole.history), whole.exit_code, len(whole.config["text"])) == (200, 0, 100_000)
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2])
    cut = read_run(log)
    assert cut.exit_code is None
    assert cut.run.run_id == whole.run.run_id
    for broken in (b":W&B", b"something else", content[:7]):
        log.write_bytes(broken)
        assert read_run(log).run is None
    assert json.dumps(cut.config)
