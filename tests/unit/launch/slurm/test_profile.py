"""A site's profile: what may stand in it, and what it becomes."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import layout
from glrnn_hpc.config import dump_yaml, parse_yaml
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.launch.slurm import batch_script, commands, submission
from glrnn_hpc.launch.slurm.profile import Profile, load_profile

PROFILES = Path(__file__).parents[4] / "slurm/profiles"


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_profiles_are_valid(path: Path):
    assert load_profile(path).as_dict().items() >= {"mpi": "pmix"}.items()


@pytest.mark.parametrize("name", Profile.model_fields)
def test_the_generic_profile_tells_of_every_key(name: str):
    text = (PROFILES / "generic-cpu.yaml").read_text() + (PROFILES / "generic-gpu.yaml").read_text()
    assert re.search(rf"^(# )?{name}:", text, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_profiles_are_valid_with_all_that_they_leave_out(path: Path, tmp_path: Path):
    lines = path.read_text().splitlines()
    keys = {line.removeprefix("# ").split(":")[0] for line in lines if line.startswith("# ")} & {*Profile.model_fields}
    for key in sorted(keys):
        begin = next(number for number, line in enumerate(lines) if line.startswith(f"# {key}:"))
        below = itertools.takewhile(lambda line: line.startswith("#   "), lines[begin + 1 :])
        block = "\n".join(line.removeprefix("# ") for line in [lines[begin], *below])
        (tmp_path / "site.yaml").write_text(block)
        assert load_profile(tmp_path / "site.yaml").as_dict().items() >= parse_yaml(block, key).items()


def test_the_examples_of_the_page_on_profiles_are_valid_profiles(tmp_path: Path):
    blocks = re.findall(r"^```yaml\n(.*?)^```", (PROFILES.parent / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "site.yaml").write_text("".join(blocks))
    profile = load_profile(tmp_path / "site.yaml")
    assert profile.python_command() == "apptainer exec --nv /path/to/image.sif python3"
    assert "export SLURM_PMIX_FENCE=ring" in profile.setup_lines()


def test_snellius_is_asked_for_whole_quarters_of_a_node():
    profile = load_profile(PROFILES / "snellius-gpu.yaml")
    assert (profile.partition, profile.gpus_per_task, profile.cpus_per_task) == ("gpu_a100", 1, 72 // 4)
    assert profile.setup_lines()[0] == "module load 2024", "the stack comes before what is in it"


def test_modules_come_before_the_library_of_mpi_and_the_sites_own_lines():
    profile = Profile(modules=[2023, "OpenMPI/4.1"], setup=["source venv/bin/activate"], mpi_library="libmpi.so.40")
    assert profile.setup_lines() == [
        "module load 2023",
        "module load OpenMPI/4.1",
        "export MPI4PY_LIBMPI=libmpi.so.40",
        "source venv/bin/activate",
    ]


def test_python_is_this_one_or_the_sites(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/with blank/python")
    assert Profile().python_command() == "'/with blank/python'"
    assert Profile(python="apptainer exec image.sif python").python_command() == "apptainer exec image.sif python"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"partitoin": "x"}, r"site\.yaml\.partitoin: unknown key; did you mean partition\?"),
        ({"time": "two hours"}, r"site\.yaml\.time: "),
        ({"time": 0}, r"site\.yaml\.time: "),
        ({"mpi": "pmx"}, r"site\.yaml\.mpi: "),
        ({"nodes": True}, r"site\.yaml\.nodes: "),
        ({"modules": "OpenMPI"}, r"site\.yaml\.modules: "),
        ({"modules": [2023.1]}, r"site\.yaml\.modules\.0: Input should be a valid string"),
        ({"sbatch": {"signal": "USR1@10"}}, "signal is set elsewhere"),
        ({"sbatch": {"ntasks_per_node": 4}}, "ntasks_per_node is set elsewhere"),
        ({"sbatch": {"cpus-per-task": 4}}, "cpus-per-task is set elsewhere"),
        ({"sbatch": ["exclusive"]}, r"site\.yaml\.sbatch: "),
        (
            {"time": "1-00:00:00:00"},
            r"site\.yaml\.time: minutes are needed, or .* \('1-00:00:00:00' was given\)",
        ),
        (
            {"time": "unlimited"},
            r"site\.yaml\.time: minutes are needed, or one of Slurm's times: 720, 12:00",
        ),
        ({"time": "0:30"}, r"site\.yaml: signal_seconds=90 is all of time=1 \(minutes\)"),
        ({"account": 20.5}, r"site\.yaml\.account: Input should be a valid string"),
        ({"mem": True}, r"site\.yaml\.mem: Input should be a valid string"),
        ({"time": True}, r"site\.yaml\.time: a number is needed"),
        ({"time": 1}, r"site\.yaml: signal_seconds=90 is all of time=1 \(minutes\)"),
        ({"max_restarts": True}, r"site\.yaml\.max_restarts: a number is needed"),
        ({"gpus_per_node": True}, r"site\.yaml\.gpus_per_node: a number is needed"),
        ({"sbatch": {"no_requeue": True}}, "no_requeue is set elsewhere"),
        ({"sbatch": {"--exclude": "node7"}}, "'--exclude' is no option of sbatch; it is written without dashes"),
        ({"sbatch": {"exclude node": "node7"}}, "'exclude node' is no option of sbatch"),
        (
            {"sbatch": {"parsable": True}},
            "with parsable sbatch would not submit jobs as `glrnn` needs it; leave it out",
        ),
    ],
    ids=str,
)
def test_a_wrong_profile_names_the_key(keys: dict[str, Any], message: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("site.yaml").write_text(dump_yaml(keys))
    with pytest.raises(ConfigError, match=message):
        load_profile("site.yaml")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("'90'", 90),
        ("12:00:00", 720),
        ("1:30:01", 91),
        ("12:30", 13),  # minutes and seconds
        ("1-12", 36 * 60),
        ("1-12:30", 36 * 60 + 30),
        ("1-00:00:00", 24 * 60),
        ("0-0:2:1", 3),
    ],
)
def test_a_time_is_what_slurm_takes_it_for(text: str, minutes: int, tmp_path: Path):
    (tmp_path / "site.yaml").write_text(f"time: {text}\n")
    assert load_profile(tmp_path / "site.yaml").time == minutes


def test_numbers_are_taken_where_slurm_takes_them(tmp_path: Path):
    (tmp_path / "site.yaml").write_text("mem: 16000\naccount: 4711\npartition: 1\nqos: 2\nconstraint: 3\n")
    profile = load_profile(tmp_path / "site.yaml")
    named = (profile.mem, profile.account, profile.partition, profile.qos, profile.constraint)
    assert named == ("16000", "4711", "1", "2", "3")
    assert Profile(mem=0).mem == "0", "all memory of a node is no missing value"


def test_the_kinds_of_mpi_that_srun_lists_are_taken():
    new = "MPI plugin types are...\n\tnone\n\tcray_shasta\n\tpmi2\n\tpmix\n"
    new += "specific pmix plugin versions available: pmix_v4,pmix_v5\n"
    old = "srun: MPI types are...\nsrun: pmi2\nsrun: none\nsrun: openmpi\n"
    listed = {*commands.types_in_list(new), *commands.types_in_list(old.replace("srun:", ""))}
    assert listed == {"none", "cray_shasta", "pmi2", "pmix", "pmix_v4", "pmix_v5", "openmpi"}
    assert {Profile(mpi=name).mpi for name in listed} == listed
    assert {name for name in listed if Profile(mpi=name).uses_pmix} == {"pmix", "pmix_v4", "pmix_v5"}


@pytest.mark.parametrize("keys", [{"python": "it's"}, {"setup": ["echo 'open", "true"]}], ids=str)
def test_lines_of_shell_that_are_not_whole_are_refused(keys: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"bash cannot read what modules, setup and python are .*unexpected EOF"):
        Profile(**keys).check_lines()
    Profile(setup=["echo \"it's whole\"  # isn't it"], modules=["it's"]).check_lines()


def test_an_option_of_sbatch_that_is_false_is_left_out():
    assert Profile(sbatch={"exclusive": False, "hold": True}).sbatch_options() == {"hold": True}


@pytest.mark.parametrize(
    ("status", "restarts", "state", "is_requeued"),
    [
        (0, 0, "RUNNING", False),
        (75, 0, "RUNNING", True),
        (137, 3, "RUNNING", True),
        (1, 4, "RUNNING", False),
        (2, 0, "RUNNING", False),
        (143, 0, "COMPLETING", False),
        (143, 0, "", False),
    ],
)
@pytest.mark.parametrize("job", [{"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, {}], ids=["array", "job"])
@pytest.mark.parametrize("has_begun", [True, False])
def test_the_batch_script_requeues_its_own_job_unless_it_is_done_cancelled_or_wrong(
    status: int, restarts: int, state: str, is_requeued: bool, job: dict[str, str], has_begun: bool, tmp_path: Path
):
    name = "7_2" if job else "7"
    folder = layout.SweepFolder(tmp_path / "it's here")
    if has_begun:
        ready = folder.worker(name).ready
        ready.parent.mkdir(parents=True)
        ready.touch()
    # One that was never ready comes back twice at most.
    is_requeued = is_requeued and (has_begun or restarts < 2)
    for command, said in (("squeue", state), ("scontrol", "")):
        program = tmp_path / command
        program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path / "calls"}\necho "{said}"\n')
        program.chmod(0o755)
    script = "\n".join([f"(exit {status})", *batch_script.teardown(4, folder)])
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", **job}
    variables |= {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert (f"requeue {name}" in (tmp_path / "calls").read_text()) == is_requeued
    assert ("put into the queue again" in done.stderr) == is_requeued


@pytest.mark.parametrize(("ends", "is_requeued"), [(0, False), (1, False), (2, True)])
def test_restarts_after_ends_because_of_the_memory_do_not_count(ends: int, is_requeued: bool, tmp_path: Path):
    folder = layout.SweepFolder(tmp_path / "it's here")
    worker = folder.worker("7")
    worker.root.mkdir(parents=True)
    worker.ready.touch()
    worker.memory_ends.write_text("".join(f"{start}\n" for start in range(ends)))
    for command in ("squeue", "scontrol"):
        (tmp_path / command).write_text(f'#!/bin/sh\necho "$@" >>{tmp_path / "calls"}\necho RUNNING\n')
        (tmp_path / command).chmod(0o755)
    script = "\n".join(["(exit 75)", *batch_script.teardown(4, folder)])
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "5"}
    subprocess.run(["bash", "-c", script], env=variables, check=False)
    assert ("requeue 7" in (tmp_path / "calls").read_text()) == is_requeued


def test_run_sweep_does_not_count_them_either(tmp_path: Path):
    script = (PROFILES.parent / "run_sweep.sbatch").read_text(encoding="utf-8")
    lines = script.partition("\nlimit=$max_restarts\n")[2].partition("# Requeueing")[0]
    worker = layout.SweepFolder(tmp_path).worker("7")
    worker.root.mkdir(parents=True)
    worker.ready.touch()
    command = ["bash", "-euc", f"job=7; out=$0; limit=4\n{lines}echo $limit", str(tmp_path)]
    for n_ends in range(3):
        assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) == 4 + n_ends
        with worker.memory_ends.open("a") as ends:
            ends.write(f"{n_ends}\n")


def test_a_step_that_could_not_begin_is_no_end_of_the_ranks(tmp_path: Path):
    folder = layout.SweepFolder(tmp_path)
    layout.write_json(folder.state, {"state": "running"})
    for command in ("squeue", "scontrol"):
        (tmp_path / command).write_text(f'#!/bin/sh\necho "$@" >>{tmp_path / "calls"}\necho RUNNING\n')
        (tmp_path / command).chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(["true", *batch_script.teardown(4, folder)])], env=variables, check=False
    )
    assert done.returncode == 69
    assert "requeue 7" in (tmp_path / "calls").read_text()


@pytest.mark.parametrize(("state", "is_cancelling"), [("finished", True), ("cancelled", False)])
def test_the_batch_script_takes_workers_that_wait_out_of_the_queue_once_the_sweep_is_finished(
    state: str, is_cancelling: bool, tmp_path: Path
):
    folder = layout.SweepFolder(tmp_path / "it's here")
    folder.root.mkdir()
    layout.write_json(folder.state, {"state": state, "reason": "every trial is final"})
    for command in ("squeue", "scancel"):
        program = tmp_path / command
        program.write_text(f'#!/bin/sh\necho "$0 $@" >>{tmp_path / "calls"}\necho RUNNING\n')
        program.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "glrnn-1a"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(["true", *batch_script.teardown(4, folder)])], env=variables, check=False
    )
    assert done.returncode == 0
    said = "scancel --quiet --state=PENDING --name=glrnn-1a\n"
    assert (said in (tmp_path / "calls").read_text()) == is_cancelling


SCRIPTS = sorted((PROFILES.parent).glob("*.sbatch"))


@pytest.mark.parametrize("script", [*SCRIPTS, None], ids=lambda path: path.stem if path else "submitit")
def test_jobs_hand_their_variables_on_whatever_export_was_and_take_no_options_from_the_users_shell(
    script: Path | None,
):
    if script is None:
        lines = "\n".join(submission.lines_before_srun(Profile(mpi="none")))
    else:
        begin = script.read_text().index("# srun hands on all variables")
        lines = "set -e\n" + script.read_text()[begin:].partition("\n\n")[0]
    shell = {"SLURM_EXPORT_ENV": "NONE", "SQUEUE_STATES": "PENDING", "SCANCEL_INTERACTIVE": "1"}
    both = {"SLURM_MEM_PER_CPU": "300", "SLURM_MEM_PER_NODE": "600"}

    def variables_after(given: dict[str, str]) -> dict[str, str]:
        # Bash knows a PATH of its own that it does not hand on: so it is in a job whose --export has none.
        command = ["bash", "--norc", "-c", f"{lines}\nenv"]
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    after = variables_after({**shell, "SLURM_MEM_PER_NODE": "600"})
    assert after["SLURM_EXPORT_ENV"] == "ALL"
    assert "/bin" in after["PATH"]
    assert after["SLURM_MEM_PER_NODE"] == "600"
    assert not [name for name in after if name.startswith(("SQUEUE_", "SCANCEL_"))]
    if script is not None:
        # Of submitit's jobs the submission has taken the allocation's away.
        assert not [name for name in variables_after(both) if name.startswith("SLURM_MEM_")]
