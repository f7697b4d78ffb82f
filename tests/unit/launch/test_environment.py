"""Environment of what a launcher starts, on this machine and by Slurm: what of the shell's variables stays there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from glrnn_hpc.launch import environment, local

#: Of an allocation of Slurm, a job of PBS and a step of srun.
ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_JOBID": "7", "SLURM_NODELIST": "node1", "SLURM_JOB_NODELIST": "node1"}
ALLOCATION |= {"SLURM_NNODES": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_TASKS_PER_NODE": "2", "SLURM_MEM_PER_CPU": "300"}
STEP = {"PMI_RANK": "0", "PMI_FD": "5", "PMIX_RANK": "0", "PMIX_NAMESPACE": "slurm.pmix.7.0"}


@pytest.fixture
def no_schedulers_commands(tmp_path: Path) -> dict[str, str]:
    """Return this environment with an srun and an ssh that fail: nothing may call them."""
    for name in ("srun", "ssh"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 9\n")
        (tmp_path / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
def test_ranks_are_started_on_this_machine_inside_an_allocation_too(
    scheduler: str, no_schedulers_commands: dict[str, str], tmp_path: Path
):
    (tmp_path / "nodes").write_text("elsewhere1\nelsewhere2\n")
    pbs = {"PBS_JOBID": "5", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_NODEFILE": str(tmp_path / "nodes")}
    around = {**no_schedulers_commands, **(ALLOCATION | STEP if scheduler == "slurm" else pbs)}
    command = [str(local.mpiexec()), "-n", "2", "/bin/sh", "-c", "echo $PMI_RANK of $PMI_SIZE, job $SLURM_JOB_ID"]
    done = subprocess.run(
        command, env=environment.of_local_ranks(around), capture_output=True, text=True, timeout=60, check=False
    )
    assert sorted(done.stdout.splitlines()) == ["0 of 2, job", "1 of 2, job"], done.stderr


def test_openmpi_starts_more_ranks_than_cores_as_whoever_asks_and_binds_none_of_them():
    mpiexec = shutil.which("mpiexec.openmpi")
    assert mpiexec, "apt-get install openmpi-bin"
    bare = {name: value for name, value in os.environ.items() if not name.startswith("OMPI_")}
    n_ranks = 1 + (os.cpu_count() or 1)
    script = "grep Cpus_allowed_list /proc/self/status"
    done = subprocess.run(
        [mpiexec, "-n", str(n_ranks), "/bin/sh", "-c", script],
        env=environment.of_local_ranks({**bare, **ALLOCATION}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    mine = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert done.stdout == n_ranks * mine, done.stderr


def test_ranks_on_this_machine_keep_their_share_of_the_cpus_and_nothing_else_of_an_allocation():
    around = {**ALLOCATION, **STEP, "SLURM_CPUS_PER_TASK": "3", "PMIX_MCA_gds": "hash", "HOME": "/h"}
    kept = environment.of_local_ranks(around)
    assert {name: value for name, value in kept.items() if name in around} == {
        "SLURM_CPUS_PER_TASK": "3",
        "PMIX_MCA_gds": "hash",
        "HOME": "/h",
    }
    assert (
        environment.of_local_ranks({"OMPI_MCA_hwloc_base_binding_policy": "core"}).items()
        >= {"OMPI_MCA_hwloc_base_binding_policy": "core"}.items()
    ), "what the user has set stays"


def test_what_the_profile_and_the_sweep_say_is_above_the_variables_of_the_shell(caplog: pytest.LogCaptureFixture):
    shell = {
        "SBATCH_TIMELIMIT": "5",
        "SBATCH_PARTITION": "other",
        "SBATCH_MEM_PER_CPU": "1",
        "SBATCH_GRES": "gpu:4",
        "SBATCH_MAIL_TYPE": "ALL",
        "SBATCH_WAIT": "1",
        "SBATCH_ARRAY_INX": "0-3",
        "SBATCH_NO_REQUEUE": "1",
        "SBATCH_ACCOUNT": "mine",
        "SBATCH_RESERVATION": "course",
        "SQUEUE_STATES": "PENDING",
    }
    caplog.set_level("INFO")
    kept = environment.of_submission({"partition", "mem", "gpus_per_task", "mail-type"}, shell)
    assert kept == {"SBATCH_ACCOUNT": "mine", "SBATCH_RESERVATION": "course"}
    assert "SBATCH_TIMELIMIT=5 of the shell is ignored: the profile and the sweep decide that" in caplog.text
    assert "SBATCH_ACCOUNT=mine of the shell holds: the profile says nothing of it" in caplog.text
    assert "SQUEUE" not in caplog.text


def test_jobs_inherit_nothing_of_the_allocation_from_which_they_are_submitted():
    settings = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_PMIX_FENCE": "ring", "PATH": "/bin"}
    around = {**settings, **ALLOCATION, **STEP, "SLURM_CPU_BIND": "mask_cpu:0x1", "CUDA_VISIBLE_DEVICES": "3"}
    assert environment.of_submission((), around) == settings
    outside = {"SLURM_CPU_BIND": "none", "CUDA_VISIBLE_DEVICES": "3"}
    assert environment.of_submission((), outside) == outside, "outside of an allocation they are the user's own"


def test_this_process_has_another_environment_in_the_block_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SBATCH_WAIT", "1")
    before = dict(os.environ)
    with environment.in_place_of_this({"PATH": "/bin"}):
        assert dict(os.environ) == {"PATH": "/bin"}
    assert dict(os.environ) == before
