"""The report of a real sweep, looked at in a real browser; and reports of sweeps that have little to show."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import matplotlib.image
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from glrnn_hpc import cli, config, layout
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.errors import SweepError
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.processes import this_process
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.records.trial_result import TrialOutcome
from glrnn_hpc.report.figures import FIGURES
from glrnn_hpc.report.report import write_report
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.status import summarize
from tests.conftest import CONTACT_KEYS, DATA, INPUT_KEYS, OUTPUT_KEYS, write_steps
from tests.sweep.chromium import Page, chromium

N_TRIALS = 26
SCREENS = (1280, 390)  # a desk and a telephone
HYPERBAND = {"type": "hyperband", "min_iter": 2, "eta": 1.5}  # after 2, 3, 4, 6 … epochs


def thinned(path: Path, n_samples: int = 24) -> Path:
    """Write some sequences of two groups of the DEM data, with every fourth step."""
    groups = {}
    with h5py.File(DATA / "triaxial.hdf5") as file:
        for name in ("0.2e6/drained", "0.5e6/undrained"):
            arrays = [file[name][kind][:n_samples] for kind in ("contact_params", "inputs", "outputs")]
            groups[name] = (arrays[0], arrays[1][:, ::4], arrays[2][:, ::4])
    write_file(path, groups, contact_params=CONTACT_KEYS, inputs=INPUT_KEYS, outputs=OUTPUT_KEYS)
    return path


def spec_of(data: Path, n_trials: int, **parameters: Any) -> SweepSpec:
    fixed = {"raw_data": str(data), "lstm_units": 4, "dense_units": 4, "epochs": 3, "window_step": 2}
    searched = {"learning_rate": {"distribution": "log_uniform_values", "min": 1e-3, "max": 1e-1}}
    named = {"name": "<b>night</b> & day", "method": "random", "run_cap": n_trials}
    return load_sweep(
        {**named, "early_terminate": HYPERBAND, "metric": {"name": "val_loss"}}
        | {"parameters": {**fixed, **searched, **parameters}}
    )


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[layout.SweepFolder, dict[str, Any]]:
    """Run 26 trials, stopped ones and failed ones among them; export the best one and write the report."""
    root = tmp_path_factory.mktemp("reported")
    searched = {
        "window_size": {"values": [4, 6]},
        "batch_size": {"values": [64, 128]},
        "weight_decay": {"values": [0.0, 1e30], "probabilities": [0.85, 0.15]},  # the second one diverges
    }
    folder = run_sweep(
        spec_of(thinned(root / "a.hdf5"), N_TRIALS, **searched), root / "sweep", cluster="debug", wandb="disabled"
    )
    collect(folder.root)
    return folder, write_report(folder.root)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as page:
        yield page


@pytest.mark.parametrize("width", SCREENS)
def test_chromium_shows_every_figure_without_any_network(reported, browser: Page, width: int, tmp_path: Path):
    folder, found = reported
    copy = tmp_path / "moved.html"  # it is one file: it opens anywhere
    shutil.copyfile(folder.report, copy)
    browser.resize(width)
    browser.open(copy.as_uri())
    assert set(found["figures"]) == set(FIGURES)
    images = browser.evaluate(
        "[...document.images].map(i => { const r = i.getBoundingClientRect();"
        " return [i.id, i.complete, i.naturalWidth, r.width, r.height, i.alt] })"
    )
    assert [name for name, *_ in images] == [f"figure-{name}" for name in FIGURES]
    for name, is_complete, natural, shown, height, alt in images:
        assert is_complete, name
        assert natural > 700, name
        assert shown > 500, name
        assert height > 100, name
        assert len(alt) > 60, name
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.wide') || e.matches('.wide'))"
    assert browser.evaluate(f"{wide}.filter(e => e.getBoundingClientRect().right > innerWidth).length") == 0
    assert {url.split(":")[0] for url in browser.requests} == {"file", "data"}
    assert len([url for url in browser.requests if url.startswith("file:")]) == 1
    assert browser.complaints == []
    assert browser.evaluate("document.title") == "Sweep <b>night</b> & day"
    links = browser.evaluate("[...document.querySelectorAll('nav a')].map(a => a.hash)")
    assert links == [f"#{name}" for name in (*FIGURES, "baseline", "trials", "failures", "provenance")]
    assert browser.evaluate(f"{json.dumps(links)}.every(hash => document.querySelector(hash))")
    browser.screenshot(tmp_path / "page.png")
    shot = matplotlib.image.imread(tmp_path / "page.png")
    assert len(np.unique((shot[::4, ::4, :3] * 8).astype(int).reshape(-1, 3), axis=0)) > 30


def test_the_figures_are_files_too_and_light(reported):
    folder, found = reported
    text = folder.report.read_text(encoding="utf-8")
    embedded = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)\"", text)]
    files = [folder.figure(name) for name in FIGURES]
    assert [str(file) for file in files] == list(found["figures"].values())
    assert [file.read_bytes() for file in files] == embedded
    assert len(text) < 3e6
    assert not re.search(r"https?://", text)
    assert list(folder.root.rglob(".*")) == []


def cells(browser: Page, section: str) -> list[list[str]]:
    rows = f"document.querySelectorAll('#{section} tbody tr')"
    return browser.evaluate(f"[...{rows}].map(row => [...row.cells].map(cell => cell.textContent))")


def test_the_tables_of_the_report_say_what_status_says(reported, browser: Page):
    folder, found = reported
    browser.open(folder.report.as_uri())
    summary = summarize(folder.root)
    table = {row["number"]: row for row in summary["table"]}
    counts = summary["trials"]
    assert (sum(counts.values()), counts["running"], counts["waiting"]) == (N_TRIALS, 0, 0)
    assert min(counts["finished"], counts["pruned"], counts["failed"]) > 0
    head = browser.evaluate("document.querySelector('dl').textContent")
    for text in (f"{counts['finished']} finished", "random, hyperband", f"{summary['utilisation']:.1%}"):
        assert text in head

    ranking = cells(browser, "trials")
    assert int(ranking[0][1]) == found["best"]["number"]
    values = [float(row[2]) for row in ranking]
    assert values == sorted(values)
    assert len(values) == min(20, counts["finished"])
    for row in ranking:
        trial = table[int(row[1])]
        assert float(row[5]) == pytest.approx(trial["params"]["learning_rate"], rel=1e-3)
        assert float(row[2]) == pytest.approx(trial["value"], rel=1e-5)

    failures = cells(browser, "failures")
    failed = [row for row in summary["table"] if row["state"] == "failed"]
    assert sum(int(row[0]) for row in failures) == len(failed)
    assert {error for _, error, _ in failures} <= {row["error"] for row in failed}
    provenance = dict(cells(browser, "provenance"))
    assert provenance["trial"] == str(found["best"]["number"])
    assert provenance["point.window_size"] == str(table[found["best"]["number"]]["params"]["window_size"])


def test_a_report_of_data_that_are_gone_leaves_the_predictions_out(reported, tmp_path: Path):
    copy = layout.SweepFolder(tmp_path / "copy")
    shutil.copytree(reported[0].root, copy.root)
    data = str(tmp_path / "elsewhere.hdf5")
    sweep = config.load_yaml(copy.sweep)
    sweep["parameters"]["raw_data"] = {"value": data}
    copy.sweep.write_text(config.dump_yaml(sweep))
    done = CliRunner().invoke(cli.app, ["report", str(copy.root), "--json"])
    found = json.loads(done.stdout)
    assert (done.exit_code, found["faulty"]) == (3, ["predictions", "errors"])
    assert found["left_out"]["errors"].startswith(f"{data}: there is no such file. The path is written in {copy.root}/")
    assert not copy.figure("predictions").exists()
    assert copy.figure("history").exists()
    assert f"Left out: {data}: there is no such file." in copy.report.read_text()
    layout.write_json(copy.best.provenance, {**layout.read_json(copy.best.provenance), "trial": 999})
    for trial in SweepStudy(copy).slots():
        for model in copy.trial(trial.number).root.glob("model-best.*"):
            model.unlink()
    plain = CliRunner().invoke(cli.app, ["report", str(copy.root), "--top", "3"])
    assert plain.exit_code == 3
    assert "predictions: left out: " in plain.stdout
    assert "holds neither" in plain.stdout
    assert "The export is of trial 999" in copy.report.read_text()


def test_one_finished_trial_is_enough_for_a_report_whatever_its_group_is_called(tmp_path: Path, caplog):
    data = write_steps(tmp_path / "a.hdf5", groups=(r"$\frac{/<b>" + 80 * "long",))
    plain = spec_of(data, 1, window_size=3, add_pressure=False, add_experiment_type=False)
    spec = load_sweep({key: value for key, value in plain.as_dict().items() if key != "early_terminate"})
    folder = run_sweep(spec, tmp_path / "sweep", cluster="debug", wandb="disabled")
    found = write_report(folder.root)
    assert found["left_out"] == {"importance": "the sweep searches 1 parameter, and two are needed to compare them"}
    assert found["faulty"] == []
    text = folder.report.read_text()
    assert "The sweep has no early_terminate" in text
    assert r"for the groups $\frac{/&lt;b&gt;long" in text
    # What a crash of the file server leaves is left out, and said.
    folder.best.root.mkdir()
    folder.best.provenance.write_text("{")
    folder.trial(0).metrics.write_bytes(b"epoch,val_loss\n1,\x00\n")
    found = write_report(folder.root)
    assert set(found["left_out"]) == {"importance", "learning_curves"}
    assert f"{folder.trial(0).metrics}: is broken: " in caplog.text


def test_a_sweep_of_failures_alone_gets_a_report_of_them(tmp_path: Path):
    folder = creation.create(tmp_path / "sweep", spec_of(write_steps(tmp_path / "a.hdf5"), 2), 2, LaunchPlan())
    opened = SweepStudy(folder)
    for number in range(2):
        claim = opened.claim(Owner("me", 0, this_process()))
        assert claim is not None
        outcome = TrialOutcome(state="failed", error="<out of memory>")
        assert claim.lease.publish(claim.result_of(outcome, started=0.0, seconds=1.0))
        opened.settle(number)
    done = CliRunner().invoke(cli.app, ["report", str(folder.root)])
    assert done.exit_code == 0
    assert "history: left out: no trial has a val_loss yet" in done.stdout
    text = folder.report.read_text()
    row = '<tr><th scope="row">2</th><td class="text">&lt;out of memory&gt;</td><td>0, 1</td></tr>'
    assert row in text
    assert "No trial has finished yet." in text


def test_a_sweep_that_has_just_begun_gets_a_report_without_figures(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    folder = creation.create(tmp_path / "sweep", spec_of(data, 3), 3, LaunchPlan())
    found = write_report(folder.root)
    assert (found["figures"], found["faulty"]) == ({}, [])
    assert set(found["left_out"]) == set(FIGURES)
    assert found["left_out"]["predictions"] == "no trial has finished yet"
    text = folder.report.read_text()
    assert "No trial has failed." in text
    assert "Nothing is exported yet" in text


def test_trials_that_run_are_shown_with_what_they_have_so_far(tmp_path: Path):
    folder = creation.create(tmp_path / "sweep", spec_of(write_steps(tmp_path / "a.hdf5"), 3), 3, LaunchPlan())
    claim = SweepStudy(folder).claim(Owner("me", 0, this_process()))
    assert claim is not None
    metrics = folder.trial(claim.number).generation(1).metrics
    metrics.parent.mkdir(exist_ok=True)
    metrics.write_text("epoch,loss,val_loss\n1,3.0,2.0\n2,2.0,inf\n")
    found = write_report(folder.root)
    assert set(found["figures"]) == {"history", "learning_curves"}
    assert 'alt="Value of val_loss of 1 trials in the order of their numbers (1 running); none has finished yet."' in (
        folder.report.read_text()
    )


def test_a_preprocessor_of_the_users_own_has_no_figure_of_predictions(tmp_path: Path, monkeypatch):
    (tmp_path / "my_preprocessor_of_report.py").write_text(
        "from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression as Own\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = spec_of(write_steps(tmp_path / "a.hdf5"), 2, preprocessor="my_preprocessor_of_report:Own")
    found = write_report(creation.create(tmp_path / "sweep", spec, 2, LaunchPlan()).root)
    assert "has a preprocessor of its own" in found["left_out"]["predictions"]
    assert found["faulty"] == []


def test_a_report_that_cannot_be_written_is_refused(tmp_path: Path):
    folder = creation.create(tmp_path / "sweep", spec_of(write_steps(tmp_path / "a.hdf5"), 1), 1, LaunchPlan())
    folder.report.mkdir()
    with pytest.raises(SweepError, match=r"report\.html: the report cannot be written: Is a directory"):
        write_report(folder.root)


def test_a_folder_that_is_no_sweep_gets_no_report(tmp_path: Path):
    with pytest.raises(SweepError, match="is not a sweep folder"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_report_is_a_command() -> None:
    commands = {command.name for command in typer.main.get_command(cli.app).commands.values()}  # type: ignore[attr-defined]
    assert "report" in commands
