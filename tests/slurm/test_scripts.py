"""The shipped sbatch scripts on a real Slurm: what a user types, what comes out, and what happens when ranks die."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from wandb.cli import cli as wandb_client

from glrnn_hpc import config, layout
from glrnn_hpc.data import yade
from glrnn_hpc.summary.status import summarize
from tests.conftest import DATA
from tests.mpi.suite.test_parse import content
from tests.slurm.conftest import REPOSITORY, SCRIPT, Site, process_of

SCRIPTS = REPOSITORY / "slurm"
PATIENCE = 600


@pytest.fixture
def site(site: Site) -> Site:
    """Return the login node as the scripts want it: they take what the site needs from the shell that submits them."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{site.variables['PATH']}"
    # mpi4py would load the MPICH of the extra embedded-mpi, which the ranks of srun cannot use.
    site.variables |= {"PATH": path, "MPI4PY_LIBMPI": "libmpi.so.40", "WANDB_MODE": "disabled"}
    return site


def submit(site: Site, script: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
    """Submit a script as a user would; return the number of the job."""
    return site.run("sbatch", "--parsable", *options, str(SCRIPTS / f"{script}.sbatch"), *arguments).strip()


def wait_for(site: Site, job: str) -> dict[str, str]:
    """Wait until a job has left the queue; return what Slurm says of it."""
    site.until(lambda: job not in site.queue(), PATIENCE)
    said = site.run("scontrol", "--oneliner", "show", "job", job)
    return dict(re.findall(r"(\w+)=(\S*)", said))


def end_of(site: Site, job: str) -> tuple[str, str, str]:
    """Wait for a job's end; return its state, its exit status and signal, and how often it came back."""
    found = wait_for(site, job)
    return found["JobState"], found["ExitCode"], found["Restarts"]


def log_of(site: Site, job: str) -> str:
    """Return what a script printed; in Slurm's own file is no more than why a job came back."""
    (log,) = (site.folder / "job_outputs").glob(f"*-{job}.log")
    slurms = site.folder / f"slurm-{job}.out"
    if slurms.exists():
        (line,) = slurms.read_text().splitlines()
        assert re.search(rf"JOB {job} ON node\d CANCELLED AT \S+ DUE TO (JOB REQUEUE|NODE FAILURE)", line)
    return log.read_text()


def assert_finished(sweep: layout.SweepFolder, n_trials: int, epochs: int) -> None:
    found = summarize(sweep.root)
    assert found["state"] == "finished"
    assert found["trials"] == {"finished": n_trials, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert [row["epochs"] for row in found["table"]] == [epochs] * n_trials
    assert layout.read_json(sweep.best.provenance)["trial"] == found["best"]["number"]
    assert sweep.best.model(weights_only=False).exists()


def test_run_sweep_alone_does_a_whole_sweep_on_all_nodes_of_its_allocation(site: Site):
    sweep_file, _ = site.write(6, 20)
    job = submit(site, "run_sweep", sweep_file)
    assert end_of(site, job) == ("COMPLETED", "0:0", "0"), site.errors()
    sweep = layout.SweepFolder(site.folder / f"runs/s-{job}")
    assert_finished(sweep, 6, 20)
    lines = [json.loads(line) for line in sweep.worker(job).utilisation.read_text().splitlines()]
    assert {line["rank"] for line in lines} == {0, 1, 2, 3}
    assert len({line["host"] for line in lines}) == 2
    assert f"4 ranks on node[1-2], sweep in runs/s-{job}" in log_of(site, job)


def kill_a_rank(site: Site, job: str) -> str:
    _, owner = site.training()[0]
    os.kill(process_of(owner.process.pid, owner.job), signal.SIGKILL)
    # Slurm ends the other rank by SIGTERM, and may count its end instead.
    return r"the ranks ended with status 1(37|43): job \d+ is put into the queue again"


def tell_to_leave(site: Site, job: str) -> str:
    site.run("scancel", "--signal=USR2", job)
    return r"the ranks ended with status 75: job \d+ is put into the queue again"


def crash_a_node(site: Site, job: str) -> str:
    # Not the first node, on which the script itself runs: Slurm puts the job into the queue by itself in both cases.
    site.run("bash", str(SCRIPT), "crash-node", "node2")
    site.until(lambda: "PENDING" in site.run("squeue", "--noheader", f"--jobs={job}", "--format=%T"), PATIENCE)
    site.run("bash", str(SCRIPT), "start-node", "node2")
    return "the folder is there: going on"


@pytest.mark.parametrize("happens", [kill_a_rank, tell_to_leave, crash_a_node])
def test_run_sweep_comes_back_and_goes_on_with_the_same_trials(happens: Callable[[Site, str], str], site: Site):
    sweep_file, _ = site.write(3, 300)
    options = ("--nodes=2", "--ntasks-per-node=1")
    job = submit(site, "run_sweep", sweep_file, "sweep", "--heartbeat", "0.5", options=options)
    site.until(lambda: len(site.training()) == 2, PATIENCE)
    owners = dict(site.training())
    expected = happens(site, job)
    assert end_of(site, job) == ("COMPLETED", "0:0", "1"), site.errors()
    assert_finished(site.sweep, 3, 300)
    # A log that was begun anew would not hold the first start.
    log = log_of(site, job)
    assert re.findall(r"^== .* start (\d),", log, re.MULTILINE) == ["1", "2"]
    assert re.search(expected, log)
    # It takes Slurm a while to miss a node: until then the other rank goes on, and may finish its trial.
    cut_off = {
        number for number, owner in owners.items() if happens is not crash_a_node or owner.process.host == "node2"
    }
    assert cut_off
    site.assert_they_went_on_from_their_checkpoints(cut_off)
    if happens is tell_to_leave:
        released = re.findall(r"trial (\d+) is released after epoch (\d+)", log)
        went_on = re.findall(r"trials/(\d+): goes on after epoch (\d+)", log)
        assert sorted(released) == sorted(went_on), "no epoch is trained twice but the one that was broken off"


def test_a_cancelled_run_sweep_stays_away_until_its_folder_is_submitted(site: Site):
    sweep_file, _ = site.write(3, 300)
    options = ("--nodes=1", "--ntasks-per-node=2")
    submit(site, "run_sweep", sweep_file, "sweep", "--heartbeat", "0.5", options=options)
    numbers = {number for number, _ in site.until(site.training, PATIENCE)}
    site.cancel_all()
    again = submit(site, "run_sweep", "sweep", options=options)
    assert end_of(site, again) == ("COMPLETED", "0:0", "0"), site.errors()
    assert_finished(site.sweep, 3, 300)
    site.assert_they_went_on_from_their_checkpoints(numbers)


def test_run_sweep_gives_up_soon_when_the_ranks_cannot_begin(site: Site, monkeypatch: pytest.MonkeyPatch):
    sweep_file, _ = site.write(2, 2)
    # An MPI of another kind than srun's: the commonest error of a first job.
    monkeypatch.delitem(site.variables, "MPI4PY_LIBMPI")
    job = submit(site, "run_sweep", sweep_file)
    state, _, restarts = end_of(site, job)
    assert (state, restarts) == ("FAILED", "2")
    assert f"after 2 restarts: job {job} is given up" in log_of(site, job)


WRONG = [
    ("run_sweep", (), "no sweep file was given: sbatch slurm/run_sweep.sbatch SWEEP.yaml"),
    ("run_sweep", ("none.yaml",), "none.yaml: there is no such file or folder"),
    ("run_sweep", ("wrong.yaml",), "glrnn: metod: unknown key; did you mean method?"),
    ("run_sweep", ("s.yaml", "full"), "full: exists and is not an empty folder; choose another --out."),
    ("run_sweep", ("s.yaml", "--trails", "3"), "No such option: --trails"),
    ("run_sweep", ("full",), "full: is not a sweep folder"),
    ("train", (), "no configuration was given: sbatch slurm/train.sbatch CONFIG.yaml"),
    ("train", ("wrong.yaml",), "metod: unknown key"),
    ("parse_mpi", ("full",), "a folder and a file are needed: sbatch slurm/parse_mpi.sbatch RAW_DIR OUT.hdf5"),
    ("parse_mpi", ("none", "out.hdf5"), "none: there is no such folder"),
    ("parse_mpi", ("full", "out.hdf5"), "full: there are no .npy files"),
    ("collect", ("none",), "none: there is no such folder"),
    ("collect", ("full",), "full: is not a sweep folder"),
    ("run_sweep_online", (), "no sweep file was given: sbatch slurm/run_sweep_online.sbatch SWEEP.yaml"),
    ("run_sweep_online", ("none.yaml",), "none.yaml: there is no such file"),
]


def test_wrong_input_is_one_message_in_the_log_and_the_job_does_not_come_back(site: Site):
    site.write(2, 2)
    (site.folder / "wrong.yaml").write_text("metod: random\n")
    (site.folder / "full").mkdir()
    (site.folder / "full/file").touch()
    before = {path for path in site.folder.iterdir()}
    jobs = [submit(site, script, *arguments) for script, arguments, _ in WRONG]
    for job, (script, arguments, message) in zip(jobs, WRONG, strict=True):
        state, status, restarts = end_of(site, job)
        assert message in " ".join(log_of(site, job).split()), (script, arguments)
        assert (state, status, restarts) == ("FAILED", "2:0", "0"), (script, arguments)
    assert {path for path in site.folder.iterdir()} - before == {site.folder / "job_outputs"}
    # What the real client says without a login, and the message that follows from it.
    site.variables |= {"HOME": str(site.folder), "WANDB_DIR": str(site.folder)}
    job = submit(site, "run_sweep_online", "s.yaml")
    assert end_of(site, job) == ("FAILED", "2:0", "0")
    assert "No API key configured" in log_of(site, job)
    assert "wandb sweep made no sweep of s.yaml" in log_of(site, job)


def test_a_script_says_in_slurms_own_file_that_it_can_write_no_log(site: Site):
    (site.folder / "job_outputs").touch()
    job = submit(site, "collect", "sweep")
    assert end_of(site, job)[:2] == ("FAILED", "1:0")
    assert "cannot create directory" in (site.folder / f"slurm-{job}.out").read_text()


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sbatch")), ids=lambda path: path.name)
def test_a_script_that_is_started_without_slurm_says_so(script: Path, tmp_path: Path):
    done = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert done.stdout.startswith(f"this is a script for Slurm: sbatch {script}")


def test_a_node_without_glrnn_is_one_message(site: Site, monkeypatch: pytest.MonkeyPatch):
    site.write(2, 2)
    monkeypatch.setitem(site.variables, "PATH", "/usr/bin:/bin")
    job = submit(site, "run_sweep", "s.yaml")
    assert end_of(site, job) == ("FAILED", "2:0", "0")
    assert "the command glrnn is not on the PATH of node" in log_of(site, job)


def test_train_makes_a_run(site: Site):
    site.write(2, 2)
    keys = config.load_yaml(site.folder / "s.yaml")["parameters"] | {"seed": 3}
    (site.folder / "c.yaml").write_text(config.dump_yaml(keys))
    job = submit(site, "train", "c.yaml", "--set", "epochs=3", "--wandb", "disabled")
    assert end_of(site, job) == ("COMPLETED", "0:0", "0"), site.errors()
    run = layout.RunFolder(site.folder / f"runs/c-{job}")
    assert (config.load_yaml(run.config)["epochs"], config.load_yaml(run.config)["seed"]) == (3, 3)
    assert run.model(weights_only=False).exists()
    assert f"-> runs/c-{job}" in log_of(site, job)


def test_parse_mpi_writes_what_one_rank_would_and_names_what_it_leaves_out(site: Site):
    job = submit(site, "parse_mpi", str(DATA / "raw"), "out.hdf5", options=("--nodes=2", "--ntasks=4"))
    assert end_of(site, job) == ("COMPLETED", "0:0", "0"), site.errors()
    report = yade.convert_all_to_hdf5(None, None, DATA / "raw", site.folder / "alone.hdf5")
    found, expected = content(site.folder / "out.hdf5"), content(site.folder / "alone.hdf5")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    log = log_of(site, job)
    assert "4 ranks on node[1-2]" in log
    assert len(report.problems) >= 1
    assert all(log.count(problem) == 1 for problem in report.problems)


def test_collect_exports_the_best_and_leaves_out_what_is_broken(site: Site):
    sweep_file, _ = site.write(2, 2)
    site.glrnn("sweep", sweep_file, "--out", "sweep", "--ranks-per-worker", "1", "--heartbeat", "0.5")
    best = summarize(site.sweep.root)["best"]["number"]
    site.sweep.trial(best).model(weights_only=False).write_bytes(b"")
    job = submit(site, "collect", "sweep", "--top", "1")
    assert end_of(site, job) == ("COMPLETED", "0:0", "0"), site.errors()
    assert layout.read_json(site.sweep.best.provenance)["trial"] == 1 - best
    assert f"trial {best} was refused" in log_of(site, job)


#: Stands in for the server and its client, as there is neither here: says what the client 0.31 says, on stderr.
CLIENT = """#!/bin/bash
echo "$@" >>calls
case $1 in
sweep)
  echo "wandb: Creating sweep from: ${@: -1}" >&2
  echo "wandb: Creating sweep with ID: ab12cd34" >&2
  echo "wandb: View sweep at: http://localhost/my-team/dem/sweeps/ab12cd34" >&2
  echo "wandb: Run sweep agent with: wandb agent my-team/dem/ab12cd34" >&2 ;;
agent)
  echo "wandb: Starting wandb agent" >&2
  if [ "$SLURM_PROCID" = 1 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then kill -USR2 $$; fi
  echo "agent $SLURM_PROCID of $2 done" ;;
esac
"""


def test_run_sweep_online_makes_one_sweep_and_starts_its_agents_again(site: Site):
    sweep_file, _ = site.write(2, 2)
    client = site.folder / "bin/wandb"
    client.parent.mkdir()
    client.write_text(CLIENT)
    client.chmod(0o755)
    site.variables["PATH"] = f"{client.parent}{os.pathsep}{site.variables['PATH']}"
    job = submit(site, "run_sweep_online", sweep_file)
    assert end_of(site, job) == ("COMPLETED", "0:0", "1"), site.errors()
    calls = (site.folder / "calls").read_text().splitlines()
    assert calls == ["sweep --program jobs/sweep_agent.py s.yaml", *["agent my-team/dem/ab12cd34"] * 4]
    log = log_of(site, job)
    assert "wandb: Creating sweep with ID: ab12cd34" in log
    assert f"the agents ended with status 140: job {job} is put into the queue again" in log
    done = re.findall(r"^(\d): agent (\d) of my-team/dem/ab12cd34 done", log, re.MULTILINE)
    assert sorted(done) == [("0", "0"), ("0", "0"), ("1", "1")]


def test_the_program_of_the_sweep_file_or_of_the_command_line_is_the_agents(site: Site):
    site.write(2, 2)
    (site.folder / "own.yaml").write_text("program: mine.py\n" + (site.folder / "s.yaml").read_text())
    client = site.folder / "wandb"
    client.write_text('#!/bin/bash\necho "$@" >>calls\n')
    client.chmod(0o755)
    site.variables["PATH"] = f"{client.parent}{os.pathsep}{site.variables['PATH']}"
    for arguments in (("own.yaml",), ("own.yaml", "other.py")):
        assert end_of(site, submit(site, "run_sweep_online", *arguments))[:2] == ("FAILED", "2:0")
    assert (site.folder / "calls").read_text().splitlines() == ["sweep own.yaml", "sweep --program other.py own.yaml"]


def test_the_installed_client_says_the_line_that_run_sweep_online_looks_for():
    source = inspect.getsource(wandb_client.sweep.callback)
    assert 'f"{entity}/{project}/{sweep_id}"' in source
    assert 'f"wandb agent {sweep_path}"' in source
    assert 'f"Run sweep agent with: {styled_path}"' in source
    assert "Run sweep agent with: wandb agent " in (SCRIPTS / "run_sweep_online.sbatch").read_text()
