"""Ranks of a job: the only module that imports mpi4py, with one interface with and without MPI."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from glrnn_hpc import processes
from glrnn_hpc.errors import GlrnnError, LaunchError

#: Set by MPICH's and Slurm's PMI, by PMIx, and by Open MPI; SLURM_JOB_ID alone says nothing about MPI.
_SIGNS_OF_MPI = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")

#: Alignment [bytes] of memory that TensorFlow uses in place.
ALIGNMENT = 64

#: File system in which MPI libraries keep the memory that ranks share.
_SHARED_MEMORY = "/dev/shm"

#: Pause of a rank that waits for work, between two tests.
_IDLE_SECONDS = 0.02

Array = NDArray[Any]
Result = TypeVar("Result")


class Ranks:
    """Ranks that work together: all of a job, those of a node, or those that train one trial.

    Every method that says so is collective: all ranks must call it, in the same order. Without MPI there is one rank,
    and everything works the same.

    Attributes
    ----------
    rank, size : int
        This rank's number among them, and how many they are.
    """

    def __init__(self, comm: Any = None) -> None:
        self._comm = comm
        self._windows: list[Any] = []
        self._parts: list[Ranks] = []
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()

    @property
    def comm(self) -> Any:
        """The communicator, for the MPI driver of HDF5; None without MPI."""
        return self._comm

    def bcast(self, value: Any) -> Any:
        """Return rank 0's `value` on every rank. Collective."""
        return value if self._comm is None else self._comm.bcast(value, root=0)

    def bcast_idle(self, value: Any, tick: Callable[[], None] = lambda: None) -> Any:
        """Like `bcast`, but the ranks that wait for rank 0 sleep, as it may have nothing for them for long. Collective.

        MPI polls without a pause, which would take the CPU from the ranks that work. `tick` is called all
        the time while waiting.
        """
        if self._comm is None:
            return value
        request = self._comm.Ibarrier()
        while self.rank != 0 and not request.Test():
            tick()
            time.sleep(_IDLE_SECONDS)
        request.Wait()
        return self.bcast(value)

    def gather(self, value: Any) -> list[Any] | None:
        """Return the values of all ranks in their order on rank 0, None elsewhere. Collective."""
        return [value] if self._comm is None else self._comm.gather(value, root=0)

    def allgather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in their order. Collective."""
        return [value] if self._comm is None else self._comm.allgather(value)

    def sum(self, buffer: Array) -> None:
        """Put the sum over the ranks into `buffer`, a contiguous array of the same size on all of them. Collective."""
        if self._comm is not None:
            from mpi4py import MPI

            self._comm.Allreduce(MPI.IN_PLACE, buffer)

    def barrier(self) -> None:
        """Wait for all ranks. Collective."""
        if self._comm is not None:
            self._comm.Barrier()

    def agree(self, error: Exception | None = None) -> None:
        """Raise on every rank if one of them has an error, the lowest rank's; else return. Collective.

        To be called before a collective operation that a rank with an error would not reach: the others would wait
        for it for ever.

        Raises
        ------
        GlrnnError
            The error of the lowest rank that has one; `is_agreed` is True.
        LaunchError
            The same on the other ranks, if that error is none of the user's.
        """
        for rank, portable in enumerate(self.allgather(_portable(error))):
            if portable is None:
                continue
            # Its own error comes with its traceback.
            agreed: Any = error if rank == self.rank else portable
            agreed.is_agreed = True
            raise agreed

    def agreed(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns on this rank; if it raises on one of them, raise on all as `agree` does.

        Collective, also if `call` is not.
        """
        error = None
        try:
            result = call()
        except Exception as raised:
            error = raised
        self.agree(error)
        return result

    def sync(self) -> None:
        """Let every rank see what the others have written into the shared arrays. Collective."""
        for window in self._windows:
            window.Fence()

    def on_node(self) -> Ranks:
        """Return the ranks that share this node's memory. Collective."""
        if self._comm is None:
            return Ranks()
        from mpi4py import MPI

        return self._part(Ranks(self._comm.Split_type(MPI.COMM_TYPE_SHARED)))

    def in_groups(self, size: int) -> Ranks:
        """Return this rank's group of `size` neighbours. Collective.

        Raises
        ------
        LaunchError
            If the ranks do not make whole groups.
        """
        if self.size % size:
            raise LaunchError(
                f"ranks_per_trial={size}: the {self.size} ranks of a node do not make whole groups; "
                f"choose --ranks-per-worker as a multiple of {size}."
            )
        if self._comm is None:
            return Ranks()
        return self._part(Ranks(self._comm.Split(self.rank // size, self.rank)))

    def check_room(self, n_bytes: int) -> None:
        """Check that there is memory for shared arrays of `n_bytes` together. Collective.

        MPI libraries keep them in files of `/dev/shm`. Where these do not fit, MPICH's ranks are killed by SIGBUS when
        they write to them, and Open MPI's wait for ever.

        Raises
        ------
        LaunchError
            If there is too little.
        """
        if self.size > 1:
            self.agreed(lambda: _check_free(n_bytes))

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """Return one array that all these ranks see, not initialised and aligned to 64 bytes. Collective.

        They must be on one node. The memory lives until `free`.
        """
        kind = np.dtype(dtype)
        n_bytes = math.prod(shape) * kind.itemsize + 2 * ALIGNMENT
        if self._comm is None:
            memory: Any = np.empty(n_bytes, "uint8")
            start = -memory.ctypes.data % ALIGNMENT
        else:
            from mpi4py import MPI

            # One rank asks for all: what each of several asks for need not lie side by side.
            window = MPI.Win.Allocate_shared(n_bytes if self.rank == 0 else 0, 1, comm=self._comm)
            self._windows.append(window)
            memory, _ = window.Shared_query(0)
            # The same offset everywhere, as the ranks see the same pages, whatever their addresses.
            start = self.bcast(-memory.address % ALIGNMENT)
        return np.ndarray(shape, kind, buffer=memory, offset=start)

    def free(self) -> None:
        """Give back the shared arrays, the latest first, and the groups made of these ranks. Collective."""
        for part in reversed(self._parts):
            part.free()
        for window in reversed(self._windows):
            window.Free()
        if self._parts or self._windows:
            self.barrier()
        self._parts, self._windows = [], []
        if self._comm is not None and not self._is_world():
            self._comm.Free()
            self._comm = None

    def abort(self, status: int) -> None:
        """End all ranks of the job at once, so that none waits for this one for ever."""
        if self._comm is not None:
            self._comm.Abort(status)

    def barrier_idle(self, tick: Callable[[], None] = lambda: None) -> None:
        """Like `barrier`, but the ranks that wait sleep: the others may work for long. Collective.

        `tick` is called all the time while waiting.
        """
        if self._comm is None:
            return
        request = self._comm.Ibarrier()
        while not request.Test():
            tick()
            time.sleep(_IDLE_SECONDS)

    def _part(self, part: Ranks) -> Ranks:
        self._parts.append(part)
        return part

    def _is_world(self) -> bool:
        from mpi4py import MPI

        return bool(self._comm == MPI.COMM_WORLD)


def world(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Return the ranks of this job; without a sign of an MPI launcher one rank, and MPI is not touched.

    Raises
    ------
    LaunchError
        If an MPI launcher started this process, but mpi4py finds no MPI library.
    """
    if not any(sign in environment for sign in _SIGNS_OF_MPI):
        return Ranks()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"mpi4py cannot load an MPI library ({error}); `pip install glrnn_hpc[embedded-mpi]` brings one."
        ) from error
    return Ranks(MPI.COMM_WORLD)


def library() -> dict[str, str]:
    """Return the `version` of the MPI library and the `file` it was loaded from; MPI must have been started."""
    from mpi4py import MPI

    files = processes.mapped_files(r"/libmpi(ch)?\.[^/]*$")
    return {"version": MPI.Get_library_version().splitlines()[0].strip(" \t\0"), "file": files[0] if files else "?"}


def _check_free(n_bytes: int) -> None:
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except OSError:  # the library has another place
        return
    free = status.f_bavail * status.f_frsize
    if n_bytes > free:
        raise LaunchError(
            f"{_SHARED_MEMORY} has {free / 1e6:.0f} MB left, but the data that the ranks of a node share take "
            f"{n_bytes / 1e6:.0f} MB; enlarge it (`docker run --shm-size`, `mount -o remount,size=`), select fewer "
            "groups, or use --ranks-per-worker 1."
        )


def slab(n: int, rank: int, size: int) -> slice:
    """Return the part of `n` samples that a rank reads: contiguous parts that differ by one at most."""
    return slice(n * rank // size, n * (rank + 1) // size)


def _portable(error: Exception | None) -> GlrnnError | None:
    """Return an error that can travel: those of other libraries need not survive pickling."""
    if error is None or isinstance(error, GlrnnError):
        return error
    return LaunchError(f"{type(error).__name__}: {error}")
