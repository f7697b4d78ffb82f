"""The script that sweeps, on a real Slurm: a line of it chooses the cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from glrnn_hpc import config, layout, project
from glrnn_hpc.summary.status import summarize
from tests.conftest import write_steps

REPOSITORY = Path(__file__).parents[2]


def test_the_sweep_script_submits_jobs_and_exports_the_best_network(cluster: dict[str, str], tmp_path: Path):
    root = tmp_path / "project"
    project.write_project(root)
    data = write_steps(root / project.DATA)
    keys = {"raw_data": str(data), "window_size": {"values": [3, 4]}, "lstm_units": 4, "dense_units": 4, "epochs": 1}
    (root / "sweeps/mine.yaml").write_text(config.dump_yaml({"method": "grid", "parameters": keys}))
    text = (root / "jobs/sweep.py").read_text(encoding="utf-8")
    changes = {
        "SWEEP": root / "sweeps/mine.yaml",
        "CLUSTER": "slurm",
        "PROFILE": REPOSITORY / "slurm/profiles/test-cluster.yaml",
        "N_WORKERS": 2,
        "RANKS_PER_WORKER": 1,
    }
    for name, value in changes.items():
        shown = value if isinstance(value, int) else f'"{value}"'
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {shown}", text, flags=re.MULTILINE)
        assert count == 1, name
    (root / "jobs/sweep.py").write_text(text, encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "jobs/sweep.py"],
        cwd=root,
        env={**cluster, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    sweep = layout.SweepFolder(root / "runs/sweep")
    found = summarize(sweep.root)
    assert (found["state"], found["trials"]["finished"]) == ("finished", 2)
    # Workers on this machine would be called local-000.
    assert all(re.fullmatch(r"\d+_[01]", worker.root.name) for worker in sweep.all_workers())
    assert layout.read_json(sweep.best.provenance)["trial"] == found["best"]["number"]
