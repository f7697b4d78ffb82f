"""The scripts of `jobs/` in a project that `glrnn init` made, edited and run as a user does it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import config, layout, predict, project
from glrnn_hpc.data.hdf5 import read_schema
from glrnn_hpc.summary.status import summarize
from tests.conftest import DATA
from tests.losses import losses_of

Run = Callable[..., str]

#: Sizes with which a training takes a second.
SMALL = {"window_size": 5, "window_step": 10, "lstm_units": 4, "dense_units": 4, "epochs": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with real data, parsed and raw, in their places."""
    folder = tmp_path_factory.mktemp("jobs") / "project"
    project.write_project(folder)
    shutil.copyfile(DATA / "triaxial.hdf5", folder / project.DATA)
    shutil.copytree(DATA / "raw", folder / "data/raw")
    return folder


def edited(text: str, constants: dict[str, Any]) -> str:
    """Give names at the top of a script other values; a mapping only changes the keys that it has."""
    for name, value in constants.items():
        (node,) = [
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign) and name in re.findall(r"\w+", ast.unparse(node.targets[0]))
        ]
        if isinstance(value, dict):
            value = {**ast.literal_eval(node.value), **value}
        lines = text.splitlines()
        lines[node.lineno - 1 : node.end_lineno] = [f"{ast.unparse(node.targets[0])} = {value!r}"]
        text = "\n".join(lines) + "\n"
    return text


@pytest.fixture(scope="module")
def run(root: Path) -> Run:
    """Run a script of the project in a folder that is not the project's, edited; return what it prints."""

    def call(
        name: str, cwd: Path, variables: dict[str, str] | None = None, *, is_failing: bool = False, **constants: Any
    ) -> str:
        script = root / "jobs" / name
        if constants:
            script = root / "jobs" / f"my_{name}"
            script.write_text(edited((root / "jobs" / name).read_text(encoding="utf-8"), constants), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, script],
            cwd=cwd,
            env={**os.environ, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == int(is_failing), done.stdout[-2000:] + done.stderr[-4000:]
        return done.stderr if is_failing else done.stdout

    return call


@pytest.fixture(scope="module")
def swept(run: Run, root: Path) -> layout.SweepFolder:
    """Run the sweep script with the sweep of a minute; the other scripts find its network where they look for it."""
    out = run("sweep.py", root.parent, SWEEP=str(root / "sweeps/smoke.yaml"))
    assert out == f"the best network: {root}/runs/sweep/best\n"
    return layout.SweepFolder(root / "runs/sweep")


def errors_in(printed: str) -> dict[str, list[float]]:
    """Return the numbers that a script prints after the name of each label."""
    lines = re.findall(r"^(\w+)[^:\n]*: MAE (\S+), RMSE (\S+), R2 (\S+)$", printed, flags=re.MULTILINE)
    return {name: [float(number) for number in numbers] for name, *numbers in lines}


def test_raw_files_are_parsed_to_where_the_sweeps_look_for_them(run: Run, root: Path, tmp_path: Path):
    kept = tmp_path / "kept.hdf5"
    (root / project.DATA).rename(kept)
    try:
        printed = run("parse_yade.py", tmp_path)
        schema = read_schema(root / project.DATA)
    finally:
        kept.replace(root / project.DATA)
    assert sum(group.n_samples for group in schema.groups) == 30
    assert schema.outputs == ("e", "p", "q", "f0", "a_c", "a_n", "a_t")
    assert "left out: " in printed
    assert f"101 steps each -> {root}/data/triaxial.hdf5" in printed


def test_the_lines_of_the_parser_can_be_edited(run: Run, root: Path, tmp_path: Path):
    text = (root / "jobs/parse_yade.py").read_text(encoding="utf-8")
    changes = {
        r"target_file = .*": f'target_file = "{tmp_path}/part.hdf5"',
        r"pressures = .*": 'pressures = ["0.2e6"]',
        r"experiment_types = .*": 'experiment_types = ["drained"]',
        r"sequence_length = .*": "sequence_length = 50",
        r"stored_in_subfolders = .*": "stored_in_subfolders = False",
        r"OUTPUT_KEYS = .*": 'OUTPUT_KEYS = ["e", "q"]',
    }
    for pattern, line in changes.items():
        text, count = re.subn(pattern, line, text)
        assert count == 1, pattern
    (root / "jobs/parse_part.py").write_text(text, encoding="utf-8")
    # A flat folder tells the pressures by the files alone, as floats do: 0.2e6.
    assert "50 steps each" in run("parse_part.py", tmp_path)
    schema = read_schema(tmp_path / "part.hdf5")
    assert (schema.outputs, [(group.name, group.n_steps) for group in schema.groups]) == (
        ("e", "q"),
        [("0.2e6/drained", 50)],
    )


def test_one_network_is_trained(run: Run, tmp_path: Path):
    printed = run("train.py", tmp_path, CONFIG=SMALL)
    _, _, found = predict.get_pretrained_model(tmp_path / "outputs")
    assert {key: found[key] for key in SMALL} == SMALL
    (value,) = re.findall(r"^best val_loss of 1 epochs: (\S+)$", printed, re.MULTILINE)
    assert float(value) == pytest.approx(losses_of(tmp_path / "outputs")["val_loss"], rel=1e-3)


def test_a_sweep_runs_and_its_best_network_is_exported(swept: layout.SweepFolder, root: Path):
    summary = summarize(swept.root)
    assert (summary["state"], summary["trials"]["finished"]) == ("finished", 2)
    assert layout.read_json(swept.best.provenance)["trial"] == summary["best"]["number"]
    assert config.load_yaml(swept.best.config)["raw_data"] == str(root / project.DATA)


def test_an_agent_trains_what_the_sweep_says_and_its_own_defaults(run: Run, root: Path, tmp_path: Path):
    # What `wandb agent` gives the script: the parameters of one run in a file, and arguments that it need not read.
    chosen = tmp_path / "chosen.yaml"
    chosen.write_text("wandb_version: 1\nwindow_size: {value: 7}\nlearning_rate: {value: 0.005}\n")
    variables = {"WANDB_MODE": "offline", "WANDB_SWEEP_ID": "abc", "WANDB_SWEEP_PARAM_PATH": str(chosen)}
    run("sweep_agent.py", tmp_path, variables, DEFAULTS=SMALL)
    (found,) = (tmp_path / "wandb").glob("offline-run-*/files")
    _, stats, trained = predict.get_pretrained_model(found)
    assert trained["raw_data"] == str(root / project.DATA)
    assert {**SMALL, "window_size": 7, "learning_rate": 0.005}.items() <= trained.items()
    assert stats["param_names"][-1] == "e0"


def test_an_agent_without_a_server_trains_the_defaults(run: Run, tmp_path: Path):
    run("sweep_agent.py", tmp_path, {"WANDB_MODE": "offline"}, DEFAULTS=SMALL)
    (found,) = (tmp_path / "wandb").glob("offline-run-*/files")
    assert SMALL.items() <= predict.get_pretrained_model(found)[2].items()


def test_the_best_network_is_collected_again(run: Run, swept: layout.SweepFolder, tmp_path: Path):
    before = layout.read_json(swept.best.provenance)
    shutil.rmtree(swept.best.root)
    printed = run("collect.py", tmp_path)
    assert printed.splitlines()[-1] == f"the best is trial {before['trial']} -> {swept.best.root}"
    assert [int(number) for number in re.findall(r"^trial (\d): val_loss", printed, re.MULTILINE)] == [
        before["trial"],
        1 - before["trial"],
    ]
    assert layout.read_json(swept.best.provenance)["metrics"] == before["metrics"]


def test_both_ways_to_predict_find_the_same_errors(run: Run, swept: layout.SweepFolder, root: Path, tmp_path: Path):
    by_file = errors_in(run("predict.py", tmp_path))
    in_memory = errors_in(run("predict_from_sweep.py", tmp_path))
    assert list(by_file) == ["e", "p", "q", "f0", "a_c", "a_n", "a_t"]
    # Printed to three or four digits.
    assert all(in_memory[name] == pytest.approx(by_file[name], rel=2e-3, abs=2e-3) for name in by_file)
    assert list(in_memory) == list(by_file)
    assert (root / "runs/predictions.png").stat().st_size > 0
    arrays = np.load(root / "runs/predictions.npz")
    window_size = config.load_yaml(swept.best.config)["window_size"]
    # 81 sequences: 56 train, 12 validate, 13 test.
    assert arrays["predicted"].shape == arrays["simulated"].shape == (13, 101 - window_size, 7)


def test_predicting_from_a_sweep_whose_data_are_gone_says_so(
    run: Run, swept: layout.SweepFolder, root: Path, tmp_path: Path
):
    kept = tmp_path / "kept.hdf5"
    (root / project.DATA).rename(kept)
    try:
        said = run("predict_from_sweep.py", tmp_path, is_failing=True)
    finally:
        kept.replace(root / project.DATA)
    assert "is loaded without its test data" in said
    assert said.splitlines()[-1].startswith("The data of the sweep are not there any more")


def test_contact_parameters_are_calibrated(run: Run, root: Path, swept: layout.SweepFolder, tmp_path: Path):
    printed = run("calibrate.py", tmp_path, **{"NUM_SAMPLES": (20, 2)})
    found = re.findall(r"^(\w+): (\S+) \+- (\S+)$", printed, re.MULTILINE)
    assert [name for name, _, _ in found] == ["E", "v", "kr", "eta", "mu"]
    assert all(np.isfinite([float(value), float(spread)]).all() for _, value, spread in found)
    assert (root / "runs/calibration/posterior.png").is_file()
    assert (root / "runs/observation.dat").is_file()
