"""What a rank loads, and what it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glrnn_hpc import config
from tests.conftest import write_steps

#: Imports both afterwards: Keras must not have made them unusable.
PROGRAM = """
import sys
from glrnn_hpc.cli import app
app(sys.argv[1:], standalone_mode=False)
print({"sklearn", "matplotlib"} & {*sys.modules})
import sklearn.linear_model, matplotlib.figure
"""


def written(path: Path, content: dict[str, object]) -> str:
    path.write_text(config.dump_yaml(content))
    return str(path)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, object]:
    data = write_steps(tmp_path / "a.hdf5", n_samples=8)
    small: dict[str, object] = {"raw_data": str(data), "window_size": 3, "lstm_units": 2, "dense_units": 2, "epochs": 1}
    return {**small, "train_frac": 0.5, "val_frac": 0.25}


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_training_loads_no_library_that_it_does_not_need(command: str, keys: dict[str, object], tmp_path: Path):
    content = keys if command == "train" else {"method": "random", "run_cap": 1, "parameters": keys}
    file = written(tmp_path / "file.yaml", content)
    how = ["--cluster", "debug", "--collect"] if command == "sweep" else []
    program = [sys.executable, "-c", PROGRAM, command, file, "--out", str(tmp_path / "out"), *how]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "set()"
