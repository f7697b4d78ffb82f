"""The ranks of this job: the one owner of mpi4py, and the same interface where there is no MPI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glrnn_hpc.errors import LaunchError

#: Set by MPICH's and Slurm's PMI, by PMIx, and by Open MPI; SLURM_JOB_ID alone says nothing about MPI.
_SIGNS_OF_MPI = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK")


@dataclass(frozen=True)
class World:
    """All ranks of this job.

    Attributes
    ----------
    rank, size : int
        This rank's number and the number of ranks; 0 and 1 without MPI.
    node_rank, node_size : int
        The same among the ranks that share this node's memory.
    """

    rank: int = 0
    size: int = 1
    node_rank: int = 0
    node_size: int = 1
    _comm: Any = None

    def bcast(self, value: Any) -> Any:
        """Return rank 0's `value` on every rank. Collective on the world."""
        return value if self._comm is None else self._comm.bcast(value, root=0)

    def gather(self, value: Any) -> list[Any] | None:
        """Return the values of all ranks in their order on rank 0, None elsewhere. Collective on the world."""
        return [value] if self._comm is None else self._comm.gather(value, root=0)

    def barrier(self) -> None:
        """Wait for all ranks. Collective on the world."""
        if self._comm is not None:
            self._comm.Barrier()

    def abort(self, status: int) -> None:
        """End all ranks of the job at once, so that none waits for this one for ever."""
        if self._comm is not None:
            self._comm.Abort(status)


def world(environment: Mapping[str, str] = os.environ) -> World:
    """Return the ranks of this job; without a sign of an MPI launcher one rank, and MPI is not touched.

    Raises
    ------
    LaunchError
        If an MPI launcher started this process, but mpi4py finds no MPI library.
    """
    if not any(sign in environment for sign in _SIGNS_OF_MPI):
        return World()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LaunchError(
            f"mpi4py cannot load an MPI library ({error}); `pip install glrnn_hpc[embedded-mpi]` brings one."
        ) from error
    comm = MPI.COMM_WORLD
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    node_rank, node_size = node.Get_rank(), node.Get_size()
    node.Free()
    return World(comm.Get_rank(), comm.Get_size(), node_rank, node_size, comm)
