"""A surrogate takes the place of the DEM code in GrainLearning's calibration."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grainlearning import BayesianCalibration, DynamicSystem

from glrnn_hpc import cli, layout, predict
from glrnn_hpc.calibration.calibrate import calibrate, surrogate_callback
from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import ConfigError, DataError, ModelError
from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.surrogate import artifact
from tests import grainlearning_loop as loop
from tests.conftest import DATA

WHEEL = Path(str(files("grainlearning"))) / "rnn" / "trained_models" / "rnn_triaxial_drained"
RANGES = {"E": (8.0, 9.5), "v": (0.05, 0.45), "kr": (0.0, 1.0), "eta": (0.0, 1.0), "mu": (15.0, 50.0)}
LABELS = ["e", "p", "q", "f0", "a_c", "a_n", "a_t"]
FEW = {"n_samples": 20, "n_iterations": 2}


def write_model(folder: Path, **keys: Any) -> layout.RunFolder:
    """Write a model with the initial weights of a training on the real data."""
    small = {"window_size": 5, "lstm_units": 4, "dense_units": 4, "add_e0": True, "standardize_inputs": True}
    config = RunConfig(raw_data=str(DATA / "triaxial.hdf5"), **{**small, **keys})
    stats = PreprocessorTriaxialCompression(**config.as_dict()).prepare_arrays().train_stats
    folder.mkdir()
    run = layout.RunFolder(folder)
    artifact.save_description(run, config, stats)
    artifact.save_model(rnn_model(stats, **config.as_dict()), run.model(weights_only=True))
    return run


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model").root


def simulation(run: Path, sample: int = 0) -> tuple[Any, Any, Any]:
    """Return load, parameters and what the model answers to them, from the step that it answers first."""
    model, stats, config = predict.get_pretrained_model(run)
    inputs, params, _ = PreprocessorTriaxialCompression(**config).all_sequences().arrays()
    answered = predict.predict_sequences(model, inputs[[sample]], params[[sample]], stats, config)[0]
    return inputs[sample].astype("float64"), params[sample].astype("float64"), answered.astype("float64")


def write_table(path: Path, load: Any, values: Any, names: list[str] = LABELS) -> Path:
    values = np.concatenate([values[:1].repeat(len(load) - len(values), axis=0), values])
    np.savetxt(path, np.column_stack([load, values]), header=" ".join(["e_x", "e_y", "e_z", *names]))
    return path


@pytest.fixture(scope="module")
def table(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an observation that the model itself made."""
    load, _, answered = simulation(model_dir)
    return write_table(tmp_path_factory.mktemp("tables") / "observation.dat", load, answered)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model_dir: Path, table: Path):
    """Run `glrnn calibrate` in this process; return status, stdout and stderr."""

    def call(*arguments: object, model: Path = model_dir, observation: Path = table) -> tuple[int, str, str]:
        words = ["glrnn", "calibrate", model, observation, "--samples", 20, "--iterations", 2, *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    yield call
    for name in ("absl", "tensorflow", "h5py"):
        logging.getLogger(name).setLevel(logging.NOTSET)


SOUGHT = [word for name, (low, high) in RANGES.items() for word in ("--param", f"{name}={low}:{high}")]
KNOWN = ["--known", "pressure=0.2", "--experiment-type", "drained"]


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


def test_the_command_writes_json_samples_and_figures_and_repeats_itself(run, tmp_path: Path):
    status, out, _ = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", "--seed", 7, "--json")
    assert status == 0
    found = json.loads(out)
    assert list(found["most_probable"]) == list(found["spread"]) == list(RANGES)
    assert all(low <= found["most_probable"][name] <= high for name, (low, high) in RANGES.items())
    assert found["iterations"] == 2
    for name, best in found["most_probable"].items():
        expected = np.hypot(found["deviation"][name], found["mean"][name] - best)
        assert found["spread"][name] == pytest.approx(expected)
    assert 0 < found["seconds_per_prediction"] < found["seconds"]
    assert found["known"] == {"pressure": 0.2, "experiment_type": 1.0, "e0": pytest.approx(found["known"]["e0"])}
    assert found["outside_training"] == []
    assert found["resampling"] == "none: the observation has the steps of the training"
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "calibration.json",
        "samples.csv",
        "posterior.png",
        "response.png",
    }
    saved = json.loads((tmp_path / "a" / "calibration.json").read_text())
    assert saved["most_probable"] == found["most_probable"]
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
    found = calibrate(WHEEL, tmp_path / "a.dat", ranges, known=known, observed=["e", "q"], n_samples=30)
    for name, value in truth.items():
        assert found["most_probable"][name] == pytest.approx(value, rel=0.03)
        low, high = found["interval"][name]
        assert low - 2 * found["deviation"][name] < value < high + 2 * found["deviation"][name]
        assert abs(found["most_probable"][name] - value) < 3 * found["spread"][name] < 0.06 * value
    assert found["effective_samples"] > 50
    assert found["errors"]["q"]["rmse"] == pytest.approx(0.01 * measured[4:, 2].mean(), rel=0.4)


def test_the_surrogates_own_error_widens_the_spread(model_dir: Path, table: Path, tmp_path: Path):
    plain = calibrate(model_dir, table, {"mu": (15, 50)}, known=truth_of(model_dir, "mu"), **FEW)
    other = write_model(tmp_path / "other")
    rows = {name: {"rmse": 5 * plain["errors"][name]["rmse"] + 0.05} for name in LABELS}
    layout.write_json(other.provenance, {"errors": {"test": rows}})
    wide = calibrate(other.root, table, {"mu": (15, 50)}, known=truth_of(model_dir, "mu"), **FEW)
    assert wide["deviation"]["mu"] > 2 * plain["deviation"]["mu"]
    assert wide["errors"]["q"]["surrogate_rmse"] == rows["q"]["rmse"]


def test_labels_count_as_much_as_the_surrogate_can_be_trusted_with_them(model_dir: Path, tmp_path: Path):
    """Void ratio and stress of two different simulations: the parameter that is found is that of the trusted one."""
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
        found = calibrate(
            other.root, path, {"mu": (15, 50)}, known=truth_of(model_dir, "mu"), n_samples=20, n_iterations=3
        )
        assert found["most_probable"]["mu"] == pytest.approx(angles[trusted], abs=3)


def test_it_takes_the_last_iteration_where_grainlearning_cannot_go_on(model_dir: Path, caplog):
    """The model is not trained: it comes nowhere near a simulation, whatever the parameters are."""
    known = {"pressure": 0.2, "v": 0.25, "kr": 0.5, "eta": 0.5}
    ranges = {name: RANGES[name] for name in ("E", "mu")}
    found = calibrate(
        model_dir,
        DATA / "observation.dat",
        ranges,
        known=known,
        experiment_type="drained",
        n_samples=12,
        tolerance=1e-9,
    )
    assert "GrainLearning cannot narrow the samples further" in caplog.text
    assert 1 <= found["iterations"] == len(found["sigma"]) < 20
    assert found["reached_tolerance"] is False
    assert all(low <= found["most_probable"][name] <= high for name, (low, high) in ranges.items())


def truth_of(model_dir: Path, *sought: str) -> dict[str, float]:
    """Return the parameters with which the observation was made, without those that are sought."""
    _, params, _ = simulation(model_dir)
    names = predict.get_pretrained_model(model_dir)[1]["param_names"]
    return {name: value for name, value in zip(names, params.tolist(), strict=True) if name not in sought}


def test_a_padded_model_is_compared_from_the_first_step_on(tmp_path: Path):
    padded = write_model(tmp_path / "padded", pad_length=5).root
    load, _, answered = simulation(padded)
    path = write_table(tmp_path / "a.dat", load[5:], answered)
    found = calibrate(padded, path, {"mu": (15, 50)}, known=truth_of(padded, "mu"), n_samples=30, n_iterations=8)
    assert (found["first_step"], found["steps"]) == (0, 101)
    truth = simulation(padded)[1][4]
    assert found["most_probable"]["mu"] == pytest.approx(truth, rel=0.02)
    assert found["errors"]["q"]["rmse"] < 0.01


def test_a_network_that_keras_must_run_answers_the_same(model_dir: Path, tmp_path: Path, monkeypatch):
    from glrnn_hpc.calibration import surrogate

    fast = surrogate.Surrogate(model_dir)
    monkeypatch.setattr(surrogate, "one_load_kernel", lambda model, window_size: None)
    slow = surrogate.Surrogate(model_dir)
    load, params, _ = simulation(model_dir)
    several = np.stack([params, params * 1.01])
    np.testing.assert_allclose(fast.respond(load, several), slow.respond(load, several), rtol=1e-5, atol=1e-4)


def test_the_callback_takes_a_system_too_and_asks_for_the_whole_load(model_dir: Path):
    load, params, answered = simulation(model_dir)
    extra = dict(zip(("pressure", "experiment_type", "e0"), params[5:], strict=True))

    def system(obs: Any, ctrl: Any) -> DynamicSystem:
        return DynamicSystem(
            obs.T,
            1,
            [8, 0, 0, 0, 15],
            [9, 1, 1, 1, 50],
            ctrl,
            LABELS,
            param_names=list(RANGES),
            param_data=params[None, :5],
        )

    whole = system(answered, load.T)
    surrogate_callback(model_dir, extra)(whole)
    np.testing.assert_allclose(whole.sim_data[0], answered.T, rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match=r"ctrl_data has 96 steps and obs_data 96|ctrl_data has 90 steps"):
        surrogate_callback(model_dir, extra)(system(answered, load[:90].T))
    with pytest.raises(DataError, match=r"needs 3 load features, time last: \(3, n_steps\)"):
        surrogate_callback(model_dir, extra)(system(answered, load))
    with pytest.raises(DataError, match="no ctrl_data"):
        surrogate_callback(model_dir, extra)(system(answered, None))
    with pytest.raises(ConfigError, match="pressure, experiment_type, e0: the model was trained with"):
        surrogate_callback(model_dir)(system(answered, load.T))


def test_ranges_beyond_the_training_are_warned_of_by_name(run, tmp_path: Path, caplog):
    wide = [word.replace("mu=15.0:50.0", "mu=10:70") for word in SOUGHT]
    status, out, _ = run(*wide, *KNOWN, "--out", tmp_path / "a", "--json")
    assert status == 0
    beyond = "mu in 10..70, trained in 15.024..49.933"
    assert json.loads(out)["outside_training"] == [beyond]
    assert f"outside of the training, where the surrogate guesses: {beyond}" in caplog.text


def test_a_pressure_that_is_not_the_experiments_is_warned_of(run, tmp_path: Path, caplog):
    experiment = DATA / "observation.dat"  # at 0.2 MPa
    assert run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", observation=experiment)[0] == 0
    assert "confining pressure" not in caplog.text
    other = ["--known", "pressure=0.5", "--experiment-type", "drained"]
    assert run(*SOUGHT, *other, "--out", tmp_path / "b", observation=experiment)[0] == 0
    assert "observation.dat: begins with p=0.2 MPa, but pressure=0.5 MPa is given as known" in caplog.text


def test_a_void_ratio_of_the_other_type_of_test_is_warned_of(run, tmp_path: Path, caplog):
    experiment = DATA / "observation.dat"
    assert run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", observation=experiment)[0] == 0
    assert "taken for" not in caplog.text
    other = ["--known", "pressure=0.2", "--experiment-type", "undrained"]
    assert run(*SOUGHT, *other, "--out", tmp_path / "b", observation=experiment)[0] == 0
    assert re.search(r"taken for undrained, but its void ratio changes by 0\.\d+, as in a drained test", caplog.text)
    # Lateral strains would be derived from the void ratio, which is constant here.
    names, *rows = experiment.read_text().lstrip("# ").split("\n")
    column = names.split().index("e")
    values = np.loadtxt(rows)
    values[:, column] = values[0, column]
    np.savetxt(tmp_path / "undrained.dat", values, header=names)
    assert run(*SOUGHT, *KNOWN, "--out", tmp_path / "c", observation=tmp_path / "undrained.dat")[0] == 0
    assert "taken for drained, but its void ratio does not change, as in an undrained test" in caplog.text


@pytest.mark.parametrize(
    "content", [[], {"parameters": [1]}, {"errors": {"test": 3}}, {"labels": [{"min": 0, "max": 1}]}]
)
def test_a_provenance_of_another_form_is_refused(run, tmp_path: Path, model_dir: Path, content: Any):
    shutil.copytree(model_dir, tmp_path / "model")
    layout.write_json(layout.RunFolder(tmp_path / "model").provenance, content)
    status, _, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "out", model=tmp_path / "model")
    assert status == 2
    assert re.search(r"provenance\.json: is broken", err)


def test_what_speaks_against_a_result_is_told(run, tmp_path: Path, caplog):
    names, *rows = (DATA / "observation.dat").read_text().lstrip("# ").split("\n")
    values = np.loadtxt(rows)
    values[:, names.split().index("q")] *= 100
    np.savetxt(tmp_path / "q.dat", values, header=names)
    given = {"model": Path("dem-all"), "observation": tmp_path / "q.dat"}
    status, out, _ = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", "--json", **given)
    assert status == 0
    found = json.loads(out)
    (note,) = [note for note in found["notes"] if note.startswith("q is missed by")]
    assert "times the error of the surrogate on its tests: no parameters in the ranges give the observation" in note
    assert note in caplog.text
    outside = [
        name for name, (low, high) in found["interval"].items() if not low <= found["most_probable"][name] <= high
    ]
    told = [note.split(",")[0] for note in found["notes"] if "lies outside of its own interval" in note]
    assert told == [f"The most probable {name}" for name in outside]
    assert not any("errors of the surrogate are not known" in note for note in found["notes"])
    _, out, _ = run(*SOUGHT, *KNOWN, "--out", tmp_path / "b", "--json")  # a model without provenance
    assert "The errors of the surrogate are not known: the spread is that of" in out


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_calculated(run, tmp_path: Path):
    (tmp_path / "file").touch()
    status, _, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "file/out")
    assert status == 2
    assert "file/out: the folder for the calibration cannot be made: Not a directory; name another one.\n" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*SOUGHT[:8], *KNOWN], "mu: the model was trained with E, v, kr, eta, mu, pressure, experiment_type, e0"),
        ([*SOUGHT, "--param", "nu=0:1", *KNOWN], "nu: the model has no such parameter; did you mean"),
        ([*SOUGHT, *KNOWN, "--known", "mu=30"], "mu: is both sought and given as known"),
        ([*SOUGHT[:8], "--param", "mu=50:15", *KNOWN], "mu=50:15: the first number must be below the second"),
        ([*SOUGHT[:8], "--param", "mu=15:inf", *KNOWN], "mu=15:inf: the first number must be below the second"),
        ([*SOUGHT[:8], "--param", "mu=15", *KNOWN], "--param mu=15: NAME=MIN:MAX, such as mu=15:50 is needed"),
        ([*SOUGHT[:8], "--param", "15:50", *KNOWN], "--param 15:50: NAME=MIN:MAX"),
        ([*SOUGHT, "--param", "mu=1:2", *KNOWN], "--param mu=1:2: mu is given twice"),
        (KNOWN, "no parameter is sought"),
        ([*SOUGHT, "--known", "pressure=2e5", "--experiment-type", "drained"], "pressure is needed in MPa"),
        ([*SOUGHT, "--known", "pressure=nan", "--experiment-type", "drained"], "pressure=nan: a known parameter must"),
        ([*SOUGHT, "--known", "pressure=0.2", "--experiment-type", "dry"], "'dry' is not one of drained, undrained"),
        (
            [*SOUGHT, *KNOWN, "--known", "experiment_type=0"],
            "experiment_type=0 is given as known, but the experiment is dr",
        ),
        (
            [*SOUGHT[:8], "--param", "mu=0.2:0.8", *KNOWN],
            "mu=0.2:0.8: the model was trained with mu in 15.02..49.93 and knows nothing of this range",
        ),
        (["--param", "E=1e8:1e9", *SOUGHT[2:], *KNOWN], "E=1e+08:1e+09: the model was trained with E in 8.0"),
        ([*SOUGHT, *KNOWN, "--observe", "e,strength"], "has no column strength; it has e_x, e_y, e_z, e, p, q"),
        ([*SOUGHT, *KNOWN, "--ctrl", "strain"], "has no column strain"),
        ([*SOUGHT, *KNOWN, "--samples", "5"], "samples: at least 10 are needed, 5 was given"),
        ([*SOUGHT, *KNOWN, "--iterations", "0"], "iterations: at least 1 are needed"),
        ([*SOUGHT, *KNOWN, "--tolerance", "0"], "tolerance: a number above 0 is needed"),
        ([*SOUGHT, *KNOWN, "--seed", "-1"], "seed: a number from 0"),
    ],
)
def test_wrong_arguments_are_one_message_and_status_2(run, tmp_path: Path, arguments: list[str], said: str):
    status, out, err = run(*arguments, "--out", tmp_path / "a")
    assert (status, out) == (2, "")
    assert said in err
    assert sum(line.startswith("ERROR") or said in line for line in err.splitlines()) == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("e_z", "strain"), "has no column e_z"),
        (lambda text: "\n".join(text.splitlines()[:5]) + "\n", "has 4 rows, fewer than the model looks at once"),
        (lambda text: text.replace(text.splitlines()[9].split()[4], "nan", 1), "nan is not a finite number"),
        (lambda text: in_pascal(text), "p is needed in MPa"),
    ],
    ids=["wrong columns", "fewer points than a window", "NaN", "Pa"],
)
def test_an_observation_that_cannot_be_used_is_one_message_and_status_2(
    run, table: Path, tmp_path: Path, change: Callable[[str], str], said: str
):
    path = tmp_path / "bad.dat"
    path.write_text(change(table.read_text()))
    status, out, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", observation=path)
    assert (status, out) == (2, "")
    assert said in err


def in_pascal(text: str) -> str:
    header, *lines = text.splitlines()
    columns = header.lstrip("# ").split()
    rows = [line.split() for line in lines]
    for row in rows:
        row[columns.index("p")] = str(float(row[columns.index("p")]) * 1e6)
    return "\n".join([header, *(" ".join(row) for row in rows)])


def test_a_folder_that_is_no_model_or_has_other_weights_is_one_message_and_status_2(
    run, model_dir: Path, tmp_path: Path
):
    other = write_model(tmp_path / "other", lstm_units=6)
    layout.write_text(other.config, (model_dir / "config.yaml").read_text())
    status, _, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", model=other.root)
    assert status == 2
    (said,) = (line for line in err.splitlines() if "cannot be loaded as the model of its folder" in line)
    assert said == err.splitlines()[-1]
    assert "(8, 4)" in err
    assert "(8, 6)" in err
    status, _, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", model=tmp_path)
    assert status == 2
    assert "is no folder of a trained model" in err


def test_a_model_of_drained_tests_is_not_calibrated_against_an_undrained_one(run, table: Path, tmp_path: Path):
    arguments = [*SOUGHT, "--known", "pressure=0.2", "--experiment-type", "undrained", "--out", tmp_path / "a"]
    status, _, err = run(*arguments, model="dem-drained")
    assert status == 2
    assert "experiment type: undrained is given, the model was trained with drained tests" in err


def test_a_folder_that_holds_something_is_not_written_to(run, tmp_path: Path):
    (tmp_path / "kept").write_text("")
    for out in (tmp_path, tmp_path / "kept"):
        status, _, err = run(*SOUGHT, *KNOWN, "--out", out)
        assert status == 2
        assert "is a file or holds something already" in err


def test_a_missing_grainlearning_is_said_with_what_to_install(model_dir: Path, table: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "grainlearning", None)
    with pytest.raises(ConfigError, match=r"pip install 'glrnn_hpc\[calibration\]'"):
        calibrate(model_dir, table, RANGES)


def test_a_model_that_gives_nan_is_refused(table: Path, tmp_path: Path):
    broken = write_model(tmp_path / "broken")
    model, stats, config = predict.get_pretrained_model(broken.root)
    model.set_weights([value * np.nan for value in model.get_weights()])
    artifact.save_model(model, broken.model(weights_only=True))
    with pytest.raises(ModelError, match="values that are not finite"):
        calibrate(broken.root, table, {"mu": (15, 50)}, known=truth_of(broken.root, "mu"), **FEW)
