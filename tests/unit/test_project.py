"""A project folder: what is in it, and whose paths."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glrnn_hpc import project
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.launch.slurm.profile import load_profile
from glrnn_hpc.search.sweep import load_sweep

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["project", 'it\'s a 100% "odd" näme: #1'])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a new project, in a folder whose name has what YAML, Python and shells take for their own, too."""
    project.write_project(tmp_path / request.param)
    return tmp_path / request.param


def texts_in(script: Path) -> list[str]:
    """Return the texts of a script, without parts of f-strings."""
    nodes = list(ast.walk(ast.parse(script.read_text(encoding="utf-8"))))
    parts = [part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values]
    constants = [node for node in nodes if isinstance(node, ast.Constant) and node not in parts]
    return [node.value for node in constants if isinstance(node.value, str)]


def test_sweep_files_name_the_data_and_the_script_of_the_project(folder: Path) -> None:
    files = sorted((folder / "sweeps").iterdir())
    assert [file.name for file in files] == ["example_sweep.yaml", "hyperband.yaml", "smoke.yaml"]
    for file in files:
        spec = load_sweep(file)
        assert spec.constants["raw_data"] == str(folder / "data" / "triaxial.hdf5")
        assert spec.labels["program"] == str(folder / "jobs" / "sweep_agent.py")
        assert (folder / "jobs" / "sweep_agent.py").is_file()


def test_scripts_name_paths_of_the_project_alone(folder: Path) -> None:
    scripts = sorted((folder / "jobs").glob("*.py"))
    assert len(scripts) == 8
    paths = {text for script in scripts for text in texts_in(script) if text.startswith("/")}
    assert {str(folder / name) for name in ("data/triaxial.hdf5", "data/raw", "runs/sweep", "runs/sweep/best")} <= paths
    assert all(path.startswith(f"{folder}/") for path in paths)
    for path in paths:
        part = Path(path).relative_to(folder).parts[0]
        assert part in ("data", "runs", "sweeps", "slurm")
        assert part != "sweeps" or Path(path).is_file()
    for file in folder.rglob("*.*"):
        assert "tests/data" not in file.read_text(encoding="utf-8"), file


def test_profiles_and_readmes_are_those_of_the_repository(folder: Path) -> None:
    profiles = [path for path in (ROOT / "slurm/profiles").glob("*.yaml") if path.name != "test-cluster.yaml"]
    assert {path.name for path in (folder / "slurm/profiles").glob("*")} == {path.name for path in profiles}
    for path in profiles:
        assert load_profile(folder / "slurm/profiles" / path.name) == load_profile(path)
    for name in ("jobs/README.md", "slurm/README.md"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()


def test_sbatch_scripts_activate_the_environment_in_which_the_project_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "#!/bin/bash\n# module load 2023\n# source ~/venvs/glrnn/bin/activate\nglrnn worker runs\n"
    venv = tmp_path / "my venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/activate").write_text("echo activated")
    monkeypatch.setattr(sys, "prefix", str(venv))
    filled = project._fill_shell(script, tmp_path)
    line = re.search("^source .*$", filled, re.MULTILINE)
    assert line
    assert subprocess.run(["bash", "-c", line[0]], capture_output=True, text=True, check=True).stdout == "activated\n"
    assert filled.replace(line[0], "# source ~/venvs/glrnn/bin/activate") == script
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert project._fill_shell(script, tmp_path) == script


def test_an_empty_folder_and_the_current_one_can_become_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    files = project.write_project(".")
    assert tmp_path / "empty/jobs/train.py" in files
    assert all(file.is_file() for file in files)
    assert [path for path in (tmp_path / "empty").rglob(".*")] == []


@pytest.mark.parametrize("is_file", [False, True])
def test_what_is_there_already_is_never_written_over(is_file: bool, tmp_path: Path) -> None:
    mine = tmp_path / "mine" if is_file else tmp_path / "mine" / "notes.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("important")
    with pytest.raises(ConfigError, match="mine: exists and is not an empty folder; choose another one"):
        project.write_project(tmp_path / "mine")
    assert mine.read_text() == "important"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/project: the project cannot be written there"):
        project.write_project(tmp_path / "file" / "project")


def test_the_command_tells_what_it_wrote_and_what_to_do(tmp_path: Path) -> None:
    def init(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "glrnn_hpc", "init", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ))

    told = json.loads(init("project", "--json").stdout)
    assert told["output"] == str(tmp_path / "project")
    assert told["data"] == str(tmp_path / "project/data/triaxial.hdf5")
    assert {Path(file) for file in told["files"]} == {path for path in (tmp_path / "project").rglob("*.*")}
    again = init("project")
    assert (again.returncode, again.stdout) == (2, "")
    assert "glrnn: project: exists and is not an empty folder" in again.stderr
    assert "cd 'an other' && glrnn sweep sweeps/smoke.yaml --out runs/smoke" in init("an other").stdout
