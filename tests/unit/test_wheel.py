"""The package as pip installs it: built from the sources alone, with the files that `glrnn init` copies from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from glrnn_hpc import project

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("glrnn_hpc", "jobs", "sweeps", "slurm", "pyproject.toml", "README.md", "LICENSE")

MODELS = ("glrnn_hpc/pretrained/*/*", "glrnn_hpc/pretrained/*/members/*/*")
MEMBER = "glrnn_hpc/pretrained/an-ensemble/members/0/config.yaml"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an sdist, and a wheel from it, of a copy of the sources."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    # Shipped models may be ensembles, whose members lie in folders of their own.
    (folder / MEMBER).parent.mkdir(parents=True)
    (folder / MEMBER).write_text("window_size: 10\n")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, f"it needs `pip install '.[dev]'`\n{built.stdout[-2000:]}{built.stderr[-2000:]}"
    return folder / "dist"


@pytest.fixture(scope="module")
def unpacked(dist: Path) -> Path:
    """Return what an installation would put into site-packages."""
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(dist / "unpacked")
    return dist / "unpacked"


def files(folder: Path, *patterns: str) -> set[str]:
    found = (path for pattern in patterns for path in folder.glob(pattern))
    return {str(path.relative_to(folder)) for path in found if path.is_file() and "__pycache__" not in path.parts}


def test_the_wheel_holds_every_module_every_shipped_model_and_every_template_and_nothing_else(unpacked: Path) -> None:
    modules = files(ROOT, "glrnn_hpc/**/*.py", "glrnn_hpc/py.typed")
    templates = files(ROOT, "jobs/*", "sweeps/*", "slurm/*.*", "slurm/profiles/*")
    assert len(modules) > 50
    assert {"jobs/train.py", "sweeps/smoke.yaml", "slurm/profiles/test-cluster.yaml"} <= templates
    models = files(ROOT, *MODELS)
    assert {Path(name).parts[2] for name in models} == {"dem-all", "dem-cyclic", "dem-drained", "dem-undrained"}
    held = {name for name in files(unpacked, "**/*.*") if not name.startswith("glrnn_hpc-")}
    assert held == modules | models | {MEMBER} | {f"glrnn_hpc/templates/{name}" for name in templates}
    assert all(
        (unpacked / "glrnn_hpc/templates" / name).read_bytes() == (ROOT / name).read_bytes() for name in templates
    )


def test_the_sdist_holds_the_templates_where_the_repository_has_them(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = files(ROOT, "glrnn_hpc/**/*.py", "glrnn_hpc/py.typed", *MODELS)
    assert files(ROOT, "jobs/*", "sweeps/*", "slurm/*.*", "slurm/profiles/*") | sources | {MEMBER} <= names


def init(installation: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    # Not measured: coverage would report each copy of the package as files that nothing runs.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    return subprocess.run(
        [sys.executable, "-m", "glrnn_hpc", "init", "project"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(installation)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installation_makes_the_same_project_as_a_checkout(unpacked: Path, tmp_path: Path) -> None:
    made = init(unpacked, tmp_path)
    assert made.returncode == 0, made.stderr
    contents = {path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "project").rglob("*.*")}
    shutil.rmtree(tmp_path / "project")
    again = project.write_project(tmp_path / "project")
    assert contents == {path.relative_to(tmp_path): path.read_bytes() for path in again}


def test_an_installation_that_lacks_a_folder_says_so_and_writes_nothing(unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked, tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken/glrnn_hpc/templates/sweeps")
    made = init(tmp_path / "broken", tmp_path)
    assert made.returncode == 2
    assert re.search(
        r"broken/glrnn_hpc/templates/sweeps: there is no such folder.*install glrnn_hpc again", made.stderr
    )
    assert not (tmp_path / "project").exists()
