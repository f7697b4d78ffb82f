"""A model that is given the history of its load, from the sweep to what every command makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.calibration.calibrate import calibrate
from glrnn_hpc.calibration.observation import read_observation
from glrnn_hpc.calibration.surrogate import Surrogate, SurrogateCallback
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.collector.training_domain import read_training_domain
from glrnn_hpc.errors import ConfigError, DataError, ModelError
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.load_path import LoadPath
from glrnn_hpc.predict import get_pretrained_model, predict_file, predict_sequences
from glrnn_hpc.preprocessor.from_file import preprocessor_of_model
from glrnn_hpc.records.provenance import read_provenance
from glrnn_hpc.report.prediction_figures import draw_predictions
from glrnn_hpc.search.sweep import load_sweep
from tests.conftest import DATA
from tests.sweep.test_collect import swept

CYCLIC = DATA / "cyclic.hdf5"
HISTORY = list(TRIAXIAL.derived_features()[0].names())
NAMES = ["e_x", "e_y", "e_z", *HISTORY]

#: A training of one epoch on a third of the data.
KEYS: dict[str, Any] = {
    "raw_data": str(CYCLIC),
    "pressure": "0.2e6",
    "add_e0": True,
    "exact": True,
    "standardize_inputs": True,
    "window_size": 5,
    "window_step": 10,
    "pad_length": 2,
    "lstm_units": 4,
    "dense_units": 4,
    "epochs": 1,
    "batch_size": 64,
}

#: One trial sees the history, the other one the last turning point alone.
SEARCHED = {"inputs": {"values": [["e_x", "e_y", "e_z", "history"], ["e_x", "e_y", "e_z_turn_1", "e_z"]]}}
RANGES = {"E": (8.0, 9.5), "v": (0.05, 0.45), "kr": (0.0, 1.0), "eta": (0.0, 1.0), "mu": (15.0, 50.0)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> layout.SweepFolder:
    folder = tmp_path_factory.mktemp("history") / "sweep"
    content = {
        "method": "grid",
        "metric": {"name": "val_loss_raw", "goal": "minimize"},
        "parameters": {**{key: {"value": value} for key, value in KEYS.items()}, **SEARCHED},
    }
    return swept(folder, load_sweep(content))


def trial_with(sweep: layout.SweepFolder, n_inputs: int) -> layout.RunFolder:
    """Return the folder of the trial whose network has so many load features."""
    trials = [layout.RunFolder(sweep.trial(number).root) for number in range(2)]
    (found,) = (each for each in trials if layout.read_json(each.train_stats)["num_input_features"] == n_inputs)
    return found


@pytest.fixture(scope="module")
def whole(sweep: layout.SweepFolder) -> Path:
    return trial_with(sweep, len(NAMES)).root


@pytest.fixture(scope="module")
def ensemble(sweep: layout.SweepFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export an ensemble of both trials."""
    target = tmp_path_factory.mktemp("exports") / "both"
    collected = collect(sweep.root, ensemble=2, out=target)
    assert len(collected["ensemble"]["members"]) == 2
    return target


def sequences_of(folder: Path) -> tuple[Any, Any, Any, Mapping[str, Any]]:
    """Return a model, its inputs and parameters as it takes them, and its names."""
    model, stats, config = get_pretrained_model(folder)
    inputs, params, _ = preprocessor_of_model(config).all_sequences().arrays()
    predicted = predict_sequences(model, inputs[:3], params[:3], stats, config)
    return inputs, params, predicted, stats


def test_the_statistics_name_the_features_of_the_group(whole: Path):
    assert layout.read_json(layout.RunFolder(whole).train_stats)["input_names"] == NAMES


def test_a_prediction_file_holds_the_load_of_the_data(whole: Path, tmp_path: Path):
    answer = predict_file(whole, CYCLIC, tmp_path / "p.hdf5")
    assert np.isfinite(answer["mse_standardised"])
    with h5py.File(tmp_path / "p.hdf5") as file, h5py.File(CYCLIC) as data:
        assert list(file.attrs["inputs"]) == ["e_x", "e_y", "e_z"]
        group = file["0.2e6/drained"]
        expected = data["0.2e6/drained/inputs"][:][group["samples"][:]][:, 3:]
        np.testing.assert_array_equal(group["inputs"][:], expected)
    assert "over axial strain e_z" in draw_predictions(tmp_path / "p.hdf5", answer["metrics"]).alt


def test_an_export_records_ranges_of_derived_features_but_no_paths(ensemble: Path, whole: Path):
    columns = {column.name: column for column in read_provenance(layout.RunFolder(ensemble).provenance).load_features}
    assert list(columns) == NAMES
    assert (columns["e_z"].step, columns["e_z"].reverses) == (0.0012, True)
    assert columns["e_z_turn_1"].reverses is None
    assert columns["e_z_reversals"].range == (0.0, 6.0)
    model, stats, config = get_pretrained_model(whole)
    domain = read_training_domain(whole, stats, config)
    assert domain.given_inputs == ["e_x", "e_y", "e_z"]
    assert set(domain.load_paths) == {"e_x", "e_y", "e_z"}
    assert domain.load_paths["e_z"] == LoadPath(0.0, 0.0012, True)
    assert domain.input_ranges["e_z_direction"] == (-1.0, 1.0)


def test_a_calibration_computes_the_history_as_the_training_did(whole: Path, tmp_path: Path):
    model, stats, config = get_pretrained_model(whole)
    inputs, *_ = preprocessor_of_model(config).all_sequences().arrays()
    row, pad = inputs[7], int(config["pad_length"])
    strains = row[pad:, :3].astype("float64")
    columns = np.column_stack([strains, np.linspace(0.2, 0.4, len(strains))])
    np.savetxt(tmp_path / "o.dat", columns, header="e_x e_y e_z p")
    observation = read_observation(tmp_path / "o.dat", read_training_domain(whole, stats, config), type_code=1.0)
    np.testing.assert_allclose(observation.load, row[pad:], rtol=1e-6, atol=1e-7)
    assert observation.notes[-1] == "The load features history of the model are derived from e_z at these steps."
    np.savetxt(tmp_path / "m.dat", columns, header="e_x e_y e_z_max p")
    domain = read_training_domain(whole, stats, config)
    with pytest.raises(ConfigError, match="e_z_max: is no load feature of the model.*; it has e_x, e_y, e_z"):
        read_observation(tmp_path / "m.dat", domain, control="e_z_max")


def test_a_measured_observation_is_calibrated_from_its_axial_strain_alone(whole: Path):
    found = calibrate(
        whole,
        DATA / "observation_cyclic.dat",
        RANGES,
        known={"pressure": 0.2},
        experiment_type="drained",
        n_samples=20,
        n_iterations=2,
    )
    assert (found["steps"], found["control"]) == (121, "e_z")


@pytest.mark.parametrize("kind", ["whole", "ensemble"])
def test_a_surrogate_answers_a_load_with_its_history_or_without(kind: str, request: pytest.FixtureRequest):
    folder = request.getfixturevalue(kind)
    inputs, params, predicted, stats = sequences_of(folder)
    assert list(stats["input_names"]) == NAMES
    surrogate = Surrogate(folder)
    load = inputs[0, surrogate.domain.pad_length :]
    with_history = surrogate.respond(load, params[:1])
    np.testing.assert_allclose(with_history[0], predicted[0][-len(with_history[0]) :], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(surrogate.respond(load[:, :3], params[:1]), with_history, rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelError, match="was trained with 14 load features, 5 are given"):
        surrogate.respond(load[:, :5], params[:1])


def test_a_callback_of_grainlearning_takes_the_strains_of_the_system(whole: Path):
    inputs, params, predicted, stats = sequences_of(whole)
    surrogate = Surrogate(whole)
    load = inputs[0, surrogate.domain.pad_length :]

    class System:
        obs_names, param_names = ("p",), tuple(stats["param_names"])
        param_data, ctrl_data = params[:2], load[:, :3].T
        obs_data, normalization_factor = np.zeros((1, len(load) - surrogate.domain.first)), np.ones(1)

        def set_sim_data(self, data: Any) -> None:
            self.sim_data = data

    system = System()
    SurrogateCallback(surrogate)(system)
    expected = surrogate.respond(load, params[:2])[:, :, stats["label_names"].index("p")]
    np.testing.assert_allclose(system.sim_data[:, 0], expected, rtol=1e-5)
    System.ctrl_data = load[:, :2].T
    with pytest.raises(DataError, match=r"needs 3 load features \(e_x, e_y, e_z; others are derived\), time last"):
        SurrogateCallback(surrogate)(System())


def test_a_model_of_the_last_turning_point_needs_no_more_of_the_history(sweep: layout.SweepFolder):
    folder = trial_with(sweep, 4).root
    inputs, params, predicted, stats = sequences_of(folder)
    assert stats["input_names"] == ["e_x", "e_y", "e_z", "e_z_turn_1"]
    response = Surrogate(folder).respond(inputs[0, 2:, :3], params[:1])
    np.testing.assert_allclose(response[0], predicted[0][-response.shape[1] :], rtol=1e-4, atol=1e-5)
