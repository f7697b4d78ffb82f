"""Calibrations with a surrogate find parameters, and write their posterior."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from grainlearning import BayesianCalibration

from glrnn_hpc import layout, predict
from glrnn_hpc.calibration.calibrate import _weights, calibrate, surrogate_callback
from glrnn_hpc.errors import ConfigError, DataError
from tests import grainlearning_loop as loop
from tests.conftest import DATA
from tests.unit.calibration.conftest import (
    FEW,
    KNOWN,
    LABELS,
    RANGES,
    SOUGHT,
    WHEEL,
    Run,
    simulation,
    truth_of,
    write_model,
    write_table,
)


def test_it_finds_what_grainlearnings_own_loop_finds():
    model, stats, config = predict.get_pretrained_model(WHEEL)
    load = np.linspace(0, 0.06, 40)[:, None]
    measured = loop.with_noise(model, stats, load, [8.5, 0.25, 0.4, 0.4, 30.0, 0.2], config, 0.01)[:, [0, 2]]
    theirs = loop.calibrate(model, stats, config, load, measured, ["e", "q"], 0.2, n_samples=20, n_iterations=3, seed=3)
    callback = surrogate_callback(WHEEL, {"pressure": 0.2})
    system = {
        "param_names": list(loop.RANGES),
        "param_min": [low for low, _ in loop.RANGES.values()],
        "param_max": [high for _, high in loop.RANGES.values()],
        "num_samples": 20,
        "obs_names": ["e", "q"],
        "obs_data": measured.T,  # as long as the load: the callback leaves out what the model does not answer
        "ctrl_data": load[:, 0],
    }
    inference = {
        "Bayes_filter": {"ess_target": 0.3, "scale_cov_with_max": True},
        "sampling": {"max_num_components": 1, "random_state": 3},
    }
    ours = BayesianCalibration.from_dict(
        {"num_iter": 3, "callback": callback, "system": system, "inference": inference, "save_fig": -1}
    )
    ours.run()
    assert ours.system.sim_data.shape == (20, 2, 36)
    assert len(callback.seconds) == theirs.iterations == 3
    np.testing.assert_allclose(ours.get_most_prob_params(), list(theirs.most_probable.values()), rtol=1e-3)


def test_the_command_writes_json_samples_and_figures_and_repeats_itself(run: Run, tmp_path: Path):
    status, out, _ = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", "--seed", 7, "--json")
    assert status == 0
    summary = json.loads(out)
    assert list(summary["most_probable"]) == list(summary["spread"]) == list(RANGES)
    assert all(low <= summary["most_probable"][name] <= high for name, (low, high) in RANGES.items())
    assert summary["iterations"] == 2
    for name, best in summary["most_probable"].items():
        expected = np.hypot(summary["deviation"][name], summary["mean"][name] - best)
        assert summary["spread"][name] == pytest.approx(expected)
    assert 0 < summary["seconds_per_prediction"] < summary["seconds"]
    assert summary["known"] == {"pressure": 0.2, "experiment_type": 1.0, "e0": pytest.approx(summary["known"]["e0"])}
    assert summary["outside_training"] == []
    assert summary["resampling"] == "none: the observation has the steps of the training"
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "calibration.json",
        "samples.csv",
        "posterior.png",
        "response.png",
    }
    saved = json.loads((tmp_path / "a" / "calibration.json").read_text())
    assert saved["most_probable"] == summary["most_probable"]
    header, *lines = (tmp_path / "a" / "samples.csv").read_text().splitlines()
    assert header == "iteration,E,v,kr,eta,mu,weight"
    assert sum(float(line.split(",")[-1]) for line in lines) == pytest.approx(1, abs=1e-3)

    status, out, _ = run(*SOUGHT, *KNOWN, "--out", tmp_path / "b", "--seed", 7)
    assert status == 0
    again = json.loads((tmp_path / "b" / "calibration.json").read_text())
    same = ("most_probable", "spread", "mean", "deviation", "interval")
    assert {key: again[key] for key in same} == {key: saved[key] for key in same}
    assert (tmp_path / "b" / "samples.csv").read_text() == (tmp_path / "a" / "samples.csv").read_text()
    assert "most probable" in out.splitlines()[0]
    assert out.splitlines()[-1] == f"-> {tmp_path / 'b'}"


def test_parameters_that_made_an_observation_are_found_again(tmp_path: Path):
    model, stats, config = predict.get_pretrained_model(WHEEL)
    load = np.linspace(0, 0.1, 60)[:, None]
    truth = {"E": 8.5, "mu": 30.0}
    measured = loop.with_noise(model, stats, load, [8.5, 0.25, 0.4, 0.4, 30.0, 0.2], config, 0.01)
    np.savetxt(tmp_path / "a.dat", np.column_stack([load, measured]), header="e_z " + " ".join(stats["label_names"]))
    ranges = {name: loop.RANGES[name] for name in truth}
    known = {"v": 0.25, "kr": 0.4, "eta": 0.4, "pressure": 0.2}
    summary = calibrate(WHEEL, tmp_path / "a.dat", ranges, known=known, observed=["e", "q"], n_samples=30)
    for name, value in truth.items():
        assert summary["most_probable"][name] == pytest.approx(value, rel=0.03)
        low, high = summary["interval"][name]
        assert low - 2 * summary["deviation"][name] < value < high + 2 * summary["deviation"][name]
        assert abs(summary["most_probable"][name] - value) < 3 * summary["spread"][name] < 0.06 * value
    assert summary["effective_samples"] > 50
    assert summary["errors"]["q"]["rmse"] == pytest.approx(0.01 * measured[4:, 2].mean(), rel=0.4)


def test_the_surrogates_own_error_widens_the_spread(model_dir: Path, table: Path, tmp_path: Path):
    plain = calibrate(model_dir, table, {"mu": (15, 50)}, known=truth_of(model_dir, "mu"), **FEW)
    other = write_model(tmp_path / "other")
    rows = {name: {"rmse": 5 * plain["errors"][name]["rmse"] + 0.05} for name in LABELS}
    layout.write_json(other.provenance, {"errors": {"test": rows}})
    wide = calibrate(other.root, table, {"mu": (15, 50)}, known=truth_of(model_dir, "mu"), **FEW)
    assert wide["deviation"]["mu"] > 2 * plain["deviation"]["mu"]
    assert wide["errors"]["q"]["surrogate_rmse"] == rows["q"]["rmse"]


def test_labels_count_as_much_as_the_surrogate_can_be_trusted_with_them(model_dir: Path, tmp_path: Path):
    """Void ratio and stress of two different simulations: the most probable parameter is that of the trusted one."""
    load, params, _ = simulation(model_dir)
    model, stats, config = predict.get_pretrained_model(model_dir)
    angles = {"e": 20.0, "q": 45.0}
    sets = np.repeat(params[None], 2, axis=0)
    sets[:, 4] = list(angles.values())
    first, second = predict.predict_sequences(model, np.stack([load, load]), sets, stats, config)
    path = write_table(tmp_path / "a.dat", load, np.column_stack([first[:, 0], second[:, 2]]), ["e", "q"])
    other = write_model(tmp_path / "other")
    for trusted, distrusted in (("e", "q"), ("q", "e")):
        errors = {name: {"rmse": 1e-3 * stats["std"][LABELS.index(name)]} for name in LABELS}
        errors[distrusted]["rmse"] *= 1e3
        layout.write_json(other.provenance, {"errors": {"test": errors}})
        summary = calibrate(
            other.root, path, {"mu": (15, 50)}, known=truth_of(model_dir, "mu"), n_samples=20, n_iterations=3
        )
        assert summary["most_probable"]["mu"] == pytest.approx(angles[trusted], abs=3)


def test_it_takes_the_last_iteration_where_grainlearning_cannot_go_on(model_dir: Path, caplog):
    """The model is not trained: it comes nowhere near a simulation, whatever the parameters are."""
    known = {"pressure": 0.2, "v": 0.25, "kr": 0.5, "eta": 0.5}
    ranges = {name: RANGES[name] for name in ("E", "mu")}
    summary = calibrate(
        model_dir,
        DATA / "observation.dat",
        ranges,
        known=known,
        experiment_type="drained",
        n_samples=12,
        tolerance=1e-9,
    )
    assert "GrainLearning cannot narrow the samples further" in caplog.text
    assert 1 <= summary["iterations"] == len(summary["sigma"]) < 20
    assert summary["reached_tolerance"] is False
    assert all(low <= summary["most_probable"][name] <= high for name, (low, high) in ranges.items())


def test_a_padded_model_is_compared_from_the_first_step_on(tmp_path: Path):
    padded = write_model(tmp_path / "padded", pad_length=5).root
    load, _, response = simulation(padded)
    path = write_table(tmp_path / "a.dat", load[5:], response)
    summary = calibrate(padded, path, {"mu": (15, 50)}, known=truth_of(padded, "mu"), n_samples=30, n_iterations=8)
    assert (summary["first_step"], summary["steps"]) == (0, 101)
    truth = simulation(padded)[1][4]
    assert summary["most_probable"]["mu"] == pytest.approx(truth, rel=0.02)
    assert summary["errors"]["q"]["rmse"] < 0.01


def test_what_contradicts_a_result_is_noted(run: Run, tmp_path: Path, caplog):
    names, *rows = (DATA / "observation.dat").read_text().lstrip("# ").split("\n")
    values = np.loadtxt(rows)
    values[:, names.split().index("q")] *= 100
    np.savetxt(tmp_path / "q.dat", values, header=names)
    given = {"model": Path("dem-all"), "observation": tmp_path / "q.dat"}
    status, out, _ = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", "--json", **given)
    assert status == 0
    summary = json.loads(out)
    (note,) = [note for note in summary["notes"] if note.startswith("q is missed by")]
    assert "times the error of the surrogate on its tests: no parameters in the ranges give the observation" in note
    assert note in caplog.text
    outside = [
        name for name, (low, high) in summary["interval"].items() if not low <= summary["most_probable"][name] <= high
    ]
    noted = [note.split(",")[0] for note in summary["notes"] if "lies outside of its own interval" in note]
    assert noted == [f"The most probable {name}" for name in outside]
    assert not any("errors of the surrogate are not known" in note for note in summary["notes"])
    _, out, _ = run(*SOUGHT, *KNOWN, "--out", tmp_path / "b", "--json")  # a model without provenance
    assert "The errors of the surrogate are not known: the spread is that of" in out


def test_a_missing_grainlearning_is_an_error_that_names_what_to_install(model_dir: Path, table: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grainlearning", None)
    with pytest.raises(ConfigError, match=r"pip install 'glrnn_hpc\[calibration\]'"):
        calibrate(model_dir, table, RANGES)


def test_labels_that_are_mostly_negative_weigh_as_much_as_those_that_are_positive():
    observed = np.array([[0.5, 1.0, 2.0], [0.1, -2.0, -4.0]])
    assert _weights(np.abs(observed), np.zeros(2)) is None
    # GrainLearning multiplies them by the squares of the largest values, 2 and 0.1.
    weights = _weights(observed, np.zeros(2))
    np.testing.assert_allclose(np.sqrt(weights) * [2.0, 0.1], [2.0, 4.0])
    np.testing.assert_allclose(np.sqrt(_weights(observed, np.array([0.3, 0.2]))) * [2.0, 0.1], [0.3, 0.2])


def test_an_observation_that_reverses_is_calibrated_by_a_model_of_such_loads(tmp_path: Path):
    run = write_model(tmp_path / "model", raw_data=str(DATA / "cyclic.hdf5"))
    found = calibrate(
        run.root,
        DATA / "observation_cyclic.dat",
        RANGES,
        tmp_path / "out",
        known={"pressure": 0.2},
        experiment_type="drained",
        n_samples=20,
        n_iterations=2,
    )
    assert (found["steps"], found["control"]) == (121, "e_z")
    assert found["resampling"] == "none: the observation has the steps of the training"
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"response.png", "posterior.png"}
    monotonic = write_model(tmp_path / "monotonic")
    with pytest.raises(DataError, match="e_z of the observation does not increase after row 16: the load reverses"):
        calibrate(
            monotonic.root,
            DATA / "observation_cyclic.dat",
            RANGES,
            known={"pressure": 0.2},
            experiment_type="drained",
        )
