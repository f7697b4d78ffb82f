"""A ready project folder: the sweep files, job scripts and profiles of this package with the folder's paths in them."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.errors import ConfigError, LaunchError

#: Where the user's data go, in place of what the templates name: the samples of this repository.
DATA = "data/triaxial.hdf5"
_DATA = {"tests/data/triaxial.hdf5": DATA, "runs/triaxial.hdf5": DATA, "tests/data/raw": "data/raw"}

_ABOUT_DATA = f"""Put your data here; the sweep files and scripts of this project look for `{DATA}`.

- From YADE's raw files, `<pressure>/<experiment type>/*.npy`: put them into `data/raw`, then
  `glrnn parse data/raw {DATA}`.
- An HDF5 file that you have: copy it, or link it, under that name. `glrnn inspect {DATA}` shows what it holds.
"""


@dataclass(frozen=True)
class _Part:
    """Files of the templates: where they lie, here as in a project, and how paths are filled in."""

    folder: str
    pattern: str
    fill: Callable[[str, Path], str]


def write_project(folder: str | Path) -> list[Path]:
    """Write a project folder for someone who has their own data and this package installed.

    Parameters
    ----------
    folder : path
        To make; it must not exist, or be empty.

    Returns
    -------
    list of Path
        The files that were written, in the order of their names.

    Raises
    ------
    ConfigError
        If `folder` is a file, is not empty, or cannot be written.
    LaunchError
        If the templates are missing from the installation.
    """
    root = Path(folder).resolve()
    texts = {
        path: part.fill(source.read_text(encoding="utf-8"), root)
        for part in _PARTS
        for path, source in _templates(part)
    }
    texts["data/README.md"] = _ABOUT_DATA
    try:
        layout.check_free(Path(folder), "choose another one for the project.")
        for path, text in texts.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            layout.write_text(target, text)
        (root / "runs").mkdir()
    except (OSError, UnicodeEncodeError) as error:
        raise ConfigError(f"{folder}: the project cannot be written there: {error}") from error
    return [root / path for path in sorted(texts)]


def _templates(part: _Part) -> list[tuple[str, Path]]:
    """Return the files of a part: their paths in a project, and where they lie here."""
    package = Path(__file__).resolve().parent
    installed = package / "templates"
    # In a checkout they are the folders beside the package; an installation has copies of them.
    source = (installed if installed.is_dir() else package.parent) / part.folder
    if not source.is_dir():
        raise LaunchError(
            f"{source}: there is no such folder, so this installation is not whole; install glrnn_hpc again."
        )
    files = [path for path in sorted(source.glob(part.pattern)) if path.name not in _NOT_FOR_PROJECTS]
    return [(f"{part.folder}/{path.name}", path) for path in files]


#: What belongs to the tests, to `make run` and to the shipped models.
_NOT_FOR_PROJECTS = (
    "main_job.yaml",
    *(f"dem_{name}.yaml" for name in ("all", "cyclic", "drained", "undrained")),
    "test-cluster.yaml",
)


def _fill_yaml(text: str, root: Path) -> str:
    """Fill in the file of the data, and of the script that `wandb agent` runs."""
    for here, there in _DATA.items():
        text = text.replace(f" {here}\n", f" {_quoted(root / there)}  # put your file there\n")
    return re.sub(
        r"^(program:) (jobs/\S+)", lambda match: f"{match[1]} {_quoted(root / match[2])}", text, flags=re.MULTILINE
    )


def _fill_python(text: str, root: Path) -> str:
    """Fill in every path that stands alone in quotes, so that a script runs from any folder."""

    def filled(match: re.Match[str]) -> str:
        path = match[1]
        return _quoted(root / _DATA.get(path, path))

    return re.sub(r'"((?:tests/data|runs|sweeps|slurm)/[^"\n]*)"', filled, text)


def _fill_shell(text: str, root: Path) -> str:
    """Fill in the virtual environment in which this runs, if it does."""
    if sys.prefix == sys.base_prefix:
        return text
    activate = shlex.quote(str(Path(sys.prefix) / "bin" / "activate"))
    return re.sub(r"^# source \S+/bin/activate$", lambda _: f"source {activate}", text, flags=re.MULTILINE)


def _fill_nothing(text: str, root: Path) -> str:
    return text


def _quoted(path: Path) -> str:
    """Return a path in quotes as Python and YAML alike read them."""
    return json.dumps(str(path), ensure_ascii=False)


_PARTS = (
    _Part("jobs", "*.py", _fill_python),
    _Part("jobs", "*.md", _fill_nothing),
    _Part("sweeps", "*.yaml", _fill_yaml),
    _Part("slurm", "*.sbatch", _fill_shell),
    _Part("slurm", "*.md", _fill_nothing),
    _Part("slurm/profiles", "*.yaml", _fill_nothing),
)
