from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glrnn_hpc import cli, config
from glrnn_hpc.errors import ConfigError
from tests.conftest import DATA

COMMANDS = [
    "init",
    "parse",
    "inspect",
    "train",
    "sweep",
    "worker",
    "status",
    "resume",
    "cancel",
    "collect",
    "predict",
    "calibrate",
]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `glrnn` in this process as its script does; return status, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["glrnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    yield call
    for name in ("absl", "tensorflow", "optuna", "h5py"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str):
    shown = CliRunner().invoke(cli.app, [command, "--help"])
    assert shown.exit_code == 0
    assert "--json" in shown.output


def test_help_loads_neither_tensorflow_nor_mpi_nor_scipy():
    code = (
        "import sys, typer.testing; from glrnn_hpc import cli;"
        "typer.testing.CliRunner().invoke(cli.app, ['--help']);"
        "print([name for name in ('tensorflow', 'keras', 'mpi4py', 'scipy', 'optuna', 'h5py') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_parse_names_the_broken_file_and_ends_with_3(run, tmp_path: Path):
    status, out, _ = run("parse", DATA / "raw", tmp_path / "a.hdf5", "--json")
    assert status == 3
    assert json.loads(out)["groups"]["0.5e6/drained"]["corrupt"] == 1
    status, out, _ = run("parse", DATA / "raw", tmp_path / "b.hdf5", "--pressure", "0.2e6", "--outputs", "e, q")
    assert status == 0
    assert "0.5e6" not in out
    status, out, _ = run("inspect", tmp_path / "b.hdf5")
    assert (status, "outputs: e, q" in out) == (0, True)
    status, out, _ = run("inspect", tmp_path / "b.hdf5", "--json")
    assert json.loads(out)["problems"] == []


def test_train_writes_a_run_and_keeps_an_earlier_one(run, tiny, tmp_path: Path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "c.yaml").write_text(config.dump_yaml(tiny()))
    arguments = ("train", tmp_path / "c.yaml", "--out", tmp_path / "run", "--wandb", "disabled", "--set", "epochs=1")
    status, out, _ = run(*arguments, "--json")
    assert status == 0
    assert json.loads(out)["epochs"] == 1
    assert "epoch 1 of 1: loss" in caplog.text
    status, out, _ = run(*arguments)
    assert (status, "was renamed to" in out) == (0, True)
    assert (tmp_path / "run-1" / "model-best.keras").exists()


def test_wrong_input_is_one_message_and_status_2(run, tiny, tmp_path: Path):
    good = tmp_path / "c.yaml"
    good.write_text(config.dump_yaml(tiny()))
    cases = [
        (("train", tmp_path / "none.yaml", "--out", tmp_path / "r"), "there is no such file"),
        (("train", good, "--out", tmp_path / "r", "--set", "epochs"), "KEY=VALUE is needed"),
        (("train", good, "--out", tmp_path / "r", "--set", "=3"), "KEY=VALUE is needed"),
        (("train", good, "--out", tmp_path / "r", "--set", "pressure=true"), "pressure: a number is needed"),
        (("train", good, "--out", tmp_path / "r", "--set", "epoch=3"), "did you mean epochs"),
        (("train", good, "--out", tmp_path / "r", "--set", "raw_data=no.hdf5"), "no.hdf5: there is no such file"),
        (("train", good, "--out", tmp_path / "r", "--wandb", "never"), "not one of offline, online, disabled"),
        (("parse", tmp_path, tmp_path / "a.hdf5", "--dtype", "int8"), "not one of float32, float64"),
        (("predict", tmp_path, good, "--out", tmp_path / "p", "--split", "val"), "not one of test, all"),
        (("sweep", good, "--out", tmp_path / "r", "--heartbeat", "inf", "--dead-after", "inf"), "--heartbeat"),
        (("status", tmp_path), "is not a sweep folder"),
        (("collect", tmp_path), "is not a sweep folder"),
        (("inspect", good), "is truncated or no HDF5 file"),
    ]
    for arguments, message in cases:
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), arguments
        assert message in err
        assert "Traceback" not in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("p.xyz", "the suffix must be one of .*png"),
        ("nowhere/p.png", "there is no folder .*nowhere"),
        ("p", "is the file of the predictions"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused_before_anything_is_predicted(
    figure: str, message: str, run, tmp_path: Path
):
    status, _, err = run(
        "predict", tmp_path / "no_model", tmp_path / "no.hdf5", "--out", tmp_path / "p", "--figure", tmp_path / figure
    )
    assert status == 2
    assert re.search(f"--figure .*: {message}", err)


def test_yaml_numbers_duplicates_and_other_content(tmp_path: Path):
    assert config.parse_yaml("a: 1e-4", "x")["a"] == pytest.approx(1e-4)
    assert config.parse_yaml(config.dump_yaml({"pressure": "0.2e6"}), "x") == {"pressure": "0.2e6"}
    cases = [
        (b"a: 1\na: 2", "duplicate key 'a'"),
        (b"", "this is an empty file"),
        (b"- 1", "this is a list"),
        (b"a:\t- 1\n\tb", "not valid YAML"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b"? [1]\n: 2", "a key must be a scalar"),
    ]
    for content, message in cases:
        path = tmp_path / "a.yaml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            config.load_yaml(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window_size": True}, "config.window_size: a number is needed"),
        ({"learning_rate": float("nan")}, "config.learning_rate: nan is not a number"),
        ({"pad_length": -1}, r"config.pad_length: Input should be greater than or equal to 0 \(-1 was given\)"),
        ({"train_frac": 0.9, "val_frac": 0.1}, "leave nothing for the test split"),
        ({"window_siz": 3}, "config.window_siz: unknown key; did you mean window_size"),
        ({"zzz": 3}, "config.zzz: unknown key; known keys: "),
    ],
)
def test_a_wrong_key_is_named_with_what_is_allowed(change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        config.parse(config.RunConfig, {"raw_data": "a", **change})
