"""The script that starts W&B's agents, on a real Slurm: its nodes reach a W&B server, as those of some sites do."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glrnn_hpc import config, layout
from tests.slurm.conftest import REPOSITORY, Site
from tests.slurm.test_scripts import end_of, log_of, submit
from tests.tracking.server import ENTITY, WandbServer

PROJECT, EPOCHS, SEEDS = "on_slurm", 2, [1, 2, 3]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    # The tests of tracking have another one: they may run in another process.
    server = WandbServer(tmp_path_factory.mktemp("openwandb"))
    yield server
    server.close()


@pytest.fixture
def online(site: Site, server: WandbServer) -> Site:
    """Return the login node, with a project folder, after `wandb login`."""
    for name in [name for name in site.variables if name.startswith("WANDB_")]:
        del site.variables[name]
    path = f"{Path(sys.executable).parent}{os.pathsep}{site.variables['PATH']}"
    site.variables |= {"PATH": path, **server.environment}
    (site.folder / "jobs").mkdir()
    shutil.copy(REPOSITORY / "jobs/sweep_agent.py", site.folder / "jobs")
    return site


def write_sweep(site: Site) -> str:
    """Write a sweep of W&B's whose points are its seeds; return its name."""
    name, _ = site.write(len(SEEDS), EPOCHS)
    constants = {**config.load_yaml(site.folder / name)["parameters"], "seed": None}
    parameters = {**{key: {"value": value} for key, value in constants.items()}, "seed": {"values": SEEDS}}
    metric = {"name": "val_loss", "goal": "minimize"}
    content = {"project": PROJECT, "method": "grid", "metric": metric, "parameters": parameters}
    (site.folder / name).write_text(config.dump_yaml(content))
    return name


def test_the_agents_on_two_nodes_train_all_runs_of_a_sweep(online: Site, server: WandbServer):
    job = submit(online, "run_sweep_online", write_sweep(online), options=("--nodes=2", "--ntasks-per-node=1"))
    assert end_of(online, job) == ("COMPLETED", "0:0", "0"), online.errors()

    log = log_of(online, job)
    (identity,) = server.proxy.recorder.sweeps
    path = f"{ENTITY}/{PROJECT}/{identity}"
    assert "start 1, 2 agents on node[1-2]" in log
    assert re.search(rf"^wandb: Run sweep agent with: wandb agent {path}$", log, re.MULTILINE)
    assert (online.folder / f"job_outputs/glrnn-online-{job}.sweep").read_text() == f"{path}\n"
    assert {said[0] for said in re.findall(r"^(\d): wandb: Starting wandb agent", log, re.MULTILINE)} == {"0", "1"}

    runs = server.proxy.recorder.runs_of(PROJECT).values()
    assert sorted(run.config["seed"] for run in runs) == SEEDS
    for run in runs:
        assert (run.state, run.said("sweep")) == ("finished", identity)
        assert len([row for row in run.history if "val_loss" in row]) == EPOCHS
        assert {"train_stats.json", layout.MODEL_WHOLE} <= set(run.files)
