"""Files of the current folder that bear the name of a library: they are never run in its place."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from glrnn_hpc.import_path import leave_out_current_folder, module_command, without_current_folder

LIBRARIES = ("queue", "random", "wave", "runpy", "pkgutil", "types", "typing", "logging")

#: Module that says which modules it got, and its arguments.
MODULE = """
import sys
import queue, random, wave
print(['of_user' not in each.__file__ for each in (queue, random, wave)])
print(sys.argv[1:], __name__)
try:
    import of_the_current_folder
except ImportError:
    print('hidden')
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose files have the names of libraries, beside one with a module that is installed."""
    own = tmp_path / "of_user"
    own.mkdir()
    for name in LIBRARIES:
        (own / f"{name}.py").write_text(f"raise SystemExit('{name} of the user was run')\n")
    (own / "of_the_current_folder.py").touch()
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "a_program.py").write_text(MODULE)
    return own


def said(command: list[str], folder: Path, path: str) -> str:
    variables = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


EXPECTED = "[True, True, True]\n['-m', 'two words'] __main__\nhidden\n"


@pytest.mark.parametrize("front", ["", ":", ".:"])
def test_a_module_is_run_without_the_files_of_the_current_folder(front: str, folder: Path):
    path = f"{front}{folder.parent / 'installed'}"
    if front:  # these Python loads itself at its start, in any program
        for name in ("types", "typing", "pkgutil"):
            (folder / f"{name}.py").unlink()
    assert said([*module_command("a_program"), "-m", "two words"], folder, path) == EXPECTED


def test_so_is_the_command_of_a_shell_with_what_submitit_appends(folder: Path):
    command = f"{without_current_folder(shlex.quote(sys.executable))} -u -m a_program -m 'two words'"
    assert said(["/bin/sh", "-c", command], folder, str(folder.parent / "installed")) == EXPECTED


def test_a_process_that_multiprocessing_starts_leaves_the_folder_out_too(folder: Path):
    (folder.parent / "installed" / "spawning.py").write_text(
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(abs, [-2]))\n"
    )
    for name in () if hasattr(sys.flags, "safe_path") else LIBRARIES:  # Python 3.10 cannot leave it out
        (folder / f"{name}.py").unlink()
    assert said(module_command("spawning"), folder, str(folder.parent / "installed")) == "[2]\n"


def test_a_folder_that_pythonpath_names_stays_on_the_path(folder: Path):
    for name in LIBRARIES:
        (folder / f"{name}.py").unlink()
    path = os.pathsep.join([str(folder.parent / "installed"), str(folder)])
    assert "hidden" not in said([*module_command("a_program"), "-m", "two words"], folder, path)


def test_the_current_folder_is_taken_off_the_path_of_a_running_process(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/library", str(tmp_path)])
    leave_out_current_folder()
    assert sys.path == ["/library", str(tmp_path)]
    leave_out_current_folder()
    assert sys.path == ["/library", str(tmp_path)], "the last one was put there by a reference"
    monkeypatch.setattr(sys, "path", ["/bin", str(tmp_path), "/library"])
    monkeypatch.setenv("PYTHONPATH", ":/library")
    leave_out_current_folder()
    assert sys.path == ["/bin", "/library"]


def test_a_folder_that_pythonpath_names_stays_behind_the_one_of_python_m(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path), "/library"])
    leave_out_current_folder()
    leave_out_current_folder()
    assert sys.path == [str(tmp_path), "/library"]


def test_the_command_runs_no_file_of_the_current_folder_whatever_pythonpath_is(folder: Path):
    for path in folder.glob("*.py"):  # Python itself, and an editable installation, load some of these
        path.unlink()
    for name in ("inspect", "logging", "queue", "random", "shlex", "typer"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the user was run')\n")
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    (entry,) = re.findall(r'^glrnn = "(\S+):main"$', project, flags=re.MULTILINE)
    # As the script that pip writes does; its own folder is first on the path.
    (folder.parent / "glrnn").write_text(f"import sys\nfrom {entry} import main\nsys.exit(main())\n")
    assert "Usage" in said([sys.executable, str(folder.parent / "glrnn"), "--help"], folder, ":/nothing")
