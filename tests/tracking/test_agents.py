"""Sweeps that the server leads, by the real client's commands, and their best run fetched from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from glrnn_hpc import config, layout, predict
from glrnn_hpc.errors import ModelError, SweepError, TrackingError
from glrnn_hpc.tracking import download
from tests.conftest import write_steps
from tests.tracking.server import ROOT, WandbServer

#: Stand in for Slurm: run the task, say that the job is ending.
SRUN = '#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n'
SQUEUE = "#!/bin/bash\necho COMPLETING\n"

SMALL = {"lstm_units": 4, "dense_units": 4, "epochs": 2, "batch_size": 64, "window_step": 1, "patience": 2}


def content_of(data: Path, project: str) -> dict[str, object]:
    fixed = {key: {"value": value} for key, value in {**SMALL, "raw_data": str(data), "seed": 1}.items()}
    return {
        "project": project,
        "program": "jobs/sweep_agent.py",
        "method": "grid",
        "metric": {"name": "val_loss", "goal": "minimize"},
        "parameters": {**fixed, "window_size": {"values": [3, 4, 5]}},
    }


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("agents")
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    write_steps(folder / "a.hdf5")
    (folder / "s.yaml").write_text(config.dump_yaml(content_of(folder / "a.hdf5", "agents")))
    (folder / "bin").mkdir()
    for name, text in {"srun": SRUN, "squeue": SQUEUE}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    return folder


def run(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}
    environment |= {"PATH": path, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=400
    )


@pytest.fixture(scope="session")
def led(folder: Path, _server: WandbServer) -> str:
    """Let the script for Slurm make a sweep and train its three runs; return entity/project/id."""
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "online", "SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "here"}
    ran = run(folder, "bash", "slurm/run_sweep_online.sbatch", "s.yaml", **slurm, **_server.environment)
    log = (folder / "job_outputs" / "online-7.log").read_text()
    assert ran.returncode == 0, ran.stderr + log
    (path,) = re.findall(r"wandb agent '?(\S+?)'?$", log, re.MULTILINE)[:1]
    assert (folder / "job_outputs" / "online-7.sweep").read_text().strip() == path
    return path


def test_the_agents_of_the_slurm_script_train_all_runs_of_the_sweep(server: WandbServer, led: str, folder: Path):
    runs = server.proxy.recorder.runs_of("agents")
    identity = led.split("/")[2]
    assert sorted(run.config["window_size"] for run in runs.values()) == [3, 4, 5]
    for run_ in runs.values():
        assert (run_.state, run_.said("sweep")) == ("finished", identity)
        assert [row["_step"] for row in run_.history] == sorted({row["_step"] for row in run_.history})
        assert len([row for row in run_.history if "val_loss" in row]) == SMALL["epochs"]
        assert {"train_stats.json", layout.MODEL_WHOLE, "config.yaml"} <= set(run_.files)
        assert {key: run_.config[key] for key in SMALL} == SMALL


def test_the_best_run_of_a_sweep_on_the_server_is_fetched_with_its_files(
    server: WandbServer, led: str, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    runs = server.proxy.recorder.runs_of("agents")
    best = min(runs, key=lambda name: runs[name].summary["val_loss"])
    model, data, stats, found = predict.get_best_run_from_sweep(led)
    assert (found["window_size"], found["lstm_units"]) == (runs[best].config["window_size"], 4)
    assert stats["label_names"] == ["e", "p"]
    by_mae = min(runs, key=lambda name: runs[name].summary["test_mae"])
    ranked = predict.get_best_run_from_sweep(led, order="+summary_metrics.test_mae")
    assert len(ranked) == 3
    assert ranked[2]["window_size"] == runs[by_mae].config["window_size"]
    assert predict.predict_macroscopics(model, data, stats, found).shape == (3, 12 - found["window_size"], 2)
    downloaded = tmp_path / "wandb" / "downloads" / led.rpartition("/")[0] / best
    files = {path.name: path.read_bytes() for path in downloaded.iterdir()}
    assert set(files) == set(runs[best].files)
    for name in (layout.MODEL_WHOLE, "train_stats.json", "config.yaml"):
        assert files[name] == runs[best].files[name]


def test_the_best_run_on_the_server_comes_without_data_that_are_gone(
    server: WandbServer, led: str, folder: Path, tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    (folder / "a.hdf5").rename(folder / "hidden.hdf5")
    try:
        assert predict.get_best_run_from_sweep(led)[1] is None
    finally:
        (folder / "hidden.hdf5").rename(folder / "a.hdf5")
    assert "is loaded without its test data" in caplog.text
    assert "a.hdf5: there is no such file" in caplog.text


def test_what_the_server_does_not_have_is_named(server: WandbServer, led: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recorder = server.proxy.recorder
    runs = recorder.runs_of("agents")
    best = min(runs, key=lambda name: runs[name].summary["val_loss"])
    model = runs[best].files.pop(layout.MODEL_WHOLE)
    try:
        with pytest.raises(ModelError, match=rf"its best run, {best}, has no model-best.keras or .* deleted there"):
            predict.get_best_run_from_sweep(led)
    finally:
        runs[best].files[layout.MODEL_WHOLE] = model
    with pytest.raises(SweepError, match="default/agents/nosuch: W&B's server shows no such sweep"):
        predict.get_best_run_from_sweep("default/agents/nosuch")
    everything = dict(recorder.runs)
    try:
        recorder.forget_project("agents")
        with pytest.raises(SweepError, match="has no finished run of this sweep .*; it has none at all; .* deleted"):
            predict.get_best_run_from_sweep(led)
    finally:
        recorder.runs = everything
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="cannot be reached"):
        predict.get_best_run_from_sweep(led)


IN_PYTHON = """
import json, sys
import wandb
from glrnn_hpc import train
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression

def my_training_function():
    with wandb.init() as run:
        preprocessor = PreprocessorTriaxialCompression(**wandb.config)
        train.train(preprocessor, config=wandb.config)

sweep_id = wandb.sweep(json.loads(sys.argv[1]), project="in_python")
wandb.agent(sweep_id, function=my_training_function, project="in_python", count=1)
"""


def test_a_sweep_is_led_from_python_as_the_documentation_of_grainlearning_does(server: WandbServer, folder: Path):
    content = content_of(folder / "a.hdf5", "in_python")
    del content["program"]
    ran = run(folder, sys.executable, "-c", IN_PYTHON, json.dumps(content))
    assert ran.returncode == 0, ran.stderr
    runs = server.proxy.recorder.runs_of("in_python")
    assert sorted(run_.config["window_size"] for run_ in runs.values()) == [3], ran.stderr
    for run_ in runs.values():
        assert run_.state == "finished", ran.stderr
        losses = [row["val_loss"] for row in run_.history if "val_loss" in row]
        assert len(losses) == SMALL["epochs"]
        assert run_.summary["val_loss"] == pytest.approx(np.min(losses))
        assert layout.MODEL_WHOLE in run_.files


@pytest.mark.parametrize("name", ["../../../../victim", "..", "", "/victim"])
def test_a_name_from_the_server_leads_out_of_no_folder(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "here"))
    victim = tmp_path / "victim"
    victim.mkdir()
    with pytest.raises(TrackingError, match="no name of a folder"):
        download._download(SimpleNamespace(entity="e", project="p", id=name, files=list))
    assert sorted(tmp_path.iterdir()) == [victim]


#: A script that searches as GrainLearning's two tutorials do, on a file or on arrays in memory, and takes the best run.
HYPERTUNING = """
import json, sys
import numpy as np
import wandb
from glrnn_hpc import preprocessor
from glrnn_hpc.predict import get_best_run_from_sweep, predict_batch
from glrnn_hpc.train import HyperTuning, train

my_config = {"train_frac": 0.6, "val_frac": 0.2, "window_size": 2, "window_step": 1, "patience": 2, "epochs": 1}
my_config |= {"lstm_units": 4, "dense_units": 4, "batch_size": 64, "save_weights_only": True}
strain, params = np.linspace(0, 1, 12), np.random.default_rng(1).random((20, 2))
if sys.argv[1] == "arrays":
    outputs = (params[:, :1] * strain)[:, None]
    my_config |= {"input_data": strain, "param_data": params, "output_data": outputs}
else:
    my_config |= {"raw_data": sys.argv[2], "pressure": "All", "pad_length": 1}

def prepare(config):
    if sys.argv[1] == "arrays":
        return preprocessor.PreprocessorLSTM.from_dict(config)
    return preprocessor.PreprocessorTriaxialCompression(**config)

def my_training_function():
    with wandb.init():
        my_config["window_size"] = wandb.config["window_size"]
    train(prepare(my_config), config=my_config if sys.argv[1] == "arrays" else None)

sweep = {"method": "random", "metric": {"goal": "minimize", "name": "mae"}}
space = {"window_size": {"distribution": "q_uniform", "q": 2, "min": 4, "max": 4}}
hyper_tuner = HyperTuning(sweep, space, my_config, project_name="tuned_" + sys.argv[1])
hyper_tuner.run_sweep(my_training_function, count=1)
path = f"{hyper_tuner.entity_name}/{hyper_tuner.project_name}/{hyper_tuner.sweep_id}"
model, train_stats, config = get_best_run_from_sweep(path, with_data=False)
data = prepare(config).prepare_single_dataset()
print(json.dumps([path, config["window_size"], list(predict_batch(model, data, train_stats, config).shape)]))
"""


@pytest.mark.parametrize(("kind", "shape"), [("file", [20, 12 + 1 - 4, 2]), ("arrays", [20, 12, 1])])
def test_hyperparameters_are_tuned_as_grainlearnings_tutorials_do(
    server: WandbServer, folder: Path, kind: str, shape: list[int]
):
    ran = run(folder, sys.executable, "-c", HYPERTUNING, kind, str(folder / "a.hdf5"))
    assert ran.returncode == 0, ran.stderr
    path, window_size, predicted = json.loads(ran.stdout.splitlines()[-1])
    assert (window_size, predicted) == (4, shape)
    assert path.startswith(f"default/tuned_{kind}/")
    assert (folder / "wandb" / f"{path.replace('/', '_')}.npy").exists()
