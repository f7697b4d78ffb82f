"""Libraries that a rank loads, and those that it leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glrnn_hpc import config

#: Imports both afterwards: Keras must not have made them unusable.
PROGRAM = """
import sys
from glrnn_hpc.cli import app
app(sys.argv[1:], standalone_mode=False)
print(sorted({"sklearn", "matplotlib"} & {*sys.modules}))
import sklearn.linear_model, matplotlib.figure
"""


def loaded_by(*command: object) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


def test_training_and_predicting_load_no_library_that_they_do_not_need(tiny: Callable[..., Any], tmp_path: Path):
    keys, run = tiny(epochs=1), tmp_path / "run"
    (tmp_path / "c.yaml").write_text(config.dump_yaml(keys))
    assert loaded_by("train", tmp_path / "c.yaml", "--out", run) == "[]"
    predict = ["predict", run, keys["raw_data"], "--out", tmp_path / "p.hdf5"]
    assert loaded_by(*predict) == "[]"
    assert loaded_by(*predict, "--figure", tmp_path / "p.png") == "['matplotlib']"


def test_ranks_and_collecting_load_no_library_that_they_do_not_need(tiny: Callable[..., Any], tmp_path: Path):
    sweep = {"method": "random", "run_cap": 1, "parameters": tiny(epochs=1)}
    (tmp_path / "s.yaml").write_text(config.dump_yaml(sweep))
    assert loaded_by("sweep", tmp_path / "s.yaml", "--out", tmp_path / "sweep", "--cluster", "debug") == "[]"
    assert loaded_by("collect", tmp_path / "sweep", "--no-baseline") == "[]"
    assert loaded_by("collect", tmp_path / "sweep") == "['sklearn']"
