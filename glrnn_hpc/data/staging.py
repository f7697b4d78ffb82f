"""Copy of the data on a node's own disk, kept as long as they are read."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from glrnn_hpc.data.hdf5_storage import other_files
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.errors import DataError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def staged(path: str | Path, scratch: str | None, node: Ranks) -> Iterator[Path]:
    """Give the path from which the ranks of a node read a file: a copy on its own disk. Collective on `node`.

    One rank copies, in one stream, which parallel file systems serve faster than many small reads of a chunked file.
    The copy is removed at the end of the block. Where it cannot be made, the file itself is read, with a
    warning; so is a file whose values lie in other files too, which HDF5 would not find beside the copy.

    Parameters
    ----------
    path : path
        The file.
    scratch : str or None
        Folder on each node, in which variables of the node's environment stand for themselves, such as ``$TMPDIR``;
        None for no copy.
    node : Ranks
        Those that read.
    """
    path = Path(path)
    if scratch is None:
        yield path
        return
    folder = node.bcast(_copy(path, scratch) if node.rank == 0 else None)
    try:
        yield path if folder is None else folder / path.name
    finally:
        # By the one that made it; it has what it read, or an error that ends all of them.
        if folder is not None and node.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)


def _copy(path: Path, scratch: str) -> Path | None:
    """Copy a file into a new folder; return that folder, None if it cannot be done."""
    place = os.path.expandvars(scratch)
    if "$" in place:
        logger.warning("scratch %s: this node has no such variable; %s itself is read", scratch, path)
        return None
    folder = None
    try:
        others = other_files(path)
    except DataError:  # whoever reads the file says what is wrong with it
        return None
    if others:
        listed = ", ".join(map(str, sorted(others)[:3])) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        logger.info("%s has values in other files (%s): it is read where it is, not from scratch", path, listed)
        return None
    try:
        folder = Path(tempfile.mkdtemp(prefix="glrnn-", dir=place))
        shutil.copyfile(path, folder / path.name)
    except OSError as error:
        logger.warning("scratch %s: %s; %s itself is read", place, error, path)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return None
    logger.info("%s is read from a copy in %s", path, folder)
    return folder
