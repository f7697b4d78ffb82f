"""Opening of HDF5 files and reading of their data sets, with HDF5's complaints in words."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.data.column_checks import type_problem
from glrnn_hpc.data.ranks import Ranks, slab
from glrnn_hpc.errors import DataError, GlrnnError, MissingFile

#: Errors of flock() where a file system has no locks, and where another process holds one.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_LOCKED = {errno.EAGAIN}


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; what HDF5 cannot make sense of inside the block is a DataError too.

    Raises
    ------
    DataError
        If it is missing, a folder, locked, truncated, damaged or no HDF5.
    """
    check_file(path)
    try:
        opened = h5py.File(path, "r")
    except OSError as error:
        raise _not_opened(path, error) from error
    try:
        with opened as file:
            yield file
    except GlrnnError:
        raise
    except (KeyError, OSError, RuntimeError) as error:
        # h5py passes HDF5's complaints about damaged headers, heaps and symbol tables on as any of these.
        raise DataError(f"{path}: is damaged; copy or parse it again ({error}).") from error


def check_file(path: Path) -> None:
    """Check that a file is there, and no folder.

    Raises
    ------
    DataError
        If it is not.
    """
    try:
        is_there, is_folder = path.exists(), path.is_dir()
    except OSError as error:  # too long a name, a folder that may not be entered
        raise DataError(f"{path}: cannot be looked for: {error.strerror}.") from error
    if not is_there:
        raise MissingFile(f"{path}: there is no such file.")
    if is_folder:
        inside = sorted([*path.glob("*.hdf5"), *path.glob("*.h5")])
        hint = f", such as {inside[0]}" if inside else ""
        raise DataError(f"{path}: is a folder; name an HDF5 file{hint}.")


def has_mpio() -> bool:
    """Whether this h5py can read by MPI-IO."""
    return bool(h5py.get_config().mpi)


def open_collectively(path: Path, node: Ranks, *, by_mpio: bool = True) -> h5py.File:
    """Open a file for the ranks of a node: by MPI-IO where h5py can, else each rank for itself. Collective.

    Parameters
    ----------
    path : Path
        The file.
    node : Ranks
        Those that read.
    by_mpio : bool
        False where each rank reads by itself in any case: MPI-IO does not serve files whose values lie in other files.

    Raises
    ------
    DataError
        If it cannot be opened.
    """
    arguments = {"driver": "mpio", "comm": node.comm} if by_mpio and node.size > 1 and has_mpio() else {}
    check_file(path)
    try:
        return h5py.File(path, "r", **arguments)
    except OSError as error:
        raise _not_opened(path, error) from error


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a data set by its path in the file.

    Raises
    ------
    DataError
        If it is not there any more, or the file is damaged.
    """
    try:
        return file[name]
    except (KeyError, OSError, RuntimeError) as error:
        raise DataError(f"{file.filename}: {name} is damaged; copy or parse it again ({error}).") from error


def read_slab(dataset: h5py.Dataset, samples: slice, out: NDArray[Any], *, n_parts: int, is_collective: bool) -> None:
    """Read samples of a data set into `out`, converted to its type on the way.

    Parameters
    ----------
    dataset : h5py.Dataset
        Its first axis counts the samples.
    samples : slice
        Which ones; the hyperslab of this rank.
    out : ndarray
        Where they go; C-contiguous, of the shape of the hyperslab.
    n_parts : int
        Reads to make of it; with `is_collective` the same number on all ranks, and none of them empty.
    is_collective : bool
        Whether all ranks of the file's communicator read together.

    Raises
    ------
    DataError
        If the values are no numbers, or the file is damaged.
    """
    n = samples.stop - samples.start
    where = f"{dataset.file.filename}: {dataset.name.strip('/')}"
    if problem := type_problem(dataset):
        raise DataError(f"{where} {problem}.")
    try:
        with dataset.collective if is_collective else contextlib.nullcontext():
            for part in (slab(n, number, n_parts) for number in range(n_parts)):
                if part.start < part.stop:
                    source = slice(samples.start + part.start, samples.start + part.stop)
                    dataset.read_direct(out, np.s_[source], np.s_[part])
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{where} is damaged; copy or parse it again ({error}).") from error


def lock_error(path: Path, error: OSError) -> DataError | None:
    """Return the error in words if a lock is the reason why HDF5 does not open a file, and what to do."""
    text = " ".join(str(error).split())
    if "unable to lock file" in text and error.errno in _NO_LOCKS:
        return DataError(
            f"{path}: its file system has no locks ({text}); set HDF5_USE_FILE_LOCKING=FALSE in the environment of the "
            "command and of the jobs."
        )
    if "already open for write" in text or ("unable to lock file" in text and error.errno in _LOCKED):
        return DataError(
            f"{path}: another process has it open for writing ({text}); wait until that one has closed it. If none is "
            "left, its writer was killed: write or parse the file again, or clear its mark with `h5clear -s`."
        )
    return None


def _not_opened(path: Path, error: OSError) -> DataError:
    """Return the reason why HDF5 does not open a file that is there, and what to do."""
    text = " ".join(str(error).split())
    if of_lock := lock_error(path, error):
        return of_lock
    if isinstance(error, PermissionError):
        return DataError(f"{path}: may not be read by you; its owner can allow it with `chmod` ({text}).")
    return DataError(f"{path}: is truncated or no HDF5 file ({text}).")
