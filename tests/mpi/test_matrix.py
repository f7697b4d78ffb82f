"""Suite of this folder on 1, 2 and 4 ranks, with the two stacks of MPI and HDF5 that clusters have.

Each cell is there for a claim of its own: one rank works without others; four ranks are more than there is to read, and
read serially; two ranks read by MPI-IO. tests/slurm/test_ranks.py runs it on four ranks of srun, by MPI-IO.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
#: OpenMPI of the system and an h5py that was built with it; `make test` makes it.
MPIO = REPOSITORY / ".venv-mpio/bin/python"
#: Variables that give each rank one thread.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")


def command(stack: str, n_ranks: int) -> list[str]:
    """Return the start of a command line: mpiexec and the Python of a stack."""
    if stack == "mpich":
        return [str(Path(sys.executable).parent / "mpiexec"), "-n", str(n_ranks), sys.executable]
    mpiexec = shutil.which("mpiexec.openmpi") or shutil.which("mpiexec")
    assert mpiexec, "OpenMPI's mpiexec is missing; `make test` says how to install it."
    assert MPIO.exists(), f"{MPIO} is missing; `make test` makes it."
    return [mpiexec, "--oversubscribe", "-n", str(n_ranks), str(MPIO)]


def environment() -> dict[str, str]:
    """Return the variables for the ranks: one thread each, and OpenMPI's consent to run as root."""
    consent = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # More ranks than cores: those that wait must let the others work.
    consent["OMPI_MCA_mpi_yield_when_idle"] = "1"
    return {**os.environ, **consent, **THREADS, "PYTHONPATH": str(REPOSITORY)}


@pytest.mark.parametrize(("stack", "n_ranks"), [("mpich", 1), ("mpich", 4), ("openmpi", 2)])
def test_the_suite_passes(stack: str, n_ranks: int, tmp_path: Path):
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/mpi/suite"]
    done = subprocess.run(
        [*command(stack, n_ranks), *arguments],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert done.stdout.count(" passed") == n_ranks
