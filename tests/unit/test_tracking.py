from __future__ import annotations

import logging
from pathlib import Path

import pytest

from glrnn_hpc import layout, predict, train
from glrnn_hpc.errors import ConfigError, TrainingDiverged
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression
from glrnn_hpc.tracking.run import tracked


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_DIR", raising=False)


def runs_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "wandb").glob("offline-run-*") if path.is_dir()]


def test_a_training_leaves_an_offline_run_whose_files_are_a_trained_model(tiny, tmp_path: Path):
    config = tiny(save_weights_only=True)
    history = train.train(PreprocessorTriaxialCompression(**config), config)
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    (run,) = runs_in(tmp_path)
    assert list(run.glob("*.wandb"))
    _, stats, found = predict.get_pretrained_model(run / "files")
    assert stats["label_names"] == ["e", "p"]
    assert found["patience"] == 5
    assert not (tmp_path / "outputs").exists()


def test_files_of_a_run_with_a_folder_are_copied_to_the_run(tiny, tmp_path: Path):
    out = tmp_path / "out"
    config = tiny(epochs=1)
    outcome = train.train_tracked(PreprocessorTriaxialCompression(**config), config, out=out)
    assert {"val_loss", "test_loss", "test_mae"} <= set(outcome.metrics)
    (run,) = runs_in(out)
    for name in ("config.yaml", "train_stats.json", layout.MODEL_WHOLE):
        assert (run / "files" / name).read_bytes() == (out / name).read_bytes()
        assert not (run / "files" / name).is_symlink()


def test_an_open_run_is_used_and_left_open(tmp_path: Path):
    import wandb

    settings = wandb.Settings(x_disable_stats=True, silent=True)
    with wandb.init(mode="offline", dir=tmp_path, config={"patience": 3, "epochs": 4}, settings=settings) as opened:
        with tracked({"epochs": 2}) as run:
            assert run.config == {"patience": 3, "epochs": 2}
            assert run.folder == Path(opened.dir)
            run.update_config({"epochs": 9})
        assert wandb.run is opened
        assert opened.config["epochs"] == 9
    assert len(runs_in(tmp_path)) == 1


def test_a_training_goes_on_without_wandb(tiny, tmp_path: Path, monkeypatch, caplog):
    (tmp_path / "blocked").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "blocked" / "folder"))
    (tmp_path / "outputs").mkdir()
    config = tiny(epochs=1)
    with caplog.at_level(logging.WARNING):
        train.train(PreprocessorTriaxialCompression(**config), config)
    assert "W&B cannot start, the training goes on without it" in caplog.text
    assert "renamed to outputs-1/" in caplog.text
    assert (tmp_path / "outputs" / layout.MODEL_WHOLE).exists()


def test_a_failing_wandb_is_given_up_after_one_warning(tmp_path: Path, caplog):
    with tracked({}) as run:
        run.save(tmp_path / "there is no such file")
        run.log({"loss": 1.0})
        assert run.folder is None
    assert caplog.text.count("W&B failed, the training goes on without it") == 1


def test_disabled_means_no_run_at_all(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with tracked({"epochs": 2}) as run:
        run.log({"loss": 1.0})
        assert run.config == {"epochs": 2}
    assert not (tmp_path / "wandb").exists()


def test_a_wrong_key_is_refused_before_a_run_is_opened(tiny, tmp_path: Path):
    with pytest.raises(ConfigError, match="config.epoch: unknown key; did you mean epochs"):
        train.train(PreprocessorTriaxialCompression(**tiny()), {"epoch": 3})
    assert not (tmp_path / "wandb").exists()


def test_a_run_that_diverged_is_closed(tiny, tmp_path: Path):
    import wandb

    config = tiny(learning_rate=1e30)
    with pytest.raises(TrainingDiverged, match=r"learning_rate=1e\+30"):
        train.train(PreprocessorTriaxialCompression(**config), config)
    assert wandb.run is None
    assert len(runs_in(tmp_path)) == 1
