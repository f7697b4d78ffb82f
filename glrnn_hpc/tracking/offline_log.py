"""Log of an offline run: the file that W&B's client writes, read back.

The log is a sequence of protobuf records in blocks of 32 KiB, as LevelDB writes its logs: each chunk of a record has a
header of checksum (4 bytes), length (2) and type (1: a whole record, 2, 3, 4: its first, middle and last chunk).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAGIC = b":W&B"
_FILE_HEADER, _CHUNK_HEADER, _BLOCK = 7, 7, 32768
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class OfflineLog:
    """Content of the log of an offline run.

    Attributes
    ----------
    run_id, project, entity : str or None
        Of its run; None if the client was killed before it wrote which one it is, the entity also if none was named.
    files : tuple of str
        Names of the files that belong to the run, beside those that the client makes.
    n_rows : int
        Rows of the history.
    exit_code : int or None
        Of the run; None if it was not finished, or not all could be written.
    """

    run_id: str | None
    project: str | None
    entity: str | None
    files: tuple[str, ...]
    n_rows: int
    exit_code: int | None


def read_log(path: Path) -> OfflineLog:
    """Read the log of a run as far as it is whole; a missing file is an empty log."""
    run: Any = None
    files: dict[str, None] = {}
    n_rows, exit_code = 0, None
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run" and run is None:
            run = record.run
        elif kind == "files":
            files |= dict.fromkeys(item.path for item in record.files.files)
        elif kind == "history":
            n_rows += 1
        elif kind == "exit":
            exit_code = record.exit.exit_code
    run_id, project, entity = (getattr(run, name, None) or None for name in ("run_id", "project", "entity"))
    return OfflineLog(run_id, project, entity, tuple(files), n_rows, exit_code)


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a log, protobuf messages of W&B's, up to the first that is not whole."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # made at its import
    for content in _contents(path):
        record = messages.Record()
        try:
            record.ParseFromString(content)
        except Exception:  # protobuf's own
            return
        yield record


def _contents(path: Path) -> Iterator[bytes]:
    try:
        content = path.read_bytes()
    except OSError:
        return
    if not content.startswith(_MAGIC):
        return
    position, begun = _FILE_HEADER, b""
    while True:
        left = _BLOCK - position % _BLOCK
        if left < _CHUNK_HEADER:
            position += left
        header = content[position : position + _CHUNK_HEADER]
        if len(header) < _CHUNK_HEADER:
            return
        _, length, kind = struct.unpack("<IHB", header)
        position += _CHUNK_HEADER
        chunk = content[position : position + length]
        position += length
        if len(chunk) < length or kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST):
            return
        begun = chunk if kind in (_WHOLE, _FIRST) else begun + chunk
        if kind in (_WHOLE, _LAST):
            yield begun
