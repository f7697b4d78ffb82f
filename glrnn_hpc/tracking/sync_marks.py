"""Sync marks: which servers are known to have a run, kept beside its log in `synced.json`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SyncMark:
    """A server has the whole run.

    Attributes
    ----------
    server : str
        Its address.
    path : str
        entity/project/id of the run there.
    at : str
        When that was known, in ISO 8601.
    """

    server: str
    path: str
    at: str

    @classmethod
    def now(cls, server: str, path: str) -> SyncMark:
        """Return the mark of a run that a server is known to have at this moment."""
        return cls(server, path, datetime.now(timezone.utc).isoformat(timespec="seconds"))


def read_marks(folder: layout.WandbRunFolder) -> list[SyncMark]:
    """Return the marks of a run, one for each server that has it; none if they are broken: the servers are asked."""
    try:
        return [SyncMark(**mark) for mark in layout.read_json(folder.synced)]
    except FileNotFoundError:
        return []
    except (RecordError, TypeError) as error:
        logger.warning("%s is broken and counts for nothing: %s", folder.synced, error)
        return []


def add_marks(folder: layout.WandbRunFolder, marks: Iterable[SyncMark]) -> None:
    """Write that some servers have the run; the marks of other servers stay."""
    by_server = {mark.server: mark for mark in (*read_marks(folder), *marks)}
    if by_server:
        layout.write_json(folder.synced, [asdict(mark) for mark in by_server.values()])
