"""The Gaussian-process baseline beside a sweep: what collect and report say of it, and where it is kept."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from glrnn_hpc import cli, layout
from glrnn_hpc.collector import baseline_comparison
from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.predict import get_pretrained_model
from glrnn_hpc.records.provenance import read_provenance
from glrnn_hpc.report import report as report_module
from glrnn_hpc.summary.status import summarize
from tests.conftest import INPUT_KEYS
from tests.sweep.sweeps import spec_of

N_SAMPLES, N_STEPS = 40, 12


def write_linear(path: Path, *, is_unloaded: bool = False) -> Path:
    """Write responses that are linear in E; with `is_unloaded` each path turns at a point of its own."""
    rng = np.random.default_rng(0)
    params, axial = rng.random((N_SAMPLES, 2)), np.tile(np.linspace(0, 0.11, N_STEPS), (N_SAMPLES, 1))
    if is_unloaded:
        axial -= np.maximum(axial - rng.uniform(0.02, 0.1, (N_SAMPLES, 1)), 0) * 2
    inputs = np.stack([0 * axial, 0 * axial, axial], axis=2)
    labels = np.stack([1 + params[:, :1] * axial, 3 - 20 * params[:, :1] * axial], axis=2)
    names = {"contact_params": ["E", "v"], "inputs": INPUT_KEYS, "outputs": ["s", "t"]}
    write_file(path, {"0.2e6/drained": (params, inputs, labels)}, **names)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> layout.SweepFolder:
    """Run two trials of a network that has hardly learnt: the baseline wins."""
    root = tmp_path_factory.mktemp("baseline")
    return run_sweep(spec_of(write_linear(root / "a.hdf5"), 2), root / "sweep", cluster="debug", ranks_per_worker=1)


@pytest.fixture
def copied(whole: layout.SweepFolder, tmp_path: Path) -> layout.SweepFolder:
    shutil.copytree(whole.root, tmp_path / "sweep")
    return layout.SweepFolder(tmp_path / "sweep")


def glrnn(*arguments: object) -> str:
    done = CliRunner().invoke(cli.app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_collect_says_who_wins_by_the_errors_of_both_on_the_same_steps(copied: layout.SweepFolder):
    found = json.loads(glrnn("collect", copied.root, "--json"))
    against = found["baseline"]
    assert against["network_rmse"] == {name: each["rmse"] for name, each in found["best"]["errors"].items()}
    provenance = read_provenance(copied.best.provenance)
    assert provenance.baseline is not None
    assert provenance.baseline.as_json() == against
    # One reckoning for both: the network's is the one that the export has had all along.
    assert against["network_mse"] == pytest.approx(provenance.mse_standardised["test"])
    std = np.asarray(get_pretrained_model(copied.best.root)[1]["std"])
    assert against["mse"] == pytest.approx(np.mean((np.array([*against["rmse"].values()]) / std) ** 2))
    assert against["mse"] < 1e-3 < against["network_mse"]
    assert against["first_step"] == provenance.window_size
    line = next(line for line in glrnn("collect", copied.root).splitlines() if line.startswith("Gaussian"))
    assert line.startswith(f"Gaussian-process baseline: test MSE {against['mse']:.4g}, the network")
    assert line.endswith("times as high: it loses)")


def test_an_ensemble_is_compared_by_its_own_errors_and_steps(copied: layout.SweepFolder):
    against = json.loads(glrnn("collect", copied.root, "--ensemble", "2", "--json"))["baseline"]
    provenance = read_provenance(copied.best.provenance)
    assert against["network_mse"] == pytest.approx(provenance.mse_standardised["test"])
    assert against["first_step"] == provenance.window_size
    assert provenance.baseline is not None
    assert provenance.baseline.as_json() == against


def test_the_baseline_is_fitted_once_for_collect_and_report(copied: layout.SweepFolder, monkeypatch):
    before = json.loads(glrnn("report", copied.root, "--json"))["baseline"]
    assert copied.baseline.exists()

    def fit_again(*_: object) -> None:
        raise AssertionError("is fitted again")

    monkeypatch.setattr(baseline_comparison, "fit_baseline", fit_again)
    after = json.loads(glrnn("collect", copied.root, "--json"))["baseline"]
    # Of the same test sequences, which the report and the verification predict in another order.
    assert after["rmse"] == before["rmse"]
    assert after["network_mse"] == pytest.approx(before["network_mse"], rel=1e-5)
    assert json.loads(glrnn("report", copied.root, "--json"))["baseline"] == after
    page = copied.report.read_text()
    assert "Against Gaussian processes" in page
    assert "RMSE of the baseline" in page


def test_a_broken_record_is_fitted_again(copied: layout.SweepFolder):
    copied.baseline.write_text('{"key": {}}')
    assert json.loads(glrnn("collect", copied.root, "--json"))["baseline"]["mse"] < 1e-3
    assert layout.read_json(copied.baseline)["n_train"] == 28


def test_no_baseline_leaves_it_out(copied: layout.SweepFolder):
    assert "baseline" not in json.loads(glrnn("collect", copied.root, "--no-baseline", "--json"))
    assert not copied.baseline.exists()
    assert read_provenance(copied.best.provenance).baseline is None
    assert "Gaussian" not in glrnn("collect", copied.root, "--no-baseline")


def test_without_scikit_learn_the_line_says_what_to_install_and_nothing_fails(copied: layout.SweepFolder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.gaussian_process", None)
    output = glrnn("collect", copied.root)
    assert "Gaussian-process baseline: none: " in output
    assert "pip install 'glrnn_hpc[baseline]'" in output
    assert copied.best.provenance.exists()


def test_a_report_compares_what_could_not_be_compared_when_it_was_exported(copied: layout.SweepFolder, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sklearn.gaussian_process", None)
        assert "baseline: none: " in glrnn("collect", copied.root)
    assert json.loads(glrnn("report", copied.root, "--json"))["baseline"]["mse"] < 1e-3


def test_a_report_compares_an_exported_ensemble_from_its_own_first_step(copied: layout.SweepFolder, monkeypatch):
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "sklearn.gaussian_process", None)
        glrnn("collect", copied.root, "--ensemble", "2")
    record = layout.read_json(copied.best.ensemble)
    # As if a member had a longer window: the others are compared from its first step on.
    layout.write_json(copied.best.ensemble, {**record, "first_step": record["first_step"] + 2})
    against = json.loads(glrnn("report", copied.root, "--json"))["baseline"]
    assert against["first_step"] == record["first_step"] + 2
    assert against["network_mse"] > 1e-3 > against["mse"]


def test_a_report_of_a_running_sweep_fits_nothing(copied: layout.SweepFolder, monkeypatch):
    summary = summarize(copied.root)
    monkeypatch.setattr(report_module, "summarize", lambda _: {**summary, "state": "running"})
    assert "glrnn collect fits it at any time" in glrnn("report", copied.root)
    assert not copied.baseline.exists()


def test_paths_that_turn_have_no_baseline_and_the_line_says_so(tmp_path: Path):
    data = write_linear(tmp_path / "a.hdf5", is_unloaded=True)
    folder = run_sweep(spec_of(data, 1), tmp_path / "sweep", cluster="debug", ranks_per_worker=1)
    expected = "Gaussian-process baseline: none: the path of e_z differs between the sequences, and it knows no steps"
    assert expected in glrnn("collect", folder.root)
    assert expected in glrnn("report", folder.root)
