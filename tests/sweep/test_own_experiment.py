"""Oedometric compression from one file of the user's: parse, sweep, collect and predict, each as a command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.config import load_yaml

REFERENCE = "oedometric:Oedometric"
GROUPS = [f"{density}/{kind}" for density in ("dense", "loose") for kind in ("cyclic", "loading")]
N_STEPS, N_SAMPLES = 12, 10

SWEEP = f"""\
method: random
metric: {{name: val_loss, goal: minimize}}
run_cap: 2
parameters:
  experiment: {REFERENCE}
  raw_data: data.hdf5
  pressure: [dense, loose]
  window_size: 3
  epochs: 2
  lstm_units: 4
  dense_units: 4
  batch_size: 64
  standardize_inputs: true
  learning_rate: {{min: 0.001, max: 0.01}}
"""


def glrnn(folder: Path, *arguments: object, status: int = 0) -> Any:
    """Run a command in the user's folder; return its JSON, or what it says on stderr if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "glrnn_hpc", *map(str, arguments), *(["--json"] if status == 0 else [])],
        cwd=folder,
        env={**os.environ, "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout) if status == 0 else done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a user's folder: raw files in one heap, which tell their groups, and the experiment in one module."""
    root = tmp_path_factory.mktemp("oedometer")
    shutil.copy(Path(__file__).with_name("oedometric.py"), root)
    rng = np.random.default_rng(3)
    for group in GROUPS:
        density, path = group.split("/")
        strain = np.linspace(0, 0.1, N_STEPS)
        if path == "cyclic":
            strain = 0.05 * (1 - np.cos(np.linspace(0, 4 * np.pi, N_STEPS)))
        for number in range(N_SAMPLES):
            stiffness, friction = rng.uniform(1, 2), rng.uniform(0.2, 0.5)
            stress = 1e3 * stiffness * strain * (2 if density == "dense" else 1)  # Pa
            constants = {"E": stiffness, "mu": friction, "density": density, "path": path}
            features = {"e_z": strain, "s_z": stress, "K0": np.full(N_STEPS, 1 - np.sin(friction))}
            (root / "raw").mkdir(exist_ok=True)
            name = f"{density}-{path}-{number:02d}.npy"
            np.save(root / "raw" / name, np.array((constants, features), dtype=object), allow_pickle=True)
    (root / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def parsed(folder: Path) -> dict[str, Any]:
    """Parse the raw files into data.hdf5."""
    report: dict[str, Any] = glrnn(folder, "parse", "raw", "data.hdf5", "--flat", "--experiment", REFERENCE)
    return report


@pytest.fixture(scope="module")
def best(folder: Path, parsed: dict[str, Any]) -> Path:
    """Run the sweep on one rank of MPI and export its best network."""
    glrnn(folder, "sweep", "sweep.yaml", "--out", "sweep", "--workers", 1, "--ranks-per-worker", 1)
    assert glrnn(folder, "status", "sweep")["trials"]["finished"] == 2
    collected = glrnn(folder, "collect", "sweep", "--top", 2)
    assert not collected.get("refused")
    return folder / "sweep" / "best"


def test_raw_files_are_sorted_into_the_groups_that_the_experiment_names(folder: Path, parsed: dict[str, Any]):
    assert {name: group["good"] for name, group in parsed["groups"].items()} == dict.fromkeys(GROUPS, N_SAMPLES)
    with h5py.File(folder / "data.hdf5") as file:
        assert list(file.attrs["contact_params"]) == ["E", "mu"]
        assert list(file.attrs["inputs"]) == ["e_z"]
        assert list(file.attrs["outputs"]) == ["s_z", "K0"]
        assert list(file.attrs["unused_keys_constant"]) == ["density", "path"]
        group = file["dense/loading"]
        # 1000 Pa are 1 kPa: strain 0.1 and twice the stiffness.
        np.testing.assert_allclose(group["outputs"][:, -1, 0], 0.2 * group["contact_params"][:, 0], rtol=1e-5)


def test_inspect_knows_the_types_of_the_experiment(folder: Path, parsed: dict[str, Any]):
    own = glrnn(folder, "inspect", "data.hdf5", "--experiment", REFERENCE)["problems"]
    assert not [problem for problem in own if "neither" in problem or "pressure" in problem]
    triaxial = glrnn(folder, "inspect", "data.hdf5")["problems"]
    assert "dense/loading: loading is neither drained nor undrained" in triaxial


def test_a_sweep_trains_with_the_parameters_of_the_experiment(best: Path):
    assert load_yaml(best / "config.yaml")["experiment"] == REFERENCE
    stats = json.loads((best / "train_stats.json").read_text(encoding="utf-8"))
    assert stats["param_names"] == ["E", "mu", "density", "experiment_type"]
    assert (stats["input_names"], stats["label_names"]) == (["e_z"], ["s_z", "K0"])
    assert (stats["params_min"][2:], stats["params_max"][2:]) == ([0, 0], [1, 1])
    assert stats["sequence_length"] == N_STEPS
    provenance = json.loads((best / "provenance.json").read_text(encoding="utf-8"))
    assert [label["unit"] for label in provenance["labels"]] == ["kPa", None]
    assert provenance["data"]["groups"] == GROUPS


def test_predictions_have_the_groups_and_the_units_of_the_experiment(folder: Path, best: Path):
    predicted = glrnn(folder, "predict", best, "data.hdf5", "--out", "predicted.hdf5", "--figure", "figure.png")
    assert predicted["units"] == {"s_z": "kPa"}
    assert set(predicted["metrics"]) == {"s_z", "K0"}
    with h5py.File(folder / "predicted.hdf5") as file, h5py.File(folder / "data.hdf5") as data:
        assert list(file.attrs["outputs_units"]) == ["kPa", ""]
        names = [f"{density}/{kind}" for density in file for kind in file[density]]
        assert set(names) <= set(GROUPS)
        for name in names:
            simulated = data[name]["outputs"][:][file[name]["samples"][:]]
            np.testing.assert_array_equal(file[name]["simulated"], simulated[:, 3:])
            assert np.isfinite(file[name]["outputs"]).all()
    assert (folder / "figure.png").stat().st_size > 10_000


def test_a_wrong_name_of_an_experiment_is_one_message_with_the_way_to_an_own_one(folder: Path, parsed: dict[str, Any]):
    wrong = (folder / "sweep.yaml").read_text(encoding="utf-8").replace(REFERENCE, "triaxal")
    (folder / "wrong.yaml").write_text(wrong, encoding="utf-8")
    said = glrnn(folder, "sweep", "wrong.yaml", "--out", "wrong", status=2)
    assert "parameters.experiment: there is no experiment 'triaxal'; did you mean triaxial?" in said
    assert "Known are triaxial, arrays" in said
    assert "module:Class" in said
    assert not (folder / "wrong").exists()


def test_a_choice_of_groups_that_is_not_there_is_named_with_the_nearest(folder: Path, parsed: dict[str, Any]):
    wrong = (folder / "sweep.yaml").read_text(encoding="utf-8").replace("[dense, loose]", "dens")
    (folder / "wrong.yaml").write_text(wrong, encoding="utf-8")
    said = glrnn(folder, "sweep", "wrong.yaml", "--out", "wrong", status=2)
    assert "no pressure 'dens'; there are dense, loose. did you mean dense?" in said
