"""OpenMPI's ranks started by srun, with an h5py that reads by MPI-IO: what clusters have."""

from __future__ import annotations

import json
import subprocess

from tests.mpi.test_matrix import MPIO, REPOSITORY, THREADS

PROGRAM = """
import json
from glrnn_hpc.data import ranks
from glrnn_hpc.data.shared import read_data
world = ranks.world()
node = world.on_node()
data = read_data("tests/data/triaxial.hdf5", node=node)
total = float(sum(group.outputs.astype("float64").sum() for group in data.groups.values()))
rows = world.gather((node.rank, node.size, total))
if world.rank == 0:
    print(json.dumps(rows))
world.free()
"""


#: The tests of data-parallel training that train for seconds: the others take ten minutes on four ranks of OpenMPI that
#: share two cores, and two ranks of it run them in tests/mpi/test_matrix.py.
CHOICE = "not data_parallel or root_decides or diverges or one_rank_cannot"


def srun(cluster: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["srun", "--mpi=pmix", *arguments]
    variables = {**cluster, **THREADS, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, check=False, timeout=600
    )


def test_the_suite_but_long_trainings_passes_on_four_ranks_that_srun_starts(cluster: dict[str, str]):
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", CHOICE, "tests/mpi/suite"]
    done = srun(cluster, "-N1", "-n4", str(MPIO), *arguments)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.count(" passed") == 4


def test_each_node_has_a_copy_of_its_own(cluster: dict[str, str]):
    done = srun(cluster, "-N2", "-n4", "--ntasks-per-node=2", str(MPIO), "-c", PROGRAM)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    rows = json.loads(done.stdout.strip().splitlines()[-1])
    assert [tuple(row[:2]) for row in rows] == [(0, 2), (1, 2), (0, 2), (1, 2)]
    assert len({row[2] for row in rows}) == 1
