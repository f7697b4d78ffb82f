"""`glrnn doctor --profile` on a real Slurm: what it finds on nodes that are well, and on those that are not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import config
from tests.mpi.test_matrix import MPIO
from tests.slurm.conftest import PROFILE, REPOSITORY
from tests.unit.doctor.test_doctor import TIMED
from tests.users_files import names_that_were_run, write_files_named_like_libraries

Doctor = Callable[..., dict[str, Any]]

#: A stand-in for a container's command: it takes the same words, leaves a mark, and runs the rest.
CONTAINER = """#!/bin/sh
[ "$1 $2 $3" = "exec --nv image.sif" ] || { echo "wrong words: $*" >&2; exit 64; }
shift 3
echo "$(hostname) $SLURM_PROCID" >>MARKS
exec "$@"
"""


@pytest.fixture
def doctor(cluster: dict[str, str], tmp_path: Path) -> Doctor:
    """Return what runs the doctor with the profile of the tests, without GPUs, and other keys on top of it."""

    def run(status: int, *arguments: str, folder: Path = tmp_path, **keys: Any) -> dict[str, Any]:
        # Of several tests at once each needs a part of a node only.
        site = {
            key: value for key, value in config.load_yaml(PROFILE).items() if key not in ("gpus_per_task", "sbatch")
        }
        (tmp_path / "site.yaml").write_text(config.dump_yaml({**site, **keys}))
        before = sorted(folder.iterdir())
        done = subprocess.run(
            [sys.executable, "-m", "glrnn_hpc", "doctor", "--profile", str(tmp_path / "site.yaml"), *arguments],
            cwd=folder,
            env={**cluster, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert sorted(folder.iterdir()) == before, "it cleans up"
        queue = subprocess.run(
            ["squeue", "--noheader", "--format=%j"], env=cluster, capture_output=True, text=True, check=True
        )
        assert "glrnn-doctor" not in queue.stdout
        return json.loads(done.stdout) if "--json" in arguments else {"text": done.stdout, "log": done.stderr}

    return run


def named(found: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in found["checks"]}


def problems(found: dict[str, Any]) -> list[str]:
    return [check["name"] for check in found["checks"] if check["status"] == "problem"]


def test_two_nodes_with_ranks_in_containers_are_well(doctor: Doctor, tmp_path: Path):
    (tmp_path / "apptainer").write_text(CONTAINER.replace("MARKS", str(tmp_path / "marks")))
    (tmp_path / "apptainer").chmod(0o755)
    (tmp_path / "marks").touch()
    python = f"{tmp_path}/apptainer exec --nv image.sif {MPIO}"
    write_files_named_like_libraries(tmp_path)
    found = doctor(0, "--json", nodes=2, python=python, mpi_library=None, scratch="/tmp")
    assert [check for check in found["checks"] if check["status"] != "ok" and check["name"] not in TIMED] == []
    checks = named(found)
    assert names_that_were_run(tmp_path) == []
    assert sorted((tmp_path / "marks").read_text().splitlines()) == ["node1 0", "node1 1", "node2 2", "node2 3"]
    assert checks["nodes"]["found"] == "2 on node1, 2 on node2"
    assert checks["MPI"]["found"].startswith("4 ranks see each other (Open MPI")
    assert "MPI-IO" in checks["HDF5"]["found"]
    assert checks["srun"]["found"].startswith("knows --mpi=pmix")
    assert checks["sacct"]["found"].startswith("not there")
    assert str(tmp_path) in checks["folder"]["found"]
    assert {"os.link", "os.replace", "lock", "scratch", "CPUs", "TensorFlow"} <= {*checks}
    assert [rank["task"] for rank in sorted(found["ranks"], key=lambda rank: rank["MPI"]["rank"])] == [0, 1, 2, 3]


def test_each_rank_has_a_gpu_of_its_own_but_tensorflow_cannot_use_make_believe_ones(doctor: Doctor):
    found = doctor(2, "--json", gpus_per_task=1)
    assert problems(found) == ["TensorFlow's GPUs"]
    assert re.search(r": node\d 0, node\d 1; 2 GPUs for 2 ranks$", named(found)["GPUs"]["found"])
    assert ".[gpu]" in named(found)["TensorFlow's GPUs"]["advice"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"gpus_per_task": 3}, "Requested node configuration is not available"),
    ],
    ids=str,
)
def test_what_slurm_refuses_is_told_with_what_there_is(keys: dict[str, Any], said: str, doctor: Doctor):
    found = doctor(2, "--json", **keys)
    assert problems(found) == ["submission"]
    assert said in named(found)["submission"]["found"]
    assert "main: 4 CPUs, 4000 MB, GPUs gpu:2" in named(found)["submission"]["advice"]


def test_ranks_without_mpi_are_told_that_they_are_alone(doctor: Doctor):
    found = doctor(2, "--json", mpi="none")
    assert problems(found) == ["MPI"]
    assert named(found)["MPI"]["found"] == "2 ranks were started, and each sees a world of 1 (no MPI)"
    assert "set mpi to pmix or pmi2" in named(found)["MPI"]["advice"]


def test_an_mpi_that_dies_at_its_start_is_named(doctor: Doctor):
    found = doctor(2, "--json", mpi="pmi2")
    assert problems(found) == ["ranks"]
    assert "2 of 2 ranks ended while they were at MPI" in named(found)["ranks"]["found"]
    assert "does not understand `mpi: pmi2`" in named(found)["ranks"]["advice"]
    assert "MPI_Init" in found["log"]


def test_a_python_that_is_not_on_the_node_and_lines_of_setup_that_fail_are_named(doctor: Doctor):
    found = doctor(2, python="/nowhere/python", modules=["OpenMPI"], setup=["source /nowhere/bin/activate"])
    text = " ".join(found["text"].split())
    assert "problem setup line" in text
    assert "module: command not found" in text
    assert "/nowhere/bin/activate: No such file or directory" in text
    assert re.search(r"problem ranks no rank began \(FAILED, .*execve\(\): /nowhere/python: No such file", text)
    assert "-> `/nowhere/python` is no command on the node" in text
    assert "The last lines that the ranks wrote:" in text


def test_a_folder_that_the_nodes_do_not_see_is_named(doctor: Doctor, cluster: dict[str, str]):
    private = Path(cluster["SLURM_CLUSTER_PRIVATE"])
    found = doctor(2, "--json", folder=private)
    assert problems(found) == ["folder"]
    assert f"{private}: node" in named(found)["folder"]["found"]
    assert "exit code 0:53" in named(found)["folder"]["found"]


def test_a_job_that_does_not_begin_in_time_is_cancelled_and_its_reason_told(doctor: Doctor):
    found = doctor(3, "--json", "--timeout", "0.05", sbatch={"hold": True})
    assert found["is_incomplete"]
    assert named(found)["queue"]["status"] == "warning"
    assert re.search(r"has been waiting for 3 s: JobHeldUser", named(found)["queue"]["found"])
