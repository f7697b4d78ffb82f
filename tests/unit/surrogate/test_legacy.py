"""Models that GrainLearning trained load here, and answer what its own network would have answered."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from glrnn_hpc import cli, predict
from glrnn_hpc.errors import ConfigError, GlrnnError, ModelError
from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.preprocessor.from_arrays import PreprocessorLSTM
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.surrogate.keras_weights import read_weights
from tests.conftest import DATA

Array = NDArray[Any]


def _trained_models() -> Path:
    spec = find_spec("grainlearning")  # not imported: that needs a display and seconds
    assert spec is not None, "GrainLearning is missing: pip install .[calibration]"
    assert spec.origin is not None
    return Path(spec.origin).parent / "rnn" / "trained_models"


def glrnn(words: list[str]) -> int:
    """Run the command in this process and return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["glrnn", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


#: What the four models of GrainLearning's wheel are: load features, parameters, window.
MODELS = {
    "rnn_triaxial_drained": (1, 6, 4),
    "rnn_triaxial_drained+e0": (1, 7, 4),
    "rnn_triaxial_undrained": (3, 6, 5),
    "rnn_triaxial_undrained+e0": (3, 7, 7),
}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm_response(weights: dict[str, tuple[Array, ...]], window: Array, params: Array) -> Array:
    """Return what the network answers to windows (n, steps, x) and params (n, c), by the LSTM's equations in float64.

    Keras' order of the gates is input, forget, candidate, output.
    """

    def dense(name: str, values: Array) -> Array:
        kernel, bias = weights[name]
        return values @ kernel + bias

    h, c = np.tanh(dense("state_h", params)), np.tanh(dense("state_c", params))
    kernel, recurrent, bias = weights["lstm"]
    for step in range(window.shape[1]):
        i, f, g, o = np.split(window[:, step] @ kernel + h @ recurrent + bias, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return dense("response", np.maximum(dense("dense", h), 0))


def stored_weights(path: Path) -> dict[str, tuple[Array, ...]]:
    """Read the weights of one of GrainLearning's files by the paths that they have there."""
    with h5py.File(path) as file:
        root = file["model_weights"] if "model_weights" in file else file

        def two(name: str) -> tuple[Array, ...]:
            return tuple(root[f"{name}/{name}/{kind}:0"][...].astype("float64") for kind in ("kernel", "bias"))

        cell = root["lstm/lstm/lstm_cell"]
        lstm = tuple(cell[f"{kind}:0"][...].astype("float64") for kind in ("kernel", "recurrent_kernel", "bias"))
        dense = {"state_h": two("state_h"), "state_c": two("state_c"), "dense": two("dense")}
        return {**dense, "response": two("dense_1"), "lstm": lstm}


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_grainlearnings_wheel_load_and_predict_what_their_weights_say(name: str):
    folder = _trained_models() / name
    n_inputs, n_params, window_size = MODELS[name]
    model, stats, config = predict.get_pretrained_model(folder)
    assert (stats["num_input_features"], stats["num_params"], config["window_size"]) == MODELS[name]

    weights = stored_weights(folder / "model-best.h5")
    for layer, stored in weights.items():
        for variable, values in zip(model.get_layer(layer).weights, stored, strict=True):
            np.testing.assert_array_equal(variable.numpy(), values.astype("float32"))

    rng = np.random.default_rng(3)
    inputs = np.cumsum(rng.uniform(0, 0.004, (3, 12, n_inputs)), axis=1)
    params = rng.uniform(
        [8, 0.1, 0, 0, 0.2, 0.2, 0.5][:n_params], [10, 0.4, 1, 1, 0.6, 1.0, 0.8][:n_params], (3, n_params)
    )
    predicted = predict.predict_sequences(model, inputs, params, stats, config)
    mean, std = np.array(stats["mean"]), np.array(stats["std"])
    for step in range(window_size, 12):
        seen = inputs[:, step - window_size + 1 : step + 1]
        expected = lstm_response(weights, seen, params)
        np.testing.assert_allclose((predicted[:, step - window_size] - mean) / std, expected, rtol=0, atol=1e-5)


def test_the_page_on_grainlearning_lists_the_models_of_the_wheel():
    page = (Path(__file__).parents[3] / "docs" / "grainlearning.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(rnn_\S+)` \| ([^|]+) \| [^|]+ \| (\d+) \|$", page, flags=re.MULTILINE)
    assert {name: (len(inputs.split(",")), int(window)) for name, inputs, window in rows} == {
        name: (n_inputs, window) for name, (n_inputs, _, window) in MODELS.items()
    }


#: The network of tests/data/grainlearning, whose layers Keras numbered 9 and 10.
SMALL = {"sequence_length": 9, "num_load_features": 1, "num_contact_params": 6, "num_labels": 5}
SCALING = {"mean": np.arange(5.0), "std": np.arange(1.0, 6.0)}
SMALL_CONFIG = {
    "raw_data": "data/sequences.hdf5",
    "experiment_type": "drained",
    "window_size": np.int64(4),
    "lstm_units": 5.0,
    "dense_units": 5,
    "learning_rate": np.float64(1e-3),
    "add_experiment_type": False,
    "use_windows": True,
    "conditional": True,
    "notes": "a key of the user's own",
}
FORMS = ("whole", "weights", "new_weights", "saved_model")


def model_of_grainlearning(folder: Path, form: str = "weights", **changes: Any) -> Path:
    """Write a folder as GrainLearning does: its model in one of the forms, statistics and configuration as pickles."""
    shutil.copytree(DATA / "grainlearning" / form, folder)
    stats = {**SMALL, **SCALING, **changes.pop("stats", {})}
    np.save(folder / "train_stats.npy", {key: value for key, value in stats.items() if value is not None})
    config = {**SMALL_CONFIG, **changes}
    np.save(folder / "config.npy", {key: value for key, value in config.items() if value is not None})
    return folder


def small_weights() -> dict[str, tuple[Array, ...]]:
    with np.load(DATA / "grainlearning" / "weights.npz") as stored:
        names = {"state_h": "state_h", "state_c": "state_c", "dense": "dense_9", "response": "dense_10"}
        weights = {ours: (stored[f"{name}/kernel:0"], stored[f"{name}/bias:0"]) for ours, name in names.items()}
        cell = [stored[f"lstm_9/lstm_cell/{kind}:0"] for kind in ("kernel", "recurrent_kernel", "bias")]
    return {**weights, "lstm": tuple(cell)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_keras_2_gives_the_weights_to_the_layers_that_had_them(tmp_path: Path, form: str, caplog):
    with caplog.at_level("INFO"):
        model, stats, config = predict.get_pretrained_model(model_of_grainlearning(tmp_path / "m", form))
    for layer, stored in small_weights().items():
        for variable, values in zip(model.get_layer(layer).weights, stored, strict=True):
            np.testing.assert_array_equal(variable.numpy(), values)
    assert "these keys mean nothing here and are ignored: notes" in caplog.text
    rng = np.random.default_rng(1)
    inputs, params = rng.normal(size=(2, 9, 1)), rng.normal(size=(2, 6))
    predicted = predict.predict_sequences(model, inputs, params, stats, config)
    expected = lstm_response(small_weights(), inputs[:, 1:5], params) * SCALING["std"] + SCALING["mean"]
    np.testing.assert_allclose(predicted[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["model-best.h5", "model.weights.h5"])
def test_files_of_keras_3_give_the_same_weights_as_the_model_that_was_saved(tmp_path: Path, name: str):
    shapes = {"num_input_features": 3, "num_params": 4, "num_labels": 5}
    model = rnn_model(shapes, window_size=4, lstm_units=5, dense_units=5)
    # Of equal shapes and different values, biases too.
    model.set_weights([np.full(values.shape, k, "float32") for k, values in enumerate(model.get_weights())])
    (model.save if name == "model-best.h5" else model.save_weights)(tmp_path / name)
    found = read_weights(tmp_path / name, 4)
    for layer, weights in found.items():
        for stored, values in zip(model.get_layer(layer).get_weights(), weights, strict=True):
            np.testing.assert_array_equal(stored, values)
    assert set(found) == {"state_h", "state_c", "lstm", "dense", "response"}


def test_config_and_statistics_are_plain_dicts_with_our_names_and_defaults(tmp_path: Path):
    _, stats, config = predict.get_pretrained_model(model_of_grainlearning(tmp_path / "m"))
    assert type(config) is dict
    assert type(stats) is dict
    assert json.loads(json.dumps([stats, config])) == [stats, config]
    assert stats == {
        **{"sequence_length": 9, "num_input_features": 1, "num_params": 6, "num_labels": 5},
        **{"mean": [0, 1, 2, 3, 4], "std": [1, 2, 3, 4, 5]},
    }
    assert (config["lstm_units"], config["val_frac"], config["pad_length"]) == (5, 0.15, 0)
    assert {"use_windows", "conditional", "notes"}.isdisjoint(config)
    config["raw_data"] = tmp_path / "mine.hdf5"
    assert PreprocessorTriaxialCompression(**config).config.raw_data == str(tmp_path / "mine.hdf5")


def test_units_that_the_configuration_leaves_out_are_those_of_the_weights(tmp_path: Path):
    folder = model_of_grainlearning(tmp_path / "m", lstm_units=None, dense_units=None)
    _, _, config = predict.get_pretrained_model(folder)
    assert (config["lstm_units"], config["dense_units"]) == (5, 5)


def test_a_model_that_was_trained_without_scaling_needs_no_mean(tmp_path: Path):
    none = {"mean": None, "std": None}
    folder = model_of_grainlearning(tmp_path / "m", standardize_outputs=False, stats=none)
    model, stats, config = predict.get_pretrained_model(folder)
    inputs, params = np.ones((1, 5, 1)), np.ones((1, 6))
    predicted = predict.predict_sequences(model, inputs, params, stats, config)
    np.testing.assert_allclose(predicted[:, 0], lstm_response(small_weights(), inputs[:, 1:], params), atol=1e-5)


def test_a_model_that_was_trained_on_arrays_in_memory_predicts_every_step(tmp_path: Path):
    """GrainLearning's PreprocessorLSTM pads by a window, which its configuration does not say."""
    arrays = {"input_data": np.zeros(5), "param_data": np.zeros((3, 6)), "output_data": np.zeros((3, 5, 5))}
    names = {"raw_data": None, "experiment_type": None, "add_experiment_type": None}
    model, stats, config = predict.get_pretrained_model(model_of_grainlearning(tmp_path / "m", **arrays, **names))
    assert config["pad_length"] == config["window_size"] == 4
    preprocessor = PreprocessorLSTM(np.linspace(0, 1, 5), np.zeros((3, 6)), np.zeros((3, 5, 5)), 0.4, 0.4, 4)
    data = preprocessor.prepare_input_data(np.ones((2, 6)))
    assert predict.predict_batch(model, data, stats, config).shape == (2, 5, 5)


def test_the_folder_of_a_wandb_run_and_its_files_are_the_same_model(tmp_path: Path):
    run = tmp_path / "wandb" / "run-20230322_083126-abc"
    files = model_of_grainlearning(run / "files", "whole")
    (files / "config.npy").unlink()
    lines = ["wandb_version: 1", "_wandb:", "  desc: null", "  value:", "    t:", "      1:", "      - 2"]
    for key, value in {"raw_data": "d.hdf5", "window_size": 4, "add_e0": True, "conditional": True}.items():
        lines += [f"{key}:", "  desc: null", f"  value: {json.dumps(value)}"]
    (files / "config.yaml").write_text("\n".join(lines) + "\n")
    for folder in (run, files):
        _, _, config = predict.get_pretrained_model(folder)
        assert (config["window_size"], config["add_e0"], config["raw_data"]) == (4, True, "d.hdf5")


AXIAL = {"inputs_drained": ["e_z"], "inputs_undrained": ["e_x", "e_y", "e_z"]}


def axial_file(path: Path, n_steps: int = 9) -> Path:
    """Write data as GrainLearning's models were trained on: axial strain alone where it is drained, all undrained."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, n_inputs in (("0.2e6/drained", 1), ("0.2e6/undrained", 3)):
            file[f"{name}/inputs"] = np.cumsum(rng.uniform(0, 0.01, (20, n_steps, n_inputs)), axis=1)
            file[f"{name}/contact_params"] = rng.uniform(0.1, 0.9, (20, 5))
            file[f"{name}/outputs"] = rng.uniform(0.5, 1.5, (20, n_steps, 7))
        file.attrs.update(AXIAL)
        file.attrs["outputs"] = ["e", "p", "q", "f0", "a_c", "a_n", "a_t"]
        file.attrs["contact_params"] = ["E", "v", "kr", "eta", "mu"]
    return path


@pytest.mark.parametrize("name", ["rnn_triaxial_drained", "rnn_triaxial_undrained+e0"])
def test_the_command_predicts_with_a_model_of_the_wheel_where_the_data_fit(tmp_path: Path, name: str, capsys):
    data, out, folder = axial_file(tmp_path / "axial.hdf5"), tmp_path / "p.hdf5", str(_trained_models() / name)
    command = ["predict", folder, str(data), "--out", str(out), "--split", "all", "--json"]
    assert glrnn(command) == 2
    assert "sequences of 9 steps, the model was trained with 200" in capsys.readouterr().err
    assert not out.exists()
    assert glrnn([*command, "--any-length"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_sequences"] == 20
    assert list(found["metrics"]) == ["e", "p", "q", "f0", "a_c", "a_n", "a_t"]
    with h5py.File(out) as file:
        (group,) = file["0.2e6"].values()
        assert group["outputs"].shape == (20, 9 - MODELS[name][2], 7)
        assert list(file.attrs["inputs"]) == AXIAL[f"inputs_{name.split('_')[2].partition('+')[0]}"]
    assert glrnn(["predict", folder, str(data), "--out", str(out)]) == 2
    assert "Its test split is not known; use --split all" in capsys.readouterr().err


def test_inspect_knows_the_names_of_inputs_that_drained_tests_have_of_their_own(tmp_path: Path, capsys):
    glrnn(["inspect", str(axial_file(tmp_path / "axial.hdf5")), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [list(group["ranges"]["inputs"]) for group in found["groups"]] == [["e_z"], ["e_x", "e_y", "e_z"]]
    assert not any("inputs is missing" in problem for problem in found["problems"])


def test_data_with_other_load_features_than_a_drained_model_has_are_refused(real_file: Path, tmp_path: Path, capsys):
    folder = _trained_models() / "rnn_triaxial_drained"
    assert glrnn(["predict", str(folder), str(real_file), "--out", str(tmp_path / "p.hdf5"), "--split", "all"]) == 2
    said = capsys.readouterr().err
    assert "trained with the input columns e_z;" in said
    assert "has e_x, e_y, e_z. `glrnn parse --inputs` chooses the columns." in said


def test_a_model_that_grainlearning_trains_today_answers_one_step_earlier_here(tmp_path: Path):
    """Its prediction k+1 is ours at k: it starts with the window that ends at step window_size - 1."""
    script = tmp_path / "train.py"
    script.write_text(
        "import numpy as np\n"
        "from grainlearning.rnn import predict, preprocessor, train\n"
        f"config = {{'raw_data': {str(axial_file(tmp_path / 'a.hdf5'))!r}, 'experiment_type': 'undrained',\n"
        "    'add_e0': True, 'window_size': 3, 'window_step': 1, 'epochs': 1, 'lstm_units': 4, 'dense_units': 4,\n"
        "    'batch_size': 64, 'standardize_outputs': True, 'save_weights_only': True}\n"
        "own = preprocessor.PreprocessorTriaxialCompression(**config)\n"
        "history = train.train_without_wandb(own, config=config)\n"
        "stats = np.load('outputs/train_stats.npy', allow_pickle=True).item()\n"
        "data = preprocessor.PreprocessorTriaxialCompression(**config).prepare_single_dataset()\n"
        "np.save('predicted.npy', predict.predict_batch(history.model, data, stats, config, batch_size=3).numpy())\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model, stats, config = predict.get_pretrained_model(tmp_path / "outputs")
    assert stats["param_names"] == ["E", "v", "kr", "eta", "mu", "pressure", "experiment_type", "e0"]
    data = PreprocessorTriaxialCompression(**config).prepare_single_dataset()
    ours = predict.predict_batch(model, data, stats, config, batch_size=3).numpy()
    theirs = np.load(tmp_path / "predicted.npy")
    np.testing.assert_allclose(ours[:, :-1] / stats["std"], theirs[:, 1:] / stats["std"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("removed", "missing"),
    [
        ("config.npy", "no config.yaml or config.yml or config.npy;"),
        ("train_stats.npy", "no train_stats.npy;"),
        ("weights.h5", "no model-best.h5 or model.weights.h5 or weights.h5 or saved_model.pb;"),
    ],
)
def test_an_incomplete_folder_says_what_was_looked_for_and_what_is_there(
    tmp_path: Path, removed: str, missing: str, steps_file: Path, capsys
):
    folder = model_of_grainlearning(tmp_path / "m")
    (folder / removed).unlink()
    assert glrnn(["predict", str(folder), str(steps_file), "--out", str(tmp_path / "p.hdf5")]) == 2
    said = capsys.readouterr().err
    assert missing in said
    assert "it has " + ", ".join(sorted({"config.npy", "train_stats.npy", "weights.h5"} - {removed})) in said


def test_an_unknown_folder_names_both_kinds_of_models(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelError, match=r"model-best\.keras .* or of a model of GrainLearning .*; it has notes\.txt"):
        predict.get_pretrained_model(tmp_path)


def _edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the description of the network in a whole model."""
    with h5py.File(folder / "model-best.h5", "a") as file:
        network = json.loads(file.attrs["model_config"])
        change({layer["config"]["name"]: layer for layer in network["config"]["layers"]})
        file.attrs["model_config"] = json.dumps(network)
    return folder


def test_a_whole_model_that_computes_something_else_is_refused(tmp_path: Path):
    def swap(layers: dict[str, Any]) -> None:
        (inbound,) = layers["lstm_9"]["inbound_nodes"]
        inbound[1], inbound[2] = inbound[2], inbound[1]

    wrong: list[tuple[Callable[[dict[str, Any]], None], str]] = [
        (lambda layers: layers["lstm_9"]["config"].update(time_major=True), "lstm_9 has time_major=True"),
        (lambda layers: layers["dense_9"]["config"].update(activation="tanh"), "dense_9 has activation='tanh'"),
        (lambda layers: layers["inputs"]["config"].update(batch_input_shape=[None, 7, 1]), "inputs takes 7 steps"),
        (swap, "the LSTM starts from state_c, state_h, not from state_h, state_c"),
    ]
    for number, (change, message) in enumerate(wrong):
        folder = _edited(model_of_grainlearning(tmp_path / str(number), "whole"), change)
        with pytest.raises(ModelError, match=message):
            predict.get_pretrained_model(folder)


def test_files_that_do_not_fit_together_are_refused_with_what_was_found(tmp_path: Path):
    cases: list[tuple[dict[str, Any], type[GlrnnError], str]] = [
        (
            {"lstm_units": 6},
            ModelError,
            r"state_h have the shapes \[\(6, 5\), \(5,\)\], but config.npy and train_stats",
        ),
        ({"stats": {"num_labels": 4}}, ModelError, "mean of 4 labels is needed"),
        ({"stats": {"num_contact_params": 7}}, ModelError, r"describe \[\(7, 5\), \(5,\)\]"),
        ({"stats": {"num_load_features": None}}, ModelError, "num_input_features must be a whole number from 1"),
        ({"stats": {"std": None}}, ModelError, "std of 5 labels is needed"),
        ({"stats": {"std": np.full(5, np.nan)}}, ModelError, r"std must be finite numbers, it is \[nan"),
        ({"stats": {"mean": list("abcde")}}, ModelError, "mean must be finite numbers"),
        ({"conditional": False}, ConfigError, "conditional: False was given; the network takes windows and starts"),
        ({"window_size": "four"}, ConfigError, "window_size: Input should be a valid integer"),
    ]
    for number, (change, error, message) in enumerate(cases):
        with pytest.raises(error, match=message):
            predict.get_pretrained_model(model_of_grainlearning(tmp_path / str(number), **change))


def test_broken_files_are_named(tmp_path: Path):
    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def without_state(path: Path) -> None:
        with h5py.File(path, "a") as file:
            file.attrs["layer_names"] = [name for name in file.attrs["layer_names"] if name != "state_c"]

    def not_finite(path: Path) -> None:
        with h5py.File(path, "a") as file:
            file["dense_9/dense_9/bias:0"][0] = np.nan

    def one_weight_less(path: Path) -> None:
        with h5py.File(path, "a") as file:
            file["dense_9"].attrs["weight_names"] = ["dense_9/kernel:0"]

    def no_layers(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["a"] = 1

    wrong: list[tuple[str, str, Callable[[Path], None], str]] = [
        ("weights", "weights.h5", cut, "weights.h5: the weights cannot be read"),
        ("weights", "weights.h5", without_state, "another network .* it has state_h, lstm_9, dense_9, dense_10"),
        ("weights", "weights.h5", not_finite, "weights of dense_9 are not finite"),
        ("weights", "weights.h5", one_weight_less, "dense_9 has the weights kernel; kernel, bias are"),
        ("weights", "weights.h5", no_layers, "no file of weights of Keras; it holds a"),
        ("saved_model", "variables/variables.index", Path.unlink, "variables.index, which is missing"),
        ("saved_model", "variables/variables.index", cut, "saved_model.pb: the weights cannot be read"),
        ("weights", "train_stats.npy", cut, "train_stats.npy: cannot be read"),
        ("weights", "config.npy", lambda path: np.save(path, np.arange(3)), "a mapping is needed, .* a ndarray"),
    ]
    for number, (form, name, damage, message) in enumerate(wrong):
        folder = model_of_grainlearning(tmp_path / str(number), form)
        damage(folder / name)
        with pytest.raises(ModelError, match=message):
            predict.get_pretrained_model(folder)


class _Payload:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("name", ["config.npy", "train_stats.npy"])
def test_a_pickle_that_would_run_something_is_refused(tmp_path: Path, name: str):
    folder = model_of_grainlearning(tmp_path / "m")
    np.save(folder / name, {"mean": _Payload(tmp_path / "ran")})
    with pytest.raises(ModelError, match=rf"{name}: cannot be read: .*system, which is not allowed"):
        predict.get_pretrained_model(folder)
    assert not (tmp_path / "ran").exists()
