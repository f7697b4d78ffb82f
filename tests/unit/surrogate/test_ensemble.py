"""Ensembles as one surrogate: members of other windows, load features and units, matched by numbers of steps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from glrnn_hpc import layout, predict
from glrnn_hpc.calibration.surrogate import Surrogate
from glrnn_hpc.collector.training_domain import read_training_domain
from glrnn_hpc.errors import ConfigError, ModelError, WindowError
from glrnn_hpc.evaluate_model import plot_predictions
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.records.ensemble import EnsembleRecord, IntervalRecord, LabelInterval, MemberRecord
from glrnn_hpc.surrogate.ensemble import Ensemble, Member, load_ensemble
from glrnn_hpc.surrogate.window_datasets import predict_over_windows
from tests.ensembles import MIXED, REAL, write_export

WEIGHTS = np.array([3, 2, 1]) / 6


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an ensemble of three members; the second one is padded, the third sees e_z alone."""
    return write_export(tmp_path_factory.mktemp("ensembles") / "best").root


@pytest.fixture
def copied(export: Path, tmp_path: Path) -> layout.RunFolder:
    """Return a copy that may be damaged."""
    shutil.copytree(export, tmp_path / "copied")
    return layout.RunFolder(tmp_path / "copied")


def some_sequences(n: int = 3) -> tuple[np.ndarray, np.ndarray]:
    sequences = PreprocessorTriaxialCompression(raw_data=str(REAL), add_e0=True).all_sequences()
    inputs, params, _ = sequences.take(np.linspace(0, len(sequences) - 1, n).astype(int)).arrays()
    return inputs, params


def by_hand(export: Path, inputs: np.ndarray, params: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the members' own predictions, from step 7 on."""
    total = 0.0
    for number, weight in enumerate(WEIGHTS):
        model, stats, config = predict.get_pretrained_model(export / "members" / str(number))
        columns = [["e_x", "e_y", "e_z"].index(name) for name in stats["input_names"]]
        pad_length = config["pad_length"]
        padded = np.concatenate([inputs[:, :1].repeat(pad_length, axis=1), inputs], axis=1)[..., columns]
        predicted = predict.predict_sequences(model, padded, params, stats, config)
        total = total + weight * predicted[:, 7 + pad_length - config["window_size"] :].astype("float64")
    return total


class StepOracle:
    """Member whose prediction is the number of the step, its parameter and an error added."""

    def __init__(self, first_step: int, error: float) -> None:
        self.first_step, self.error = first_step, error
        self.stats: dict[str, Any] = {"num_input_features": 1}
        self.config: dict[str, Any] = {}

    def predict(self, inputs: np.ndarray, params: np.ndarray) -> np.ndarray:
        steps = np.arange(self.first_step, inputs.shape[1], dtype="float32")
        return (steps[None, :, None] + params[:, None] + self.error).astype("float32")


def test_steps_of_members_with_other_windows_are_matched_by_their_numbers():
    label = LabelInterval(factor=1.0, floor=[0.0], low=-1e9, high=1e9)
    record = EnsembleRecord(
        members=[MemberRecord(folder=0, weight=1), MemberRecord(folder=1, weight=3)],
        first_step=6,
        input_names=["e_z"],
        param_names=["E"],
        label_names=["q"],
        intervals=IntervalRecord(level=0.9, labels={"q": label}),
    )
    members: list[Any] = [StepOracle(2, -3.0), StepOracle(6, 1.0)]
    found = Ensemble(members, record).predict(np.zeros((2, 10, 1)), np.array([[0.0], [1000.0]]))
    assert found.first_step == 6
    np.testing.assert_array_equal(found.mean[0, :, 0], [6, 7, 8, 9])
    np.testing.assert_array_equal(found.mean[1, :, 0], [1006, 1007, 1008, 1009])
    # Errors of -3 and +1 with the weights 1/4 and 3/4 have a standard deviation of the square root of 3.
    np.testing.assert_allclose(found.upper - found.mean, np.sqrt(3), rtol=1e-3)
    np.testing.assert_allclose(found.upper - found.lower, found.std * 2 * 1.6448536, rtol=1e-3)


def test_the_prediction_is_the_weighted_mean_of_those_of_the_members(export: Path):
    inputs, params = some_sequences()
    ensemble, stats, config = predict.get_pretrained_model(export)
    assert (ensemble.first_step, config["window_size"], config["pad_length"]) == (7, 7, 0)
    assert (stats["input_names"], stats["num_labels"]) == (["e_x", "e_y", "e_z"], 7)
    assert stats["sequence_length"] == inputs.shape[1]
    expected = by_hand(export, inputs, params)
    np.testing.assert_allclose(ensemble.predict(inputs, params).mean, expected, rtol=1e-5, atol=1e-6)
    found = predict.predict_sequences(ensemble, inputs, params, stats, config)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    data = PreprocessorTriaxialCompression(**config).prepare_single_dataset()
    few = predict.predict_macroscopics(ensemble, data.take(1), stats, config).numpy()
    np.testing.assert_allclose(few[0], expected[0], rtol=1e-5, atol=1e-6)
    assert ensemble.count_params() == sum(member.model.count_params() for member in ensemble.members)


def test_sequences_are_predicted_part_by_part_with_the_same_numbers(export: Path, monkeypatch):
    from glrnn_hpc.surrogate import ensemble as module

    inputs, params = some_sequences(5)
    loaded = load_ensemble(export)
    whole = loaded.predict(inputs, params)
    monkeypatch.setattr(module, "_PART", 2)
    parts = loaded.predict(inputs, params)
    for name in ("mean", "std", "lower", "upper"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-6)


def test_one_load_is_answered_by_every_member_at_once(export: Path, caplog: pytest.LogCaptureFixture):
    inputs, params = some_sequences()
    same = inputs[:1].repeat(3, axis=0)
    surrogate = Surrogate(export)
    assert surrogate.domain.first == 7
    assert surrogate.domain.input_names == ["e_x", "e_y", "e_z"]
    assert all(member.is_fast for member in surrogate.ensemble.members)
    members = surrogate.respond_members(inputs[0], params)
    assert members.shape == (3, 3, inputs.shape[1] - 7, 7)
    np.testing.assert_allclose(members, surrogate.ensemble.predict_members(same, params), rtol=1e-4, atol=1e-4)
    answer = surrogate.respond(inputs[0], params)
    np.testing.assert_allclose(answer, by_hand(export, same, params), rtol=1e-4, atol=1e-4)
    band, other = surrogate.ensemble.combine(members, params), surrogate.ensemble.predict(same, params)
    np.testing.assert_allclose(band.std, other.std, rtol=1e-2, atol=1e-3)
    single = Surrogate(export / "members" / "0")
    assert single.ensemble is None
    np.testing.assert_array_equal(single.respond_members(inputs[0], params)[0], single.respond(inputs[0], params))
    with pytest.raises(ModelError, match="was trained with 3 load features, 2 are given"):
        surrogate.respond(inputs[0][:, :2], params)
    with pytest.raises(WindowError, match="a load of 7 steps is too short"):
        surrogate.respond(inputs[0][:7], params)


def test_an_export_that_was_moved_predicts_the_same(export: Path, tmp_path: Path, monkeypatch):
    inputs, params = some_sequences(1)
    shutil.copytree(export, tmp_path / "elsewhere" / "mine")
    monkeypatch.chdir(tmp_path)
    moved, stats, config = predict.get_pretrained_model("elsewhere/mine")
    np.testing.assert_array_equal(
        moved.predict(inputs, params).mean, load_ensemble(export).predict(inputs, params).mean
    )
    assert config["raw_data"] == str(REAL)
    assert read_training_domain(Path("elsewhere/mine"), stats, config).grid["e_z"][-1] == pytest.approx(0.12)


def test_members_that_predict_every_step_make_an_ensemble_that_does(tmp_path: Path):
    padded = {"window_size": 5, "pad_length": 5}
    export = write_export(tmp_path / "best", {1: padded, 2: {**padded, "pad_length": 6, "seed": 3}}).root
    ensemble, stats, config = predict.get_pretrained_model(export)
    assert (ensemble.first_step, config["window_size"], config["pad_length"]) == (0, 1, 1)
    inputs, params = some_sequences(1)
    assert stats["sequence_length"] == inputs.shape[1] + 1
    with_padding = np.concatenate([inputs[:, :1], inputs], axis=1)
    found = predict.predict_sequences(ensemble, with_padding, params, stats, config)
    np.testing.assert_array_equal(found, ensemble.predict(inputs, params).mean)
    answer = predict.predict_file(export, REAL, tmp_path / "p.hdf5")
    with h5py.File(tmp_path / "p.hdf5") as file:
        assert file["0.2e6/drained/upper"].shape == file["0.2e6/drained/inputs"].shape[:2] + (7,)
    assert answer["n_sequences"] == 75


def test_a_prediction_file_has_the_intervals_and_what_they_hold(export: Path, tmp_path: Path):
    found = predict.predict_file(export, REAL, tmp_path / "p.hdf5")
    assert found["interval_level"] == 0.9
    assert list(found["coverage"]) == ["e", "p", "q", "f0", "a_c", "a_n", "a_t"]
    held = dict.fromkeys(found["coverage"], 0.0)
    with h5py.File(tmp_path / "p.hdf5") as file:
        names = list(file.attrs["outputs"])
        groups = [file[pressure][kind] for pressure in file for kind in file[pressure]]
        for group in groups:
            shape = group["outputs"].shape
            assert {name: group[name].shape for name in ("std", "lower", "upper", "simulated")} == dict.fromkeys(
                ("std", "lower", "upper", "simulated"), shape
            )
            assert (group["lower"][..., names.index("p")] > 0).all()
            inside = (group["lower"][:] <= group["simulated"][:]) & (group["simulated"][:] <= group["upper"][:])
            for k, name in enumerate(names):
                held[name] += inside[..., k].mean() * shape[0] / found["n_sequences"]
    assert found["coverage"] == pytest.approx(held)
    with pytest.raises(ConfigError, match="belongs to the model"):
        predict.predict_file(export, REAL, export / "members" / "0" / "config.yaml")


def test_figures_of_predictions_are_drawn_with_an_ensemble(export: Path):
    ensemble, stats, config = predict.get_pretrained_model(export)
    data = PreprocessorTriaxialCompression(**config).prepare_single_dataset()
    axes = plot_predictions(ensemble, data, stats, config, batch_size=2).axes
    assert len(axes[0].lines[0].get_xdata()) == stats["sequence_length"] - 7


def test_windows_are_refused_because_members_cut_others(export: Path):
    inputs, params = some_sequences(1)
    with pytest.raises(ModelError, match=r"takes whole sequences and no windows.*predict\.predict_sequences"):
        predict_over_windows({"inputs": inputs, "params": params}, load_ensemble(export), 7, inputs.shape[1])


def test_wrong_sequences_are_refused_with_both_numbers(export: Path):
    inputs, params = some_sequences(1)
    ensemble = load_ensemble(export)
    with pytest.raises(ModelError, match="the data have 2 features of the load sequence, the model was trained with 3"):
        ensemble.predict(inputs[..., :2], params)
    with pytest.raises(ModelError, match="the data have 9 parameters, the model was trained with 8"):
        ensemble.predict(inputs, np.zeros((1, 9)))
    with pytest.raises(WindowError, match=r"7 steps are too short.*step 7; at least 8 steps"):
        ensemble.predict(inputs[:, :7], params)


def test_members_that_do_not_fit_together_are_refused(copied: layout.RunFolder):
    stats = copied.member(1).train_stats
    content = layout.read_json(stats)
    layout.write_json(stats, {**content, "label_names": [*content["label_names"][:-1], "fabric"]})
    with pytest.raises(ModelError, match=r"members/1: has the labels e, .*fabric, the ensemble .*a_t; members .*agree"):
        load_ensemble(copied.root)
    layout.write_json(stats, {**content, "input_names": ["e_x", "e_y", "s_z"]})
    with pytest.raises(ModelError, match="members/1: takes the load features s_z, which the ensemble does not have"):
        load_ensemble(copied.root)
    layout.write_json(stats, {**content, "param_names": content["param_names"][::-1]})
    with pytest.raises(ModelError, match="members/1: has the parameters e0, "):
        predict.get_pretrained_model(copied.root)
    layout.write_json(stats, content)
    copied.member(2).model(weights_only=False).unlink()
    with pytest.raises(ModelError, match=r"members/2: holds neither model-best\.keras nor"):
        load_ensemble(copied.root)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"format": 2}, "has format 2, this version reads formats up to 1; install a later version"),
        ({"members": []}, r"is broken: members: .*write it anew with `glrnn collect --ensemble`"),
        ({"members": [{"folder": 0, "weight": 0}]}, r"is broken: members\.0\.weight: "),
        ({"label_names": ["e"]}, r"is broken: content: .*intervals\.labels has e, p, .*, label_names e"),
        ({"first_step": 5}, r"members/2: predicts from step 7 on, ensemble\.json says .*from step 5 on"),
        ({"note": 1}, "is broken: note: Extra inputs"),
    ],
)
def test_a_broken_record_is_named_with_the_key_that_is_wrong(
    copied: layout.RunFolder, edit: dict[str, Any], message: str
):
    layout.write_json(copied.ensemble, {**layout.read_json(copied.ensemble), **edit})
    with pytest.raises(ModelError, match=message):
        load_ensemble(copied.root)


def test_a_record_that_is_no_json_is_named(copied: layout.RunFolder):
    copied.ensemble.write_text("{")
    with pytest.raises(ModelError, match=r"ensemble\.json: is broken"):
        load_ensemble(copied.root)


def test_a_member_takes_its_own_load_features_by_their_names():
    inputs, params = keras.Input((2, 1), name="inputs"), keras.Input((1,), name="params")
    model = keras.Model({"inputs": inputs, "params": params}, inputs[:, -1])
    stats = {"num_input_features": 1, "num_params": 1, "num_labels": 1, "input_names": ["e_z"]}
    config = {"window_size": 2, "pad_length": 2, "standardize_outputs": False}
    member = Member(model, stats, config, ["e_x", "e_z"])
    load = np.stack([np.zeros((1, 5)), np.arange(5.0)[None]], axis=2)
    np.testing.assert_array_equal(member.predict(load, np.zeros((1, 1)))[0, :, 0], np.arange(5.0))
    assert len(MIXED) == 3
