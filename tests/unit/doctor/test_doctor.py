"""`glrnn doctor` on this machine, and its checks of the records of ranks elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc.doctor import machine, probe
from glrnn_hpc.doctor.checks import SLOW_IMPORT, SLOW_LOCK, RankRequest, check_ranks
from glrnn_hpc.doctor.report import Check
from glrnn_hpc.launch import local
from tests.users_files import names_that_were_run, write_files_named_like_libraries

REPOSITORY = Path(__file__).parents[3]
#: What may be slow on a busy machine, which is a warning.
TIMED = ("TensorFlow", "lock")
SITE = RankRequest(nodes=1, ranks_per_node=2, cpus_per_rank=4, mpi="pmix")


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glrnn_hpc", "doctor", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def rank(number: int, n: int = 2, **changes: Any) -> dict[str, Any]:
    """Return what a rank finds where all is well; `MPI__size=1` changes a value inside of `MPI`."""
    found: dict[str, Any] = {
        "host": "a",
        "task": number,
        "python": "3.12",
        "cpus": list(range(8)),
        "visible": None,
        "gpus": [],
        "MPI": {
            "rank": number,
            "size": n,
            "hosts": ["a"] * n,
            "on_node": number,
            "version": "Open MPI",
            "file": "x.so",
        },
        "files": {"won": probe.N_LINKS // n, "torn": 0, "lock_seconds": 0.01, "scratch": None},
        "HDF5": {"mpio": True},
        "TensorFlow": {"version": "2", "seconds": 3.0, "gpus": [], "threads": 4, "gpu": None, "visible": None},
        "doing": None,
    }
    for key, value in changes.items():
        step, _, name = key.partition("__")
        if name:
            found[step] = {**found[step], name: value}
        else:
            found[step] = value
    return found


def bad(ranks: list[dict[str, Any]], request: RankRequest = SITE, count: int | None = None) -> list[Check]:
    counted = len(ranks) * probe.N_LOCKS if count is None else count
    return [check for check in check_ranks(ranks, request, counted, "they said this") if check.status != "ok"]


#: Prints, after the command, which libraries it has loaded itself.
PROGRAM = """
import sys
from glrnn_hpc.cli import app
status = app(["doctor", "--json"], standalone_mode=False)
print(sorted({"tensorflow", "keras", "h5py", "mpi4py"} & {*sys.modules}), file=sys.stderr)
sys.exit(status)
"""


def test_this_machine_is_well_and_nothing_is_left_and_the_doctor_itself_loads_neither_tensorflow_nor_mpi(
    tmp_path: Path,
):
    write_files_named_like_libraries(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; del sys.path[0]\n{PROGRAM}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.splitlines()[-1] == "[]"
    found = json.loads(done.stdout)
    assert [check for check in found["checks"] if check["status"] != "ok" and check["name"] not in TIMED] == []
    checks = {check["name"]: check["found"] for check in found["checks"]}
    assert checks["MPI"].startswith("2 ranks see each other (MPICH")
    assert checks["MPI"].endswith(f"{Path(found['ranks'][0]['MPI']['file'])})")
    assert checks["mpiexec"] == str(local.mpiexec())
    assert "imported in" in checks["TensorFlow"]
    assert {"Python", "packages", "wandb", "GrainLearning", "Slurm", "GPUs", "os.link", "lock", "HDF5"} <= {*checks}
    assert (found["problems"], found["is_incomplete"], found["log"]) == (0, False, "")
    assert names_that_were_run(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_two_mpi_libraries_that_do_not_fit_are_a_problem_of_status_2(tmp_path: Path):
    consent = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = run(tmp_path, MPI4PY_LIBMPI="libmpi.so.40", **consent)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "problem  MPI" in done.stdout
    assert "2 ranks were started, and each sees a world of 1 (Open MPI" in done.stdout
    assert "-> mpiexec and mpi4py use different MPI libraries" in done.stdout
    assert re.search(r"\nproblems: 1, warnings: \d\n$", done.stdout)


def test_an_mpi_library_that_does_not_exist_is_named(tmp_path: Path):
    done = run(tmp_path, "--json", MPI4PY_LIBMPI="/nowhere/libmpi.so")
    assert done.returncode == 2
    (problem,) = [check for check in json.loads(done.stdout)["checks"] if check["status"] == "problem"]
    assert problem["name"] == "MPI"
    assert "/nowhere/libmpi.so" in problem["found"]


def test_the_modules_of_the_doctor_load_neither_tensorflow_nor_h5py_nor_mpi():
    code = (
        "import sys; from glrnn_hpc.doctor import machine, site_job; "
        "print(sorted({'tensorflow', 'keras', 'h5py', 'mpi4py'} & {*sys.modules}))"
    )
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_profile_needs_slurm(tmp_path: Path):
    (tmp_path / "site.yaml").write_text("partition: x\n")
    done = run(tmp_path, "--profile", "site.yaml", PATH=str(Path(sys.executable).parent))
    assert done.returncode == 2
    assert "--profile: sbatch, srun, squeue, scontrol, scancel, sinfo of Slurm is not on this machine" in done.stderr
    assert done.stdout == ""


def test_a_folder_that_cannot_be_written_to_is_one_message():
    done = run(Path("/proc"))
    assert done.returncode == 2
    assert "/proc: cannot be written to" in done.stderr


def test_what_is_not_installed_is_told_with_its_command(monkeypatch: pytest.MonkeyPatch):
    def version(name: str) -> str:
        if name in ("scipy", "optuna", "wandb", "grainlearning"):
            raise machine.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(machine.metadata, "version", version)
    assert machine.check_packages() == Check(
        "packages", "problem", "missing: scipy, optuna", "pip install scipy optuna"
    )
    assert (machine._check_wandb().status, machine._check_wandb().advice) == ("problem", "pip install wandb")
    assert "pip install '.[calibration]'" in machine._check_grainlearning().advice


def test_gpus_that_tensorflow_does_not_see_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho NVIDIA A100; echo NVIDIA A100\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine._check_gpus().result == "NVIDIA A100, NVIDIA A100"
    (check,) = machine._check_unused_gpus([rank(0, gpus=probe.nvidia_gpus("uuid"))])
    assert (check.status, check.result) == ("warning", "TensorFlow sees none of 2")
    assert machine._check_unused_gpus([rank(0, gpus=["x"], TensorFlow__gpu="GPU:0")]) == []


def test_ranks_that_are_well_have_neither_problems_nor_warnings():
    assert bad([rank(0), rank(1)]) == []


@pytest.mark.parametrize(
    ("changes", "name", "status", "found", "advice"),
    [
        ({"MPI__size": 1}, "MPI", "problem", "2 ranks were started, and each sees a world of 1", "libmpi.so.40"),
        ({"MPI": {"error": "LaunchError: no"}}, "MPI", "problem", "LaunchError: no", "mpi_library"),
        ({"cpus": [3]}, "CPUs", "warning", "a: 1 for each rank, 1 for all 2; asked for 4 each", "cpus_per_task"),
        ({"cpus": [0, 1, 2, 3]}, "CPUs", "warning", "a: 4 for each rank, 4 for all 2", "binds tasks"),
        ({"files__won": 20}, "os.link", "problem", "not exclusive: 2 ranks won 40 times, of 20 names", "another file"),
        ({"files__torn": 3}, "os.replace", "problem", "not atomic: 6 of 80", "another file system"),
        ({"files__lock_seconds": 2 * SLOW_LOCK}, "lock", "warning", "takes 2 s with 2 ranks", "--storage"),
        ({"files": {"error": "OSError: x"}}, "file system", "problem", "OSError: x", "another file system"),
        ({"HDF5": {"error": "ImportError: x"}}, "HDF5", "problem", "ImportError: x", "built for this MPI"),
        ({"TensorFlow": {"error": "ImportError: x"}}, "TensorFlow", "problem", "ImportError: x", "pip install"),
        ({"TensorFlow__seconds": SLOW_IMPORT + 1}, "TensorFlow", "warning", "imported in 61 s", "container"),
        ({"doing": "MPI"}, "ranks", "problem", "2 of 2 ranks ended while they were at MPI: they said this", "pmi2"),
        ({"doing": "HDF5"}, "ranks", "problem", "2 of 2 ranks ended while they were at HDF5", "below"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_told_with_what_to_do(
    changes: dict[str, Any], name: str, status: str, found: str, advice: str
):
    (check,) = bad([rank(0, **changes), rank(1, **changes)])
    assert (check.name, check.status) == (name, status)
    assert found in check.result
    assert advice in check.advice


def test_mpich_under_pmix_is_told_which_word_starts_it():
    (check,) = bad([rank(number, MPI__size=1, MPI__version="MPICH Version: 4.2") for number in (0, 1)])
    assert "`mpi: pmi2`" in check.advice


def test_a_lock_that_lets_two_in_is_a_problem():
    (check,) = bad([rank(0), rank(1)], count=2 * probe.N_LOCKS - 1)
    assert (check.name, check.status) == ("lock", "problem")
    assert f"2 ranks counted to {2 * probe.N_LOCKS - 1} instead of {2 * probe.N_LOCKS}" in check.result


def test_a_rank_that_told_nothing_is_missed_and_what_it_did_not_do_is_not_judged():
    (check,) = bad([rank(0)], count=3)
    assert check.result == "1 of 2 ranks ended before their first line: they said this"


def test_ranks_that_are_spread_otherwise_than_asked_for_are_a_problem():
    ranks = [rank(number, 4, host="a" if number < 3 else "b") for number in range(4)]
    (check,) = bad(ranks, RankRequest(2, 2, cpus_per_rank=1, mpi="pmix"))
    assert (check.name, check.result) == ("nodes", "3 on a, 1 on b; asked for 2 on each of 2")


def test_scratch_that_cannot_be_used_is_a_warning():
    ranks = [rank(number, files__scratch="the node has no variable $X") for number in (0, 1)]
    (check,) = bad(ranks, RankRequest(1, 2, 4, mpi="pmix", has_scratch=True))
    assert (check.name, check.status, check.result) == ("scratch", "warning", "the node has no variable $X")


@pytest.mark.parametrize(
    ("scratch", "reason"),
    [
        (None, None),
        ("$PLACE", None),
        ("$NOWHERE/x", "the node has no variable $NOWHERE/x"),
        ("/nowhere", "/nowhere is no folder on the node that can be written to"),
    ],
)
def test_scratch_is_looked_at_with_the_nodes_variables(
    scratch: str | None, reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.delenv("NOWHERE", raising=False)
    assert probe._scratch_fault(scratch) == reason


def gpu_rank(number: int, visible: str | None, uuids: list[str], gpu: str | None = "GPU:0") -> dict[str, Any]:
    return rank(number, visible=visible, gpus=uuids, TensorFlow__gpu=gpu)


@pytest.mark.parametrize(
    ("ranks", "per_rank", "per_node", "names", "text"),
    [
        ([("0", ["x", "y"]), ("1", ["x", "y"])], 1, 0, [], ""),
        # Each sees its own alone, as number 0.
        ([("0", ["x"]), ("0", ["y"])], 1, 0, [], ""),
        ([("0", ["x"]), ("0", ["x"])], 1, 0, ["GPUs problem"], "1 GPUs for 2 ranks although each asked for its own"),
        ([("0", []), ("0", [])], 1, 0, ["GPUs warning"], "1 GPUs for 2 ranks although each asked for its own"),
        ([("GPU-a", ["x"]), ("GPU-b", ["x"])], 1, 0, [], ""),
        ([("0,1", ["x", "y"]), ("0,1", ["x", "y"])], 0, 2, [], ""),
        ([("0", ["x"]), ("0", ["x"])], 0, 1, [], ""),
        ([(None, []), (None, [])], 1, 0, ["GPUs problem"], "a -, a -"),
    ],
)
def test_the_gpus_of_the_ranks_are_told_apart(
    ranks: list[tuple[str | None, list[str]]], per_rank: int, per_node: int, names: list[str], text: str
):
    found = [gpu_rank(number, visible, uuids) for number, (visible, uuids) in enumerate(ranks)]
    checks = bad(found, RankRequest(1, 2, 4, per_rank, per_node, "pmix"))
    assert [f"{check.name} {check.status}" for check in checks] == names
    assert all(text in check.result for check in checks)


def test_tensorflow_on_cpus_although_gpus_were_asked_for_is_a_problem():
    (check,) = bad([gpu_rank(0, "0", ["x"]), gpu_rank(1, "0", ["y"], gpu=None)], RankRequest(1, 2, 4, 1, 0, "pmix"))
    assert (check.name, check.status) == ("TensorFlow's GPUs", "problem")
    assert "none on 1 of 2 ranks" in check.result
