"""Ctrl-C in a command that waits for a sweep: its workers go on, and the user is told how to watch and stop them."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from glrnn_hpc import config, layout
from glrnn_hpc.cli.interruption import telling_what_goes_on
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy
from tests.conftest import write_steps
from tests.sweep.sweeps import spec_of
from tests.sweep.test_sweep import glrnn, until


@pytest.mark.usefixtures("sleeping")
def test_the_workers_go_on_and_are_stopped_by_the_command_that_is_named(tmp_path: Path):
    spec = spec_of(write_steps(tmp_path / "a.hdf5"), epochs=600)
    (tmp_path / "s.yaml").write_text(config.dump_yaml(spec.as_dict()))
    folder = layout.SweepFolder(tmp_path / "my sweep")
    start = ["sweep", "s.yaml", "--out", "my sweep", "--workers", "2", "--ranks-per-worker", "1", "--heartbeat", "0.2"]
    command = [sys.executable, "-m", "glrnn_hpc", *start]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # As in a terminal: a shell in the background, which may have started the tests, lets its commands ignore Ctrl-C.
    with subprocess.Popen(command, cwd=tmp_path, **pipes, preexec_fn=_heeding_interrupts) as waiting:
        until(lambda: len(list(folder.trials.glob("*/checkpoint-1/state.npz"))) >= 2)
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert "glrnn: interrupted; 2 workers go on without this command: `glrnn status 'my sweep' --watch`" in err
    assert "`glrnn resume 'my sweep'` waits for them again, `glrnn cancel 'my sweep'` stops them." in err
    assert (out, "Traceback" in err) == ("", False)
    assert [liveness.is_alive(worker) for worker in folder.all_workers()] == [True, True]
    assert glrnn("cancel", "my sweep", cwd=tmp_path).returncode == 0
    until(lambda: not any(liveness.is_alive(worker) for worker in folder.all_workers()))


def _heeding_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit) as ended, telling_what_goes_on(folder):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    said = capsys.readouterr()
    assert said.out == ""
    return said.err.strip()


def test_what_does_not_go_on_is_said_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = tmp_path / "sweep"
    assert interrupted(root, capsys) == "glrnn: interrupted before any worker was started; no sweep was made."
    study = SweepStudy(run_sweep(spec_of(write_steps(tmp_path / "a.hdf5"), 2), root, n_workers=0))
    resume = f"`glrnn resume {root}`"
    assert interrupted(root, capsys) == f"glrnn: interrupted; no worker runs; {resume} starts the workers again."
    for cluster, expected in (
        ("debug", f"this process has trained the trials, so that nothing goes on; {resume} does."),
        (
            "slurm",
            f"its jobs go on without this command: `glrnn status {root} --watch` shows the trials, {resume} waits",
        ),
        ("my_site:MyLauncher", "its jobs go on without this command: "),
    ):
        launch = dataclasses.replace(study.change_state(lambda state: state).launch, cluster=cluster)
        study.change_state(lambda state, launch=launch: dataclasses.replace(state, launch=launch))
        assert interrupted(root, capsys).startswith(f"glrnn: interrupted; {expected}")
    study.change_state(lambda state: dataclasses.replace(state, state="cancelled"))
    assert interrupted(root, capsys).startswith("glrnn: interrupted; the sweep is cancelled: ")
