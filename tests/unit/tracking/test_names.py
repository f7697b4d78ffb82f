"""Names and modes that W&B does not take: refused before anything is made, wherever they are given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import wandb

from glrnn_hpc import cli, config, layout
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.records.tracking_settings import TrackingSettings
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.tracking import names
from glrnn_hpc.tracking.run import tracked_run
from glrnn_hpc.tracking.settings import tracking_settings
from glrnn_hpc.tracking.sync import sync
from tests.conftest import write_steps


@pytest.fixture(autouse=True)
def _own_variables(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)


def settings_of(mode: str | None = None, sweep: str | None = None, **labels: Any) -> TrackingSettings:
    keys = {"raw_data": "a.hdf5", "learning_rate": {"values": [1e-3, 1e-2]}}
    spec = load_sweep({"method": "random", "run_cap": 1, "parameters": keys, **labels})
    return tracking_settings(spec, "night", mode, sweep)


@pytest.mark.parametrize("project", ["a/b", "x:y", "a\\b", "a#b", "a?b", "a%b", "a\nb", "  ", "p" * 130])
def test_a_project_that_the_client_or_the_server_refuses_is_refused_by_the_sweep(project: str):
    with pytest.raises(ConfigError, match=r"^project: "):
        settings_of(project=project)
    if project.strip() and "\n" not in project:
        with pytest.raises(wandb.errors.UsageError):
            wandb.Settings(project=project)


@pytest.mark.parametrize("project", ["dem", "my project", "Versuch-2_ä.b", "p" * 128])
def test_a_project_that_the_client_takes_is_taken(project: str):
    assert settings_of(project=project).project == project
    assert wandb.Settings(project=project).project == project


def test_the_key_the_variable_and_the_option_are_named_with_what_to_do(monkeypatch):
    with pytest.raises(ConfigError, match=r"^project: 'me/dem' is no project of W&B.* as `project` and .* as `entity`"):
        settings_of(project="me/dem")
    with pytest.raises(ConfigError, match=r"^entity: 'my team' is no entity of W&B, which refuses .* choose another"):
        settings_of(entity="my team")
    with pytest.raises(ConfigError, match=r"^name: W&B takes no group of 129 characters; give .* at most 128"):
        settings_of(name="n" * 129)
    with pytest.raises(ConfigError, match=r"^--wandb-sweep: 'a:b' is no project of W&B"):
        settings_of(sweep="me/a:b/ab12cd34")
    assert settings_of(sweep="me/my project/ab12cd34").project == "my project"
    monkeypatch.setenv("WANDB_ENTITY", "a/b")
    with pytest.raises(ConfigError, match=r"^WANDB_ENTITY: 'a/b' is no entity of W&B"):
        settings_of()
    # The client refuses its variable even where another project is given.
    monkeypatch.setenv("WANDB_PROJECT", "x:y")
    with pytest.raises(ConfigError, match=r"^WANDB_PROJECT: 'x:y' is no project of W&B"):
        settings_of(project="dem", entity="me")
    assert settings_of("disabled").project == "x:y"  # where nothing is logged, no name matters


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("WANDB_RUN_ID", "a/b", "Run ID cannot contain"),
        ("WANDB_RESUME", "perhaps", "Input should be"),
        ("WANDB_API_KEY", " secret", "API key cannot start or end with whitespace"),
    ],
)
def test_any_variable_that_the_client_refuses_is_named_without_its_value(
    variable: str, value: str, reason: str, monkeypatch
):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=rf"^{variable}: W&B's client refuses its value: {reason}") as raised:
        settings_of()
    assert "secret" not in str(raised.value)


def test_the_client_refuses_no_variable_in_vain_where_it_cannot_be_imported(monkeypatch):
    monkeypatch.setenv("WANDB_RESUME", "perhaps")
    monkeypatch.setitem(sys.modules, "wandb", None)
    names.check_environment()


@pytest.mark.parametrize(
    ("given", "recorded"),
    [("dryrun", "offline"), ("run", "online"), ("shared", "online"), ("offline", "offline"), ("disabled", "disabled")],
)
def test_every_mode_that_wandb_takes_is_taken_as_option_and_as_variable(given: str, recorded: str, monkeypatch):
    assert settings_of(given).mode == recorded
    monkeypatch.setenv("WANDB_MODE", given)
    assert settings_of().mode == recorded
    wandb.Settings(mode=given)


def test_no_mode_of_the_client_is_missing():
    assert set(wandb.Settings.model_fields["mode"].annotation.__args__) == set(names.MODES)


@pytest.mark.parametrize("mode", ["sometimes", "", "Offline"])
def test_another_mode_is_refused_by_sweeps_and_trainings(mode: str, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(ConfigError, match=rf"^WANDB_MODE: '{mode}' is not one of offline, online, disabled, dryrun"):
        settings_of()
    with pytest.raises(ConfigError, match="^WANDB_MODE: "), tracked_run({}):
        raise AssertionError("the training began")
    with pytest.raises(ConfigError, match="^--wandb: "):
        settings_of(mode)


def test_a_sweep_and_a_training_make_nothing_before_names_are_checked(tmp_path: Path, monkeypatch, capsys):
    keys = {"raw_data": str(write_steps(tmp_path / "a.hdf5")), "window_size": 3}
    spec = load_sweep({"method": "random", "run_cap": 1, "parameters": keys, "project": "a/b"})
    with pytest.raises(ConfigError, match="^project: "):
        run_sweep(spec, tmp_path / "sweep", n_workers=0)
    (tmp_path / "c.yaml").write_text(config.dump_yaml(keys))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").touch()
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    with pytest.raises(ConfigError, match="^WANDB_PROJECT: "), tracked_run({}):
        raise AssertionError("the training began")
    monkeypatch.setattr(sys, "argv", ["glrnn", "train", "c.yaml", "--out", "out"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "WANDB_PROJECT: 'a/b' is no project of W&B" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5", "c.yaml", "out"]
    assert (tmp_path / "out" / "kept").exists()


@pytest.mark.parametrize("is_dry", [True, False])
def test_the_sync_of_a_sweep_of_an_earlier_version_names_the_file_to_correct(is_dry: bool, tmp_path: Path):
    sweep = layout.SweepFolder(tmp_path)
    sweep.sweep.touch()
    TrackingSettings("offline", "a/b", None, "night", None, "0a1b2c3d").write(sweep)
    with pytest.raises(ConfigError, match=r"tracking\.json: project: 'a/b' is no project .*trials/\*/wandb: the runs"):
        sync(tmp_path, is_dry=is_dry)
