"""Trained models that come with the package, loaded by name (docs/models.md)."""

from __future__ import annotations

from pathlib import Path

from glrnn_hpc.config import did_you_mean
from glrnn_hpc.errors import MissingModelFile

#: One folder for each of them, as `glrnn collect` exports a model.
FOLDER = Path(__file__).resolve().parents[1] / "pretrained"


def names() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(path.name for path in FOLDER.glob("*") if path.is_dir())


def folder_of(model: str | Path) -> Path:
    """Return the folder of a model that is given by its path or, if it is a shipped one, by its name.

    Parameters
    ----------
    model : path or str
        A path that exists is taken for what it is, even if a shipped model has that name.

    Raises
    ------
    ModelError
        If there is neither a folder nor a shipped model of that name.
    """
    path = Path(model)
    if path.exists():
        return path
    shipped = names()
    if str(path) in shipped:
        return FOLDER / path
    raise MissingModelFile(
        f"{model}: there is no such folder, and no shipped model of that name"
        f"{did_you_mean(path, shipped, '; ', '.')} Shipped models: {', '.join(shipped) or 'none'}."
    )
