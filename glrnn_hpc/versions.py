"""Software of a process: versions of the packages that decide on numbers, and the commit of this package."""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TypedDict

_PACKAGES = ("glrnn_hpc", "tensorflow", "keras", "numpy", "h5py", "optuna")

#: A working copy on a slow file system must not keep a job waiting.
_GIT_SECONDS = 20


class Commit(TypedDict):
    """Commit that a package was run from; `is_changed` is None if it is not known whether files differ from it."""

    commit: str
    is_changed: bool | None


class Software(TypedDict):
    """Software of a process, as records and exports keep it; versions are None where a package is not installed."""

    python: str
    versions: dict[str, str | None]
    git: Commit | None


def software() -> Software:
    """Return the software of this process."""
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "git": git_commit(Path(__file__).parent),
    }


def git_commit(package: Path) -> Commit | None:
    """Return the commit that a package was run from; None if it is not known.

    Parameters
    ----------
    package : Path
        Its folder: the commit is that of the working copy around it, else the one that pip noted at the installation.
    """
    if (package.parent / ".git").exists():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            commit = _git(package.parent, "rev-parse", "HEAD").strip()
            return {"commit": commit, "is_changed": bool(_git(package.parent, "status", "--porcelain", "-uno").strip())}
        return None
    with contextlib.suppress(metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        noted = json.loads(metadata.distribution(package.name).read_text("direct_url.json") or "{}")
        return {"commit": str(noted["vcs_info"]["commit_id"]), "is_changed": None}
    return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_SECONDS).stdout


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # run from a working copy that is not installed
        return None
