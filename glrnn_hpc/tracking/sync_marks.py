"""Which servers are known to have a run: the marks that `glrnn sync` leaves beside the log of the run."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
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


def new_mark(server: str, path: str) -> Mark:
    """Return the mark of a run that a server is known to have now."""
    return Mark(server, path, datetime.now(timezone.utc).isoformat(timespec="seconds"))


def marks_of(fragment: layout.Fragment) -> list[Mark]:
    """Return the marks of a run, one for each server that has it; none if they are broken: the servers are asked."""
    try:
        return [Mark(**mark) for mark in layout.read_json(fragment.synced)]
    except FileNotFoundError:
        return []
    except (RecordError, TypeError) as error:
        logger.warning("%s is broken and counts for nothing: %s", fragment.synced, error)
        return []


def add_marks(fragment: layout.Fragment, marks: Iterable[Mark]) -> None:
    """Note of some servers that they have the run; what is known of others stays."""
    known = {mark.server: mark for mark in (*marks_of(fragment), *marks)}
    if known:
        layout.write_json(fragment.synced, [asdict(mark) for mark in known.values()])
