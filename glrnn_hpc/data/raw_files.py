"""Raw files (.npy) in a folder: which of them are parsed, and which are left out for which reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc.errors import DataError

_SUFFIX = ".npy"


@dataclass(frozen=True)
class RawFile:
    """One raw file, and the group that its folders name; None in a flat folder."""

    path: Path
    group: str | None


@dataclass(frozen=True)
class RawFiles:
    """Raw files of a folder in order, and by the reason those that are left out."""

    files: list[RawFile]
    left_out: dict[str, list[Path]]

    def left_out_lines(self) -> list[str]:
        """Return a line per reason, with the number of files and one of them."""
        return [f"left out: {len(paths)} {reason}, such as {paths[0]}" for reason, paths in self.left_out.items()]


def list_raw_files(folder: Path, *, in_subfolders: bool, includes: Callable[[str], bool]) -> RawFiles:
    """List the raw files of a folder, through links to other folders and files too.

    Parameters
    ----------
    folder : Path
        Where to look.
    in_subfolders : bool
        True: ``folder/<pressure>/<experiment_type>/*.npy``. False: all files below the folder; one that is linked from
        several places is listed once, as a simulation would be in training and test else.
    includes : callable
        Whether a group, ``pressure/experiment_type``, is wanted; others are not looked into for what is left out.

    Raises
    ------
    DataError
        If the folder or one below it cannot be listed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder.")
    files: list[RawFile] = []
    left_out: dict[str, list[Path]] = {}
    seen: set[tuple[int, int]] = set()
    entered = {identity for identity in [_identity(folder)] if identity}
    for path in sorted(_walk(folder, 2 if in_subfolders else 0, entered)):
        parts = path.relative_to(folder).parts
        group = "/".join(parts[:2]) if in_subfolders and len(parts) >= 3 else None
        if path.suffix != _SUFFIX:
            if group is None or includes(group):
                left_out.setdefault(f"not named *{_SUFFIX} in small letters", []).append(path)
        elif in_subfolders and len(parts) == 3:
            files.append(RawFile(path, group))
        elif in_subfolders:
            if group is None or includes(group):
                left_out.setdefault("not in <pressure>/<experiment_type>/", []).append(path)
        elif (identity := _identity(path)) is None or identity not in seen:
            seen |= {identity} if identity else set()
            files.append(RawFile(path, None))
    return RawFiles(files, left_out)


def _walk(folder: Path, n_levels: int, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield the files below a folder that look like raw ones.

    Each folder is entered once, whatever links lead to it, and not at all if it is in `seen`; those of the first
    `n_levels`, which name groups, always.
    """
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}; its files would be missing.") from error
    # Folders themselves before links to them: their files keep their own names.
    folders = [entry for entry in entries if entry.is_dir()]
    for entry in sorted(folders, key=lambda entry: entry.is_symlink()):
        path = Path(entry.path)
        identity = _identity(path)
        if n_levels > 0 or identity not in seen:
            seen |= {identity} if identity else set()
            yield from _walk(path, n_levels - 1, seen)
    for entry in entries:
        if entry.name.lower().endswith(_SUFFIX) and not entry.is_dir():
            yield Path(entry.path)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from all others; None for a link to nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
