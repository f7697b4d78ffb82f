"""Storage of a study: a journal file in the sweep's folder, or a database that a URL names."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from glrnn_hpc import layout
from glrnn_hpc.errors import MissingSweep, StorageError, SweepError
from glrnn_hpc.records.json_types import JsonObject

#: Reads without the lock: one may meet a line while it is cut, and is repeated.
_READS = 3


class TailLock(JournalFileOpenLock):
    """Lock file of a journal; a suspended holder notices that it has lost it.

    Optuna takes the lock away from a holder that shows no sign of life for `grace_period` seconds, and the holder
    would later release that of its successor.
    """

    def __init__(self, filepath: str, grace_period: int | None = 30) -> None:
        super().__init__(filepath, grace_period)
        self._path = Path(self._lock_file)
        self._identity: tuple[int, int] | None = None

    def acquire(self) -> bool:
        """Acquire the lock, waiting for it."""
        super().acquire()
        self._identity = self._now()
        return True

    def is_held(self) -> bool:
        """Whether the lock file is still the one that this object made."""
        return self._identity is not None and self._now() == self._identity

    def release(self) -> None:
        """Release the lock if it is still held; a lock that others took over is theirs.

        Optuna also calls this to take away the lock of a holder that is gone.
        """
        if self._identity is None or self.is_held():
            # It may be taken away between the look and the release.
            with contextlib.suppress(RuntimeError):
                super().release()
        self._identity = None

    def _now(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_ctime_ns


class TornTailBackend(JournalFileBackend):
    """Optuna's journal file, made whole before each append.

    A writer that died, or met a full disk, leaves a part of a line; the next append would make the journal
    unreadable for good. Whoever holds the lock cuts that part off before it appends.
    """

    def __init__(self, path: Path, grace_period: int = 30) -> None:
        self._journal = path
        self._tail_lock = TailLock(str(path), grace_period)
        super().__init__(str(path), lock_obj=self._tail_lock)

    def read_logs(self, log_number_from: int) -> Iterator[JsonObject]:  # type: ignore[override]
        """Return the records from number `log_number_from` on."""
        for _ in range(_READS):
            try:
                return iter(list(super().read_logs(log_number_from)))
            except ValueError:
                # A reader that began with the torn line and went on with the one that replaced it sees neither.
                continue
        self._tail_lock.acquire()
        try:
            return iter(list(super().read_logs(log_number_from)))
        except ValueError as error:
            raise StorageError(f"{self._journal}: is damaged and cannot be read: {error}") from error
        finally:
            self._tail_lock.release()

    def append_logs(self, logs: list[JsonObject]) -> None:
        """Append records, all or none of them; exclusive among all processes."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        while True:
            self._tail_lock.acquire()
            try:
                with self._journal.open("a+b", buffering=0) as file:
                    torn = _torn_tail(file)
                    # A writer that was suspended for longer than the grace period finds another one at work: it must
                    # neither cut nor write over what that one appends.
                    if not self._tail_lock.is_held():
                        continue
                    if torn is not None:
                        file.truncate(torn)
                    self._append(file, text.encode())
                return
            finally:
                self._tail_lock.release()

    def _append(self, file: Any, content: bytes) -> None:
        """Write in append mode, in one write if the system allows it; on an error the file is as it was."""
        end = int(file.seek(0, os.SEEK_END))
        written = 0
        try:
            while written < len(content):
                written += file.write(content[written:])
            os.fsync(file.fileno())
        except OSError:
            if self._tail_lock.is_held() and file.seek(0, os.SEEK_END) == end + written:
                file.truncate(end)
            raise


def _torn_tail(file: Any) -> int | None:
    """Return where the file ends with its last whole line; None if it ends there already."""
    end = int(file.seek(0, os.SEEK_END))
    block = 1 << 16
    position = end
    while position > 0:
        start = max(0, position - block)
        file.seek(start)
        newline = file.read(position - start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    return position if position < end else None


def create(folder: layout.SweepFolder, url: str | None, name: str) -> BaseStorage:
    """Make the storage of a new sweep and note in its folder where it is.

    Parameters
    ----------
    folder : SweepFolder
        The sweep's folder.
    url : str, optional
        A database in SQLAlchemy's form, such as ``postgresql://user@host/name``; by default a journal file.
    name : str
        Name of the study; it must be unique in a database.

    Raises
    ------
    SweepError
        If the database cannot be used.
    """
    if url is None:
        folder.journal.touch()
    else:
        with layout.replacing(folder.url) as partial:
            # The URL may hold a password.
            partial.touch(mode=0o600)
            partial.write_text(json.dumps({"url": url, "study": name}) + "\n", encoding="utf-8")
    return open_storage(folder)


def open_storage(folder: layout.SweepFolder, grace_period: int = 30) -> BaseStorage:
    """Open the storage of a sweep.

    Raises
    ------
    SweepError
        If the folder holds no study, or the database cannot be reached.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if folder.url.exists():
        return _database(layout.read_json(folder.url)["url"])
    if not folder.journal.exists():
        raise MissingSweep(f"{folder.root}: is not a sweep folder; `glrnn sweep` makes one.")
    # An absolute path: the working directory may change, and then the lock would be another file's.
    return JournalStorage(TornTailBackend(folder.journal.resolve(), grace_period))


def remove_left_locks(folder: layout.SweepFolder) -> None:
    """Remove locks of the journal and of `state.json` that were renamed to be deleted by a process that then died."""
    for path in (folder.journal, folder.state):
        for left in folder.root.glob(f"{path.name}.lock*.rename"):
            left.unlink(missing_ok=True)


def study_name(folder: layout.SweepFolder) -> str:
    """Return the name of the sweep's study in its storage."""
    return str(layout.read_json(folder.url)["study"]) if folder.url.exists() else "sweep"


def _database(url: str) -> BaseStorage:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise SweepError(f"--storage: {url!r} is no URL of a database, such as postgresql://user@host/name.") from error
    if parsed.drivername == "postgresql":
        # SQLAlchemy's choice of a driver changed between its versions; this one the extra brings.
        parsed = parsed.set(drivername="postgresql+psycopg")
    shown = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() == "sqlite":
        raise SweepError(
            f"--storage: {shown}: SQLite's locks do not hold on shared file systems; leave --storage out "
            "(the journal file needs no server), or name a PostgreSQL or MySQL database."
        )
    try:
        # No connection is kept: thousands of ranks that write once a minute would exceed the server's limit.
        plain = parsed.render_as_string(hide_password=False)
        return optuna.storages.RDBStorage(plain, engine_kwargs={"poolclass": NullPool})
    except ImportError as error:
        raise SweepError(f"--storage: {shown} needs a driver: {error}; `pip install glrnn_hpc[postgresql]`.") from error
    except SQLAlchemyError as error:
        raise SweepError(f"--storage: {shown} cannot be used: {' '.join(str(error).split())}") from error
