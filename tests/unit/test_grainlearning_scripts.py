"""The scripts of GrainLearning's documentation of its RNN module, with `glrnn_hpc` in place of `grainlearning.rnn`.

They are written anew: the names and keys are the documented ones, the numbers are small. W&B forces three repairs on
them today: wandb.init() before **wandb.config, the missing import wandb, and `value:` around constants of a sweep.
"""

from __future__ import annotations

import runpy
import textwrap
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import layout, predict
from glrnn_hpc.config import dump_yaml, parse_yaml
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.search.sweep import load_sweep, trial_config

Script = Callable[..., dict[str, Any]]

CONFIG = """
my_config = {
    'raw_data': DATA,
    'pressure': 'All',
    'experiment_type': 'drained',
    'add_pressure': True,
    'add_e0': True,
    'train_frac': 0.7,
    'val_frac': 0.15,
    'window_size': 5,
    'window_step': 40,
    'patience': 25,
    'epochs': 1,
    'learning_rate': 1e-4,
    'lstm_units': 4,
    'dense_units': 4,
    'batch_size': 256,
    'standardize_outputs': True,
    'save_weights_only': True,
}
"""


@pytest.fixture
def script(tmp_path: Path, real_file: Path, monkeypatch) -> Iterator[Script]:
    """Run a script in a folder of its own, W&B offline; return what it defined."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)

    def run(text: str, **names: Any) -> dict[str, Any]:
        path = tmp_path / "my_script.py"
        path.write_text(textwrap.dedent(text))
        return runpy.run_path(str(path), {"DATA": str(real_file), **names}, run_name="__main__")

    # An agent does so before it calls a function: W&B has read the environment of an earlier run.
    wandb.teardown()
    yield run
    wandb.finish()
    wandb.teardown()


def drained_model() -> Path:
    spec = find_spec("grainlearning")
    assert spec is not None, "GrainLearning is missing: pip install .[calibration]"
    assert spec.origin is not None
    return Path(spec.origin).parent / "rnn" / "trained_models" / "rnn_triaxial_drained"


def test_my_train_with_wandb_leaves_a_model_in_the_folder_of_its_run(script: Script):
    script(
        f"""
        import glrnn_hpc.train as train_rnn
        from glrnn_hpc import preprocessor
        {textwrap.indent(CONFIG, " " * 8)}
        preprocessor_TC = preprocessor.PreprocessorTriaxialCompression(**my_config)
        history = train_rnn.train(preprocessor_TC, config=my_config)
        run_dir = preprocessor_TC.run_dir
        """
    )
    (run,) = Path("wandb").glob("offline-run-*")
    for folder in (run, run / "files"):
        _, stats, config = predict.get_pretrained_model(folder)
        assert (config["lstm_units"], config["epochs"], config["learning_rate"]) == (4, 1, 1e-4)
        assert stats["param_names"][-1] == "e0"


#: A script that trains without W&B, and one that predicts from the model that it left.
TRAIN_WITHOUT_WANDB = f"""
import glrnn_hpc.train as train_rnn
from glrnn_hpc import preprocessor
{CONFIG}
preprocessor_TC = preprocessor.PreprocessorTriaxialCompression(**my_config)
history = train_rnn.train_without_wandb(preprocessor_TC, config=my_config)
"""


def test_a_model_trained_without_wandb_predicts_the_test_split(script: Script):
    script(TRAIN_WITHOUT_WANDB)
    assert (Path("outputs") / layout.MODEL_WEIGHTS).exists()
    found = script(
        """
        from pathlib import Path

        import glrnn_hpc.predict as predict_rnn
        from glrnn_hpc import preprocessor

        path_to_trained_model = Path('outputs')
        model, train_stats, config = predict_rnn.get_pretrained_model(path_to_trained_model)
        config['raw_data'] = Path(DATA)
        preprocessor_TC = preprocessor.PreprocessorTriaxialCompression(**config)
        data, _ = preprocessor_TC.prepare_datasets()
        predictions = predict_rnn.predict_macroscopics(
            model, data['test'], train_stats, config, batch_size=256, single_batch=True)
        all_at_once = predict_rnn.predict_batch(model, data['test'], train_stats, config, batch_size=len(data['test']))
        """
    )
    n_test = len(found["data"]["test"])
    assert found["predictions"].shape == (n_test, 101 - 5, 7)
    np.testing.assert_array_equal(found["predictions"], found["all_at_once"])


def test_a_model_of_the_wheel_predicts_from_a_script(script: Script, tmp_path: Path):
    """As the tutorial on predictions does: the data are prepared without scaling, to be compared in original units."""
    from tests.unit.surrogate.test_legacy import axial_file

    found = script(
        """
        import glrnn_hpc.predict as predict_rnn
        from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression

        model, train_stats, config = predict_rnn.get_pretrained_model(MODEL)
        config_load_data = config.copy()
        config_load_data["raw_data"] = AXIAL
        config_load_data["standardize_outputs"] = False
        data, _ = PreprocessorTriaxialCompression(**config_load_data).prepare_datasets()
        predictions = predict_rnn.predict_macroscopics(
            model, data['test'], train_stats, config, batch_size=len(data['test']))
        labels = next(iter(data['test'].batch(len(data['test']))))[1][:, config['window_size']:]
        """,
        MODEL=drained_model(),
        AXIAL=axial_file(tmp_path / "axial.hdf5", n_steps=200),
    )
    assert found["predictions"].shape == found["labels"].shape == (3, 200 - 4, 7)


SWEEP_FUNCTION = """
import wandb
import glrnn_hpc.train as train_rnn
from glrnn_hpc import preprocessor


def my_training_function():
    wandb.init()
    preprocessor_TC = preprocessor.PreprocessorTriaxialCompression(**wandb.config)
    return train_rnn.train(preprocessor_TC)
"""

#: The program of a sweep from the command line, which `wandb agent` starts.
SWEEP_PROGRAM = """
import wandb
import glrnn_hpc.train as train_rnn
from glrnn_hpc import preprocessor

wandb.init()
preprocessor_TC = preprocessor.PreprocessorTriaxialCompression(**wandb.config)
history = train_rnn.train(preprocessor_TC)
"""

SWEEP_VALUES = {
    "pressure": "0.2e6",
    "experiment_type": "All",
    "add_e0": False,
    "add_pressure": True,
    "add_experiment_type": True,
    "train_frac": 0.7,
    "val_frac": 0.15,
    "window_size": 5,
    "window_step": 40,
    "pad_length": 0,
    "lstm_units": 3,
    "dense_units": 4,
    "patience": 5,
    "epochs": 2,
    "learning_rate": 1e-3,
    "batch_size": 256,
    "standardize_outputs": True,
    "save_weights_only": False,
    "use_windows": True,  # of an older version's example
}


# W&B leaves the file of an agent's values open after it has read it.
@pytest.mark.filterwarnings("ignore:unclosed file .*chosen.yaml:ResourceWarning")
@pytest.mark.parametrize("form", [SWEEP_FUNCTION, SWEEP_PROGRAM], ids=["function", "program"])
def test_what_an_agent_calls_trains_with_the_values_that_the_agent_chose(
    script: Script, form: str, tmp_path: Path, real_file: Path, monkeypatch
):
    """An agent hands the values over in a file, which wandb.init reads; it needs a server only to ask for them."""
    chosen = {"raw_data": str(real_file), **SWEEP_VALUES}
    values = {key: {"desc": None, "value": value} for key, value in chosen.items()}
    (tmp_path / "chosen.yaml").write_text(dump_yaml({"wandb_version": 1, **values}))
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "chosen.yaml"))
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    found = script(form)
    history = found["my_training_function"]() if "my_training_function" in found else found["history"]
    assert len(history.history["val_loss"]) == 2
    import wandb

    assert wandb.run is not None  # the agent or the end of the program closes it
    wandb.finish()
    (run,) = Path("wandb").glob("offline-run-*")
    model, _, config = predict.get_pretrained_model(run)
    assert model.get_layer("lstm").units == 3
    assert {key: config[key] for key in chosen if key != "use_windows"} == {
        key: value for key, value in chosen.items() if key != "use_windows"
    }


EXAMPLE_SWEEP = """
program: my_sweep_CL.py
project: grain_sequence
entity: me
method: bayes
metric:
  goal: minimize
  name: val_loss
parameters:
  raw_data: {value: data.hdf5}
  pressure: {value: 'All'}
  experiment_type: {value: 'All'}
  add_e0: {value: False}
  add_pressure: {value: False}
  add_experiment_type: {value: False}
  train_frac: {value: 0.7}
  val_frac: {value: 0.15}
  window_size: {values: [5, 10, 20, 30]}
  window_step: {value: 1}
  lstm_units: {value: 50}
  dense_units: {value: 20}
  patience: {value: 5}
  epochs: {value: 2}
  learning_rate: {values: [1e-4, 1e-3]}
  batch_size: {values: [128, 256, 512]}
  standardize_outputs: {value: True}
  save_weights_only: {value: False}
"""


@pytest.mark.parametrize("older", [{}, {"use_windows": {"value": True}, "conditional": {"values": [True]}}])
def test_a_sweep_file_of_grainlearning_is_one_of_ours(older: dict[str, Any]):
    content = parse_yaml(EXAMPLE_SWEEP, "example_sweep.yaml")
    content["parameters"].update(older)
    spec = load_sweep(content)
    assert {parameter.name for parameter in spec.searched} == {"window_size", "learning_rate", "batch_size"}
    config = trial_config(spec, {"window_size": 20, "learning_rate": 1e-4, "batch_size": 128})
    assert (config.window_size, config.learning_rate, config.lstm_units) == (20, 1e-4, 50)
    assert spec.labels["program"] == "my_sweep_CL.py"


@pytest.mark.parametrize("entry", [{"value": False}, {"values": [True, False]}])
def test_a_sweep_over_another_network_is_refused(entry: dict[str, Any]):
    content = parse_yaml(EXAMPLE_SWEEP, "example_sweep.yaml")
    content["parameters"]["conditional"] = entry
    with pytest.raises(ConfigError, match=r"parameters\.conditional: False was given; the network takes windows"):
        load_sweep(content)


CALIBRATION = """
import numpy as np
import tensorflow as tf

from grainlearning import BayesianCalibration
from grainlearning.dynamic_systems import DynamicSystem
import glrnn_hpc.predict as predict_rnn

model_rnn, train_stats, config_rnn = predict_rnn.get_pretrained_model(MODEL)
extra_contact_params = [0.2]  # the confining pressure in MPa
true_params = [9.0, 0.3, 0.5, 0.4, 30.0]


def predict_with_RNN(calib):
    system = calib.system
    load_sequence = np.moveaxis(system.ctrl_data, 0, -1)
    load_sequence = np.repeat(load_sequence[np.newaxis, :], system.num_samples, axis=0)
    contact_params = np.array([np.append(params, extra_contact_params) for params in system.param_data])
    data_inputs = ({'inputs': load_sequence, 'params': contact_params}, load_sequence)
    data_inputs = tf.data.Dataset.from_tensor_slices(data_inputs)
    predictions = predict_rnn.predict_macroscopics(
        model_rnn, data_inputs, train_stats, config_rnn, batch_size=system.num_samples)
    predictions = np.moveaxis(predictions.numpy(), 1, -1)
    system.set_sim_data(np.array(predictions))


strain = np.linspace(0, 0.3, 200).reshape(1, -1)
one = strain.T[np.newaxis]
sample = tf.data.Dataset.from_tensor_slices(({'inputs': one, 'params': [true_params + extra_contact_params]}, one))
observed = predict_rnn.predict_macroscopics(model_rnn, sample, train_stats, config_rnn).numpy()[0].T
calibration = BayesianCalibration.from_dict({
    "num_iter": 2,
    "callback": predict_with_RNN,
    "system": {
        "system_type": DynamicSystem,
        "obs_data": observed,
        "obs_names": ['e', 'p', 'q', 'f0', 'a_c', 'a_n', 'a_t'],
        "ctrl_data": strain,
        "ctrl_name": ['e_z'],
        "num_samples": 20,
        "sim_name": 'Triaxial compression with RNN',
        "param_names": ['E', 'v', 'kr', 'eta', 'mu'],
        "param_min": [7.0, 0.0, 0.0, 0.0, 1.0],
        "param_max": [10.0, 0.5, 1.0, 1.0, 60.0],
    },
    "inference": {"Bayes_filter": {"ess_target": 0.3}, "sampling": {"max_num_components": 2, "random_state": 0}},
    "initial_sampling": "halton",
    "save_fig": -1,
})
calibration.run()
most_prob_params = calibration.get_most_prob_params()
"""


def test_the_calibration_of_the_tutorial_runs_with_the_drained_model_of_the_wheel(script: Script):
    found = script(CALIBRATION, MODEL=str(drained_model()))
    assert found["calibration"].system.sim_data.shape == (20, 7, 200 - 4)
    low, high = (np.array(found["calibration"].system.__dict__[name]) for name in ("param_min", "param_max"))
    assert ((low <= found["most_prob_params"]) & (found["most_prob_params"] <= high)).all()


LSTM_TUTORIAL = """
import numpy as np

from grainlearning import BayesianCalibration
import glrnn_hpc.predict as predict_rnn
import glrnn_hpc.train as train_rnn
from glrnn_hpc import preprocessor

x_obs = np.arange(30.0)
y_obs = x_obs / (0.2 * 100 + 5.0 * x_obs)


def run_sim(calib):
    curves = [calib.system.ctrl_data / (a * 100 + b * calib.system.ctrl_data) for a, b in calib.system.param_data]
    calib.system.set_sim_data([np.array(curve, ndmin=2) for curve in curves])


calibration = BayesianCalibration.from_dict({
    "num_iter": 1,
    "callback": run_sim,
    "system": {
        "param_min": [0.1, 1],
        "param_max": [1, 10],
        "param_names": ['a', 'b'],
        "num_samples": 20,
        "obs_names": ['f'],
        "ctrl_name": 'u',
        "obs_data": y_obs,
        "ctrl_data": x_obs,
        "sim_name": 'hyperbola',
        "sigma_tol": 0.01,
    },
    "inference": {
        "Bayes_filter": {"ess_target": 0.3, "scale_cov_with_max": True},
        "sampling": {"max_num_components": 1, "n_init": 1, "random_state": 0, "slice_sampling": True},
        "initial_sampling": "halton",
    },
    "save_fig": -1,
})
calibration.run()

my_config = {
    'input_data': calibration.system.ctrl_data,
    'param_data': calibration.system.param_data,
    'output_data': calibration.system.sim_data,
    'train_frac': 0.7,
    'val_frac': 0.2,
    'window_size': 10,
    'window_step': 1,
    'patience': 25,
    'epochs': 2,
    'learning_rate': 1e-3,
    'lstm_units': 4,
    'dense_units': 4,
    'batch_size': 64,
    'standardize_outputs': True,
    'save_weights_only': True,
}
preprocessor = preprocessor.PreprocessorLSTM.from_dict(my_config)
history_simple = train_rnn.train_without_wandb(preprocessor, config=my_config)
model, train_stats, config = predict_rnn.get_pretrained_model('outputs')


def run_sim_surrogate(calib):
    data_inputs = preprocessor.prepare_input_data(calib.system.param_data)
    sim_data = predict_rnn.predict_batch(model, data_inputs, train_stats, config, batch_size=calib.system.num_samples)
    calib.system.set_sim_data(np.moveaxis(sim_data, 1, -1))


data_inputs = preprocessor.prepare_input_data(calibration.system.param_data)
predictions = predict_rnn.predict_batch(model, data_inputs, train_stats, config, batch_size=20)
predictions = np.moveaxis(predictions, 1, -1)
error = np.mean((predictions - calibration.system.sim_data) ** 2, axis=-1)
calibration.callback = run_sim_surrogate
calibration.num_iter = 2
calibration.run()
"""


def test_a_network_trained_within_a_calibration_takes_the_place_of_the_simulation(script: Script):
    found = script(LSTM_TUTORIAL)
    assert len(found["history_simple"].history["loss"]) == 2
    assert found["error"].shape == (20, 1)
    assert np.isfinite(found["error"]).all()
    assert found["calibration"].system.sim_data.shape == (20, 1, 30)
