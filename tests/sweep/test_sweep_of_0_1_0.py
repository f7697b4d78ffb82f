"""Folder of a sweep that version 0.1.0 made: status, collect, report and resume still read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from glrnn_hpc import cli, layout
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.launch import resume_sweep
from glrnn_hpc.records.json_types import FIRST_VERSION, VERSION
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.records.ownership import read_lease_owner, read_worker_record
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.records.trial_result import read_trial_result
from glrnn_hpc.records.utilisation import read_utilisation
from glrnn_hpc.report.report import FIGURES, write_report
from glrnn_hpc.summary.status import summarize

DATA = Path(__file__).parents[1] / "data"

#: Values of val_loss that version 0.1.0 logged, by the number of the trial.
LOGGED = {0: 0.3656156659126282, 1: 0.22289495170116425}


@pytest.fixture
def sweep(tmp_path: Path) -> layout.SweepFolder:
    """Return a copy of the folder, with the paths and the host of a machine."""
    root = shutil.copytree(DATA / "sweep-0.1.0", tmp_path / "sweep")
    names = {"@DATA@": DATA / "triaxial.hdf5", "@SWEEP@": root, "@FOLDER@": tmp_path, "@HOST@": "node-7"}
    for path in root.rglob("*"):
        if path.suffix in (".json", ".jsonl", ".yaml"):
            text = path.read_text(encoding="utf-8")
            for placeholder, name in names.items():
                text = text.replace(placeholder, str(name))
            path.write_text(text, encoding="utf-8")
    return layout.SweepFolder(root)


def test_status_shows_its_trials(sweep: layout.SweepFolder):
    done = CliRunner().invoke(cli.app, ["status", str(sweep.root), "--json"])
    assert done.exit_code == 3, "a trial has failed"
    summary = json.loads(done.stdout)
    assert (summary["state"], summary["metric"]) == ("cancelled", "val_loss")
    assert summary["trials"] == {"finished": 2, "pruned": 1, "failed": 1, "running": 0, "waiting": 2}
    assert summary["best"] == {"number": 1, "value": LOGGED[1]}
    assert summary["utilisation"] == pytest.approx(0.4, abs=0.01)
    table = summary["table"]
    assert [row["state"] for row in table] == ["finished", "finished", "failed", "pruned", "waiting", "waiting"]
    assert [row["epochs"] for row in table] == [12, 12, 0, 1, 1, 0]
    assert table[4]["where"] == "node-7:debug-000:0"
    assert "learning_rate=1e+30 is too high" in table[2]["error"]


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ("lstm_units: {value: 4}", "lstm_units: {value: 8}", "trial 0 is of: lstm_units is 8 there and 4 in the trial"),
        ("learning_rate:\n", "beta_1:\n", "it searches beta_1, the trial learning_rate"),
    ],
)
def test_a_file_that_was_edited_is_told_by_the_trials(old: str, new: str, difference: str, sweep: layout.SweepFolder):
    text = sweep.sweep.read_text(encoding="utf-8")
    assert old in text
    text = text.replace(old, new).replace(
        "[0.001, 0.003, 1.0e+30, 1.0e-09, 0.01, 0.002]", "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]"
    )
    sweep.sweep.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=difference):
        resume_sweep(sweep.root, n_workers=0)


def test_its_records_are_of_version_0_1_0(sweep: layout.SweepFolder):
    state = read_sweep_state(sweep)
    assert (state.version, state.n_trials, state.launch.cluster) == (FIRST_VERSION, 6, "debug")
    assert state.launch.timing.dead_after == 5
    result = read_trial_result(sweep.trial(1))
    assert (result.version, result.generation, result.epochs, result.value) == (FIRST_VERSION, 1, 12, LOGGED[1])
    assert result.metrics is not None
    assert result.software is not None
    assert min(read_metrics(sweep.trial(1).metrics).values("val_loss")) == result.metrics["val_loss"]
    record = read_worker_record(sweep.worker("debug-000"))
    assert record is not None
    assert read_lease_owner(sweep.trial(4), 1).process == record.ranks[0]
    lines = [line for _, line in read_utilisation(sweep)]
    assert {line.version for line in lines} == {FIRST_VERSION}
    assert lines[0].devices is not None


def test_collect_proves_and_exports_its_best_trial_and_report_draws_it(sweep: layout.SweepFolder):
    found = collect(sweep.root, top=2)
    assert [row["number"] for row in found["top"]] == [1, 0]
    assert found["refused"] == []
    for row in found["top"]:
        assert row["recomputed"]["val_loss"] == pytest.approx(LOGGED[row["number"]], rel=1e-5)
    assert found["prunings"] == {"1": 1}
    written = write_report(sweep.root)
    assert written["faulty"] == []
    assert set(written["figures"]) == set(FIGURES) - {"importance"}, "one parameter is searched"


def test_report_reads_the_export_of_version_0_1_0(sweep: layout.SweepFolder):
    assert write_report(sweep.root)["best"] == {"number": 1, "value": LOGGED[1]}
    assert '<td class="text">node-7</td>' in sweep.report.read_text(encoding="utf-8")


def test_resume_goes_on_from_its_checkpoint_and_finishes_the_sweep(sweep: layout.SweepFolder):
    released = read_metrics(sweep.trial(4).generation(1).metrics)
    assert released.n_epochs == 1
    resume_sweep(sweep.root)
    summary = summarize(sweep.root)
    assert (summary["state"], summary["reason"]) == ("finished", "every trial is final")
    assert summary["trials"]["waiting"] == 0
    result = read_trial_result(sweep.trial(4))
    assert (result.generation, result.version) == (2, VERSION)
    metrics = read_metrics(sweep.trial(4).metrics)
    assert metrics.rows[: released.n_epochs] == released.rows
    assert [row["epoch"] for row in metrics.rows] == list(range(1, metrics.n_epochs + 1))
    state = read_sweep_state(sweep)
    assert (state.version, state.created) == (VERSION, json.loads(_of_0_1_0("state.json"))["created"])


def _of_0_1_0(name: str) -> str:
    return (DATA / "sweep-0.1.0" / name).read_text(encoding="utf-8")
