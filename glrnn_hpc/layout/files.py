"""Writing of files and folders that another process reads."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from glrnn_hpc.errors import ConfigError, FolderNotEmpty, RecordError

#: Of Linux' renameat2: the folder that a relative path begins at, and that two names change places.
_CURRENT_FOLDER, _EXCHANGE = -100, 2

_RESTORE = "restore it from a copy, such as a snapshot of the file system."

_WRITER = re.compile(r"\.(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]{8}\.")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success flush it and move it into place, else remove it.

    The temporary name keeps the suffixes of `path`, because Keras and matplotlib choose a format by them.
    """
    partial = _partial(path)
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        # replace(), not unlink + rename: a reader or a killed writer must never find no file at all.
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old content or the new, never a part."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, like `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that `write_json` or `publish_once` wrote.

    Raises
    ------
    RecordError
        If it is none, as after a crash of the file server, or may not be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise RecordError(f"{path}: may not be read ({error.strerror}); ask its owner.") from error
    except ValueError as error:
        raise RecordError(f"{path}: is broken: {error}; {_RESTORE}") from error


def read_record(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON file that holds a mapping with these keys.

    Raises
    ------
    RecordError
        If it does not.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise RecordError(f"{path}: is broken: a mapping is needed, it holds a {type(content).__name__}; {_RESTORE}")
    if lacking := [key for key in keys if key not in content]:
        raise RecordError(f"{path}: is broken: it has no {', '.join(lacking)}; {_RESTORE}")
    return content


def publish_once(path: Path, content: Any) -> bool:
    """Write `content` as JSON to `path` unless that name exists; exactly one of many writers gets True.

    `os.link` is atomic and exclusive on shared file systems, which `os.replace` is not.
    """
    partial = _partial(path)
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        except FileExistsError:
            # If the answer of a file server is lost, the request is repeated, and meets the link that it made itself.
            return path.samefile(partial)
        return True
    finally:
        partial.unlink(missing_ok=True)


def partial_folder(folder: Path) -> Path:
    """Return a new name beside `folder`, to build it there and rename it when it is complete."""
    return _partial(folder)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file and flush it; `target` lies in a folder that nobody reads yet."""
    shutil.copyfile(source, target)
    with target.open("rb") as written:
        os.fsync(written.fileno())


def replace_folder(partial: Path, folder: Path) -> None:
    """Put a complete folder in the place of another one beside it, which is removed; several processes may do so.

    Where the file system can exchange two names (Linux' local ones), there is an old or a new folder at every moment.
    Elsewhere, as on NFS, the old one is renamed first: who is killed between two calls leaves none.

    Raises
    ------
    OSError
        If it cannot be put there; an older folder stays then.
    """
    aside = _partial(folder)
    try:
        while not _renamed(partial, folder) and not _exchange(partial, folder):
            with contextlib.suppress(FileNotFoundError):  # another process put it aside
                remove_folder(aside)  # another process put its own there since
                folder.rename(aside)
    except OSError:
        with contextlib.suppress(OSError):
            aside.rename(folder)
        raise
    finally:
        remove_folder(aside)
        remove_folder(partial)


def _renamed(one: Path, other: Path) -> bool:
    """Rename a folder; False if there is one of that name that holds files."""
    try:
        one.rename(other)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places at once; False where that cannot be done, or one of them is gone."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another system than Linux, or an older C library
        return False
    rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    names = [os.fsencode(path.absolute()) for path in (one, other)]
    return bool(rename(_CURRENT_FOLDER, names[0], _CURRENT_FOLDER, names[1], _EXCHANGE) == 0)


def _partial(path: Path) -> Path:
    # The name holds the writer, so that leftovers of killed processes are distinguished from files in progress.
    return path.with_name(f".{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.{path.name}")


def remove_partials(folder: Path, name: str, is_gone: Callable[[str, int], bool]) -> int:
    """Remove what dead processes were writing in `folder`; return how many files and folders that were.

    Parameters
    ----------
    folder : Path
        Where to look.
    name : str
        Pattern of the finished names, such as ``*``; below `folder` if it begins with ``**/``.
    is_gone : callable
        Whether the process of a host and a pid is dead.
    """
    above, _, last = name.rpartition("/")
    count = 0
    for path in list(folder.glob(f"{above}/.*.{last}" if above else f".*.{last}")):
        writer = _WRITER.match(path.name)
        if writer is None or not is_gone(writer["host"], int(writer["pid"])):
            continue
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)
        count += 1
    return count


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it; a missing one is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def check_free(folder: Path, hint: str = "choose another --out.") -> None:
    """Check that a folder can be made: nothing is there, or an empty folder.

    Parameters
    ----------
    folder : Path
        The folder to make.
    hint : str
        What the user shall do if it is not free.

    Raises
    ------
    FolderNotEmpty
        If it is a file or holds anything.
    OSError
        If it cannot be looked into.
    """
    if folder.exists() and not is_empty(folder):
        raise FolderNotEmpty(f"{folder}: exists and is not an empty folder; {hint}")


def is_empty(folder: Path) -> bool:
    """Whether this is a folder with nothing in it."""
    return folder.is_dir() and not any(folder.iterdir())


def keep_aside(folder: Path) -> Path | None:
    """Rename an existing `folder` to the first free `<name>-<k>`; return the new path, None if there was nothing.

    Raises
    ------
    ConfigError
        If `folder` is a file, or the current folder.
    """
    if not folder.exists():
        return None
    if not folder.is_dir() or folder.resolve() == Path.cwd():
        raise ConfigError(f"{folder}: is a file or the current folder, which cannot be put aside; choose another one.")
    number = 1
    while True:
        aside = folder.with_name(f"{folder.name}-{number}")
        if not aside.exists():
            return folder.rename(aside)
        number += 1
