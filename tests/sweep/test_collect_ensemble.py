"""Ensembles of the trials that a sweep has anyway: members, export, refusals, and what every command makes of them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from glrnn_hpc import cli, layout, predict
from glrnn_hpc.best_run import find_best
from glrnn_hpc.cli import tables
from glrnn_hpc.collector import ensemble_candidates, ensemble_export
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.collector.collection import Collection
from glrnn_hpc.errors import ConfigError, SweepError
from glrnn_hpc.report.report import write_report
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.surrogate.ensemble import load_ensemble
from tests.sweep.test_collect import change, copy_of, swept, write_data

FIXED = {"lstm_units": 4, "dense_units": 4, "epochs": 3, "batch_size": 8, "learning_rate": 0.01}
SEARCHED = {
    "window_size": {"values": [3, 5]},
    "pad_length": {"values": [0, 6]},
    "inputs": {"values": [["e_z"], ["e_x", "e_y", "e_z"]]},
    "label_scaling": {"values": ["raw", "physical"]},
    "seed": {"values": [1, 2, 3, 4]},
}


def spec_of(data: Path, n_trials: int, **parameters: Any) -> SweepSpec:
    """Return a sweep of members that differ in windows, load features and units, some of which Hyperband stops."""
    hyperband = {"type": "hyperband", "min_iter": 1, "eta": 2}
    head = {"name": "mixed", "method": "random", "run_cap": n_trials, "early_terminate": hyperband}
    keys = {"raw_data": str(data), **FIXED, **SEARCHED, **parameters}
    return load_sweep({**head, "metric": {"name": "val_loss_raw", "goal": "minimize"}, "parameters": keys})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> layout.SweepFolder:
    """Run seven trials, some of which are stopped; the data lie beside the sweep."""
    root = tmp_path_factory.mktemp("ensemble")
    return swept(root / "sweep", spec_of(write_data(root / "a.hdf5"), 7))


@pytest.fixture(scope="module")
def found(whole: layout.SweepFolder) -> Collection:
    """Export an ensemble of that sweep, once for all tests that look at it."""
    return collect(whole.root, ensemble=6)


@pytest.fixture
def copied(whole: layout.SweepFolder, tmp_path: Path) -> layout.SweepFolder:
    """Return a copy of the sweep and its data, which may be damaged."""
    return copy_of(whole, tmp_path / "copied")


def numbers_of(sweep: layout.SweepFolder, state: str) -> list[int]:
    return [slot.number for slot in SweepStudy(sweep).slots() if slot.state == state]


def run(*words: object) -> Any:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_all_finished_and_stopped_trials_are_candidates_and_the_export_is_one_surrogate(
    whole: layout.SweepFolder, found: Collection, tmp_path: Path
):
    n_finished, n_pruned = (len(numbers_of(whole, state)) for state in ("finished", "pruned"))
    assert n_finished >= 2
    assert n_pruned >= 2
    ensemble, best = found["ensemble"], whole.best
    assert (ensemble["asked"], ensemble["candidates"]) == (6, n_finished + n_pruned)
    assert found["refused"] == []
    assert 1 < sum(member["weight"] for member in ensemble["members"]) <= 6
    # The error of a mean is below the mean of the errors, since the members differ.
    alone = [member["mse_standardised"]["val"] for member in ensemble["members"]]
    weights = [member["weight"] for member in ensemble["members"]]
    assert ensemble["mse_standardised"]["val"] < np.average(alone, weights=weights)
    assert ensemble["best_single"] in ensemble["members"]
    assert {path.name for path in best.root.iterdir()} == {"ensemble.json", "members", "provenance.json"}
    for number, member in enumerate(ensemble["members"]):
        trial, files = whole.trial(member["number"]), best.member(number)
        assert {path.name for path in files.root.iterdir()} == {
            *("config.yaml", "train_stats.json", "metrics.csv", "model-best.keras"),
        }
        assert files.config.read_text() == trial.config.read_text()
    # The folder gives the numbers that were told, and those of its provenance.
    data = whole.root.parent / "a.hdf5"
    answer = predict.predict_file(best.root, data, tmp_path / "p.hdf5")
    recorded = layout.read_json(best.provenance)
    assert answer["mse_standardised"] == pytest.approx(ensemble["mse_standardised"]["test"], rel=1e-4)
    assert answer["coverage"] == pytest.approx(ensemble["coverage"])
    assert recorded["mse_standardised"] == ensemble["mse_standardised"]
    for label, errors in answer["metrics"].items():
        assert ensemble["errors"][label]["rmse"] == pytest.approx(errors["rmse"], rel=1e-4)
    assert recorded["format"] == 2
    assert not {"trial", "point", "model"} & set(recorded)
    origin = recorded["ensemble"]
    assert [(each["trial"], each["weight"], each["state"]) for each in origin["members"]] == [
        (each["number"], each["weight"], each["state"]) for each in ensemble["members"]
    ]
    assert (origin["n_picks"], origin["n_candidates"], origin["interval_level"]) == (6, n_finished + n_pruned, 0.9)
    assert all(0.85 < part <= 1 for part in origin["coverage"]["val"].values())
    assert recorded["data"]["sequences"] == {"train": 14, "val": 3, "test": 3}
    # What asks for the best trial of the sweep still gets that one.
    assert find_best(whole.root).folder.root == whole.trial(found["best"]["number"]).root


def test_the_intervals_are_written_beside_the_prediction_and_printed(
    whole: layout.SweepFolder, found: Collection, tmp_path: Path
):
    lines = "\n".join(part if isinstance(part, str) else part.as_text() for part in tables.collect_output(found))
    assert "ensemble of trial" in lines
    assert "held by 90% interval" in lines
    assert "MSE in standardised units from step" in lines
    out = tmp_path / "p.hdf5"
    done = run("predict", whole.best.root, whole.root.parent / "a.hdf5", "--out", out, "--figure", tmp_path / "p.png")
    assert done.exit_code == 0, done.output
    assert "held by 90% interval" in done.stdout
    with h5py.File(out) as file:
        group = file["0.2e6/drained"]
        assert (group["lower"][:] <= group["upper"][:]).all()
        assert (group["lower"][..., 1] > 0).all()  # p is a logarithm
        width = group["upper"][:] - group["lower"][:]
        np.testing.assert_allclose(group["std"][:], width / (2 * 1.6448536), rtol=1e-4, atol=1e-6)


def test_an_ensemble_of_one_is_the_best_trial_with_intervals(copied: layout.SweepFolder):
    found = collect(copied.root, ensemble=1)["ensemble"]
    assert [member["weight"] for member in found["members"]] == [1]
    assert found["mse_standardised"] == found["members"][0]["mse_standardised"]
    assert set(found["coverage"]) == {"e", "p", "constant"}


def test_fewer_trials_than_asked_for_are_taken_with_status_3(copied: layout.SweepFolder):
    n_trials = len(numbers_of(copied, "finished")) + len(numbers_of(copied, "pruned"))
    done = run("collect", copied.root, "--ensemble", n_trials + 1)
    assert done.exit_code == 3
    assert f"--ensemble {n_trials + 1}: there are no more than {n_trials} verified trials" in done.stdout
    assert copied.best.ensemble.exists()
    with pytest.raises(ConfigError, match="--ensemble 0: at least one member is needed"):
        collect(copied.root, ensemble=0)


def test_a_stopped_trial_whose_files_are_changed_is_refused_and_one_without_a_model_is_no_candidate(
    copied: layout.SweepFolder, caplog: pytest.LogCaptureFixture
):
    changed, without = (copied.trial(number) for number in numbers_of(copied, "pruned")[:2])
    other = copied.trial(numbers_of(copied, "finished")[0])
    change(changed.result, lambda content: content["metrics"].update(test_mae=7.0))
    change(other.result, lambda content: content.update(state="pruned"))
    without.model(weights_only=False).unlink()
    n_trials = len(numbers_of(copied, "finished")) + len(numbers_of(copied, "pruned"))
    with caplog.at_level(logging.INFO):
        found = collect(copied.root, ensemble=2)
    assert found["ensemble"]["candidates"] == n_trials - 3
    refused = {row["number"]: row["reason"] for row in found["refused"]}
    assert set(refused) == {int(changed.root.name), int(other.root.name)}
    assert "test_mae was logged as 7, its files give" in refused[int(changed.root.name)]
    assert refused[int(other.root.name)] == "result.json has state pruned, the study finished"
    assert f"trial {without.root.name} of {copied.root} was stopped and is no candidate: " in caplog.text


def test_trials_of_another_split_or_other_parameters_are_refused_with_the_reason(tmp_path: Path):
    mixed = {"train_frac": {"values": [0.6, 0.7]}, "add_e0": {"values": [False, True]}}
    keys = {"raw_data": str(write_data(tmp_path / "a.hdf5")), **FIXED, "window_size": 3, **mixed}
    head = {"method": "grid", "metric": {"name": "val_loss", "goal": "minimize"}}
    folder = swept(tmp_path / "sweep", load_sweep({**head, "parameters": keys}))
    found = collect(folder.root, ensemble=2)
    best = found["best"]["number"]
    assert found["ensemble"]["candidates"] == 1
    assert len(found["refused"]) == 3
    reasons = " ".join(row["reason"] for row in found["refused"])
    assert f"cannot be in one ensemble with trial {best}: its train_frac is 0." in reasons
    assert f"cannot be in one ensemble with trial {best}: its parameters is" in reasons


def test_several_sweeps_make_one_ensemble_if_they_can_be_compared(copied: layout.SweepFolder, tmp_path: Path):
    data = copied.root.parent / "a.hdf5"
    other = swept(tmp_path / "other", spec_of(data, 3, seed=7, learning_rate=0.02))
    found = collect([copied.root, other.root], ensemble=8, out=tmp_path / "both")
    assert {member["sweep"] for member in found["ensemble"]["members"]} <= {str(copied.root), str(other.root)}
    assert found["ensemble"]["candidates"] > len(numbers_of(copied, "finished")) + len(numbers_of(copied, "pruned"))
    assert len(load_ensemble(tmp_path / "both").members) == len(found["ensemble"]["members"])
    third = swept(tmp_path / "third", spec_of(data, 1, val_frac=0.2))
    with pytest.raises(SweepError, match=r"third: cannot be ranked together .*val_frac is 0\.2 there"):
        collect([copied.root, third.root], ensemble=2, out=tmp_path / "both")


KILLED = """
import os, signal, sys
from pathlib import Path
from glrnn_hpc.collector import ensemble_export
from glrnn_hpc.cli import tables
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.collector.collection import Collection
ensemble_export.write_provenance = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
collect(Path(sys.argv[1]), ensemble=3)
"""


def test_a_kill_during_the_export_leaves_the_earlier_one_and_the_next_call_cleans_up(copied: layout.SweepFolder):
    collect(copied.root)  # a single model
    earlier = copied.best.provenance.read_text()
    died = subprocess.run([sys.executable, "-c", KILLED, copied.root], env=os.environ, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert copied.best.provenance.read_text() == earlier
    predict.get_pretrained_model(copied.best.root)
    assert len(list(copied.root.glob(".*.best"))) == 1
    collect(copied.root, ensemble=3)
    assert not list(copied.root.glob(".*.best"))
    assert load_ensemble(copied.best.root).members
    collect(copied.root)  # and back
    assert {path.name for path in copied.best.root.iterdir()} == {
        *("config.yaml", "train_stats.json", "metrics.csv", "model-best.keras", "provenance.json"),
    }


def test_predictions_that_are_not_finite_make_no_ensemble(copied: layout.SweepFolder, monkeypatch):
    nothing = np.full((1, 1, 3), np.inf, "float32")
    monkeypatch.setattr(ensemble_candidates.Member, "predict", lambda *_: nothing)
    with pytest.raises(SweepError, match="none of .* can be verified: .*predicts values that are not finite"):
        collect(copied.root, ensemble=2)
    assert not copied.best.root.exists()


def test_an_export_whose_files_give_another_error_is_not_put_there(copied: layout.SweepFolder, monkeypatch):
    def swapped(folder: Path) -> Any:
        ensemble = load_ensemble(folder)
        ensemble.weights = ensemble.weights[::-1] * 0.5
        return ensemble

    monkeypatch.setattr(ensemble_export, "load_ensemble", swapped)
    with pytest.raises(SweepError, match="the files of the ensemble give a validation error of .*, its members gave"):
        collect(copied.root, ensemble=3)
    assert not copied.best.root.exists()
    assert not list(copied.root.glob(".*.best"))


def test_a_full_disk_leaves_no_part_of_an_export(copied: layout.SweepFolder, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ensemble_export, "write_ensemble", full)
    with pytest.raises(SweepError, match=r"the export cannot be put there: .*No space left on device"):
        collect(copied.root, ensemble=2)
    assert not list(copied.root.glob("*best*"))


def test_the_report_shows_the_ensemble_that_was_exported(whole: layout.SweepFolder, found: Collection):
    members = found["ensemble"]["members"]
    summary = write_report(whole.root)
    page = whole.report.read_text()
    assert "predictions" in summary["figures"]
    assert f"The export is an ensemble of the trials {members[0]['number']} (x{members[0]['weight']})" in page
    assert "interval_level" in page


def test_the_answer_is_plain_json_and_the_export_stands_alone(copied: layout.SweepFolder):
    done = run("collect", copied.root, "--ensemble", 3, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["ensemble"]["interval_level"] == 0.9
    assert answer["best"]["path"] == str(copied.best.root)
    shutil.rmtree(copied.trials)
    assert predict.get_pretrained_model(answer["best"]["path"])[0].first_step in (0, 3, 5)
