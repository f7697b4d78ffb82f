from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc import cli
from glrnn_hpc.config import dump_yaml
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.search import sampler_kinds, samplers
from glrnn_hpc.search.sweep import build_preprocessor, load_sweep, preprocessor_of, trial_config
from tests.conftest import write_steps

PARAMETERS = {"raw_data": "a.hdf5", "window_size": {"values": [3, 5]}, "learning_rate": {"min": 1e-4, "max": 1e-2}}


def sweep(**other: Any) -> dict[str, Any]:
    base = {"method": "random", "metric": {"name": "val_loss", "goal": "minimize"}, "run_cap": 4}
    return {**base, "parameters": PARAMETERS, **other}


def with_parameter(name: str = "lstm_units", **entry: Any) -> dict[str, Any]:
    return sweep(parameters={**PARAMETERS, name: entry})


EVERYTHING = {
    "program": "train.py",
    "command": ["${env}", "python3", "${program}", "${args}"],
    "project": "sand",
    "entity": "soil",
    "name": "night",
    "description": "all that a sweep file can say",
    "method": "bayes",
    "metric": {
        "name": "val_mae",
        "goal": "minimize",
        "target": 0.01,
        "impute": "worst",
        "impute_while_running": "best",
    },
    "apiVersion": "v1",
    "kind": "sweep",
    "early_terminate": {"type": "hyperband", "max_iter": 27, "s": 2},
    "run_cap": 30,
    "seed": 0,
    "sampler": "tpe",
    "parameters": {
        "raw_data": "a.hdf5",
        "pressure": {"values": ["All", ["0.2e6", "0.5e6"]]},
        "epochs": {"value": 20},
        "network": {
            "parameters": {
                "lstm_units": {"distribution": "q_log_uniform_values", "min": 8, "max": 200, "q": 8},
                "inner": {"parameters": {"dense_units": {"values": [20, 50], "probabilities": [0.25, 0.75]}}},
            }
        },
        "learning_rate": {"distribution": "log_uniform", "min": -9, "max": -4},
        "batch_size": {"distribution": "q_uniform", "min": 32, "max": 512, "q": 32},
        "beta_1": {"distribution": "beta", "a": 9, "b": 1},
        "epsilon": {"distribution": "log_normal", "mu": -16},
        "weight_decay": {"distribution": "inv_log_uniform_values", "min": 1e-6, "max": 1e-2},
        "window_size": {"min": 5, "max": 20},
    },
}


def test_a_sweep_file_with_all_that_there_is_reads_back_as_it_was_resolved(tmp_path: Path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "everything.yaml"
    path.write_text(dump_yaml(EVERYTHING))
    spec = load_sweep(path)
    path.write_text(dump_yaml(spec.as_dict()))
    assert load_sweep(path) == spec
    assert (spec.method, spec.metric, spec.goal, spec.target, spec.impute) == (
        "bayes",
        "val_mae",
        "minimize",
        0.01,
        "worst",
    )
    assert spec.early_terminate.as_config() == {"type": "hyperband", "max_iter": 27, "s": 2, "eta": 3, "strict": False}
    assert (spec.run_cap, spec.seed, spec.labels["program"]) == (30, 0, "train.py")
    assert "program is kept for W&B and not executed" in caplog.text
    assert (
        "parameters.learning_rate: min and max of log_uniform are exponents of e: from 0.0001234 to 0.01832"
        in caplog.text
    )


def test_the_leaves_of_nested_groups_are_keys_of_the_training():
    spec = load_sweep(EVERYTHING)
    assert [parameter.name for parameter in spec.parameters][3:5] == ["lstm_units", "dense_units"]
    config = trial_config(spec, {parameter.name: parameter.ppf(0.5) for parameter in spec.searched})
    assert (config.lstm_units, config.dense_units, config.epochs, config.batch_size) == (40, 50, 20, 256)
    assert config.learning_rate == pytest.approx(2.718281828**-6.5)


def test_values_of_a_trial_override_defaults_and_reach_the_optimizer():
    spec = load_sweep(EVERYTHING)
    config = trial_config(spec, {**{p.name: p.ppf(0.5) for p in spec.searched}, "beta_1": 0.8})
    assert config.adam_arguments()["beta_1"] == 0.8
    assert config.patience == 5


def test_impute_while_running_can_be_turned_off_as_in_wandb():
    for off in (None, False, "false"):
        spec = load_sweep(sweep(metric={"name": "val_loss", "impute": off, "impute_while_running": off}))
        assert (spec.impute, spec.impute_while_running) == (None, None)


def test_random_points_depend_on_the_seed_and_the_number_of_the_trial_alone():
    spec = load_sweep(sweep())
    assert samplers.point_of(spec, 2) == samplers.point_of(load_sweep(sweep(run_cap=99)), 2)
    assert samplers.point_of(spec, 2) != samplers.point_of(load_sweep(sweep(seed=7)), 2)
    assert samplers.point_of(spec, 2) != samplers.point_of(spec, 3)
    one, two = (load_sweep(sweep(seed=seed)) for seed in (1, 2))
    assert samplers.point_of(one, 2) != samplers.point_of(two, 1), "sweeps of neighbouring seeds share no point"


def test_a_grid_has_no_more_trials_than_points_and_a_huge_one_needs_a_limit():
    axes = {"raw_data": "a", "window_size": {"values": [3, 5]}, "lstm_units": {"min": 1, "max": 3}}
    spec = load_sweep(sweep(method="grid", run_cap=None, parameters=axes))
    assert spec.n_trials() == spec.n_trials(99) == 6
    assert spec.n_trials(1) == 1
    assert [samplers.point_of(spec, index)["lstm_units"] for index in range(4)] == [1, 2, 3, 1]
    huge = {**axes, "seed": {"min": 1, "max": 10**6}}
    spec = load_sweep(sweep(method="grid", run_cap=None, parameters=huge))
    with pytest.raises(ConfigError, match="the grid has 6000000 points; give run_cap, or --trials N"):
        spec.n_trials()
    assert spec.n_trials(10) == 10


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_a_search_without_a_number_of_trials_is_refused(method: str):
    with pytest.raises(ConfigError, match=f"run_cap: {method} needs a number of trials"):
        load_sweep(sweep(run_cap=None, method=method)).n_trials()


def test_a_sampler_belongs_to_bayes_and_its_packages_must_be_there(monkeypatch):
    assert load_sweep(sweep(method="bayes"), sampler="tpe").sampler == "tpe"
    with pytest.raises(ConfigError, match="sampler: gp belongs to method: bayes; this sweep has method: random"):
        load_sweep(sweep(), sampler="gp")
    with pytest.raises(ConfigError, match="sampler: 'annealing' is not one of tpe, gp, cmaes"):
        load_sweep(sweep(method="bayes"), sampler="annealing")
    monkeypatch.setattr(sampler_kinds, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="sampler: cmaes needs cmaes: `pip install cmaes`"):
        load_sweep(sweep(method="bayes"), sampler="cmaes")


OWN = """
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression

class Own:
    @classmethod
    def get_default_config(cls):
        return {"folder": "here", "smoothing": 3}

    def __init__(self, folder, smoothing):
        self.folder, self.smoothing = folder, smoothing

class Bare:
    pass

class OfObjects:
    def get_default_config(self):
        return {}

class WithoutKeys:
    @classmethod
    def get_default_config(cls):
        return None

class Guessing(PreprocessorTriaxialCompression):
    pass
"""


def test_a_preprocessor_of_the_users_own_brings_its_keys(tmp_path: Path, monkeypatch):
    (tmp_path / "my_own_data.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    keys = {"preprocessor": "my_own_data:Own", "smoothing": {"values": [1, 5]}, "lstm_units": {"min": 4, "max": 8}}
    spec = load_sweep(sweep(parameters=keys))
    assert preprocessor_of(spec).__name__ == "Own"
    own = build_preprocessor(spec, {"smoothing": 5, "lstm_units": 7})
    assert (own.folder, own.smoothing) == ("here", 5)
    config = trial_config(spec, {"smoothing": 5, "lstm_units": 7})
    assert (config.lstm_units, config.raw_data) == (7, "Own")
    wrong = {
        "nowhere:Own": "nowhere cannot be imported",
        "my_own_data:Other": "my_own_data has no Other",
        "my_own_data:Bare": "is no class with get_default_config",
        "my_own_data:OfObjects": r"get_default_config\(\) of my_own_data:OfObjects .* make it a class method",
        "my_own_data": "module:Class is needed",
    }
    for reference, message in wrong.items():
        with pytest.raises(ConfigError, match=f"parameters.preprocessor: .*{message}"):
            load_sweep(sweep(parameters={**keys, "preprocessor": reference}))
    with pytest.raises(ConfigError, match="parameters.smothing: unknown key; did you mean smoothing"):
        load_sweep(sweep(parameters={**keys, "smothing": 3}))
    with pytest.raises(ConfigError, match="parameters.preprocessor: one class for the whole sweep"):
        load_sweep(sweep(parameters={**keys, "preprocessor": {"values": ["my_own_data:Own", "b:C"]}}))


def test_a_preprocessor_of_the_users_own_may_have_no_keys(tmp_path: Path, monkeypatch):
    """GrainLearning's base class returns None."""
    (tmp_path / "my_keyless_data.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    keys = {"preprocessor": "my_keyless_data:WithoutKeys", "lstm_units": {"values": [4, 8]}}
    spec = load_sweep(sweep(parameters=keys))
    assert type(build_preprocessor(spec, {"lstm_units": 4})).__name__ == "WithoutKeys"


def test_no_output_is_guessed_for_the_void_ratio_in_a_sweep(tmp_path: Path, monkeypatch):
    (tmp_path / "my_unnamed_data.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    with h5py.File("unnamed.hdf5", "w") as file:
        for name, shape in (("inputs", (9, 5, 2)), ("contact_params", (9, 3)), ("outputs", (9, 5, 4))):
            file[f"0.2e6/drained/{name}"] = np.ones(shape)
    keys = {"raw_data": "unnamed.hdf5", "add_e0": True, "window_size": {"values": [2, 3]}}
    spec = load_sweep(sweep(parameters={"preprocessor": "my_unnamed_data:Guessing", **keys}))
    with pytest.raises(DataError, match="add_e0 needs an output named e"):
        build_preprocessor(spec, {"window_size": 2}).prepare_arrays()


def test_keys_of_the_users_own_preprocessor_may_be_called_experiment_and_network(tmp_path: Path, monkeypatch):
    (tmp_path / "my_shear_data.py").write_text(
        "class Own:\n"
        "    @classmethod\n"
        "    def get_default_config(cls):\n"
        "        return {'experiment': 'shear', 'network': 'pores'}\n"
        "    def __init__(self, experiment, network):\n"
        "        self.names = experiment, network\n"
    )
    monkeypatch.chdir(tmp_path)
    keys = {"preprocessor": "my_shear_data:Own", "network": {"values": ["pores", "chains"]}, "experiment": "shear"}
    spec = load_sweep(sweep(parameters=keys))
    assert trial_config(spec, {"network": "chains"}).as_dict().keys().isdisjoint({"network", "experiment"})
    assert build_preprocessor(spec, {"network": "chains"}).names == ("shear", "chains")


#: What is wrong with a sweep file, and what the message must say.
WRONG: list[tuple[Any, str]] = [
    (sweep(method="bayess"), "method: 'bayess' is not one of grid, random, bayes; did you mean bayes?"),
    (sweep(method=None), "method: this key is required; one of grid, random, bayes"),
    (sweep(method=["grid"]), "method: ['grid'] is not one of"),
    (sweep(metod="random"), "metod: unknown key; did you mean method?"),
    (sweep(metric=None, method="bayes"), "metric: bayes and early_terminate need it"),
    (sweep(metric="val_loss"), "metric: a mapping with name and goal is needed, 'val_loss'"),
    (sweep(metric={"name": "val_acc"}), "metric.name: 'val_acc' is never logged; choose one of loss, mae, val_loss"),
    (sweep(metric={"goal": "minimize"}), "metric.name: None is never logged"),
    (sweep(metric={"name": "val_loss", "goal": "max"}), "metric.goal: 'max' is not one of minimize, maximize"),
    (sweep(metric={"nam": "val_loss"}), "metric.nam: unknown key; did you mean name?"),
    (sweep(metric={"name": "val_loss", "target": "low"}), "metric.target: a finite number is needed, 'low'"),
    (sweep(metric={"name": "val_loss", "target": float("inf")}), "metric.target: a finite number is needed, inf"),
    (sweep(metric={"name": "val_loss", "impute": "mean"}), "metric.impute: 'mean' is not one of best, worst, latest"),
    (sweep(run_cap=10**40), "run_cap: at most 1000000 trials are allowed, 1000000"),
    (sweep(run_cap=0), "run_cap: an integer of at least 1 is needed, 0"),
    (sweep(run_cap=2.5), "run_cap: an integer of at least 1 is needed, 2.5"),
    (sweep(run_cap=True), "run_cap: an integer of at least 1 is needed, True"),
    (sweep(seed=-1), "seed: an integer of at least 0 is needed, -1"),
    (sweep(early_terminate={"type": "hyperband", "max_iter": 27}), "early_terminate.s: max_iter needs the number"),
    (sweep(early_terminate={"type": "hyperband", "minimum": 3}), "early_terminate.minimum: unknown key; did you"),
    (
        sweep(early_terminate={"type": "hyperband", "min_iter": 3, "eta": 1}),
        "early_terminate.eta: a number from 1.1",
    ),
    (sweep(name=["a"]), "name: a text is needed, ['a']"),
    (sweep(parameters=[]), "parameters: a mapping of keys of the training configuration is needed, []"),
    (sweep(parameters={}), "parameters: a mapping of keys"),
    (sweep(parameters={"lstm_units": 3}), "parameters.raw_data: this key is required"),
    (sweep(parameters={**PARAMETERS, "raw_data": "a\0"}), "parameters.raw_data: no path of a file: embedded null"),
    (sweep(parameters={**PARAMETERS, "raw_data": "a" * 5000}), "aaa: cannot be looked for: File name too long"),
    (sweep(parameters={**PARAMETERS, "lstm_unit": 3}), "parameters.lstm_unit: unknown key; did you mean lstm_units?"),
    (sweep(parameters={**PARAMETERS, 7: 3}), "parameters.7: unknown key"),
    (with_parameter(valeus=[1]), "parameters.lstm_units.valeus: unknown key; did you mean values?"),
    (with_parameter(), "parameters.lstm_units: give value, values, min and max, or a distribution"),
    (with_parameter(min=3), "parameters.lstm_units.max: this key is required for uniform"),
    (with_parameter(distribution="q_uniform", max=3), "parameters.lstm_units.min: this key is required for q_uniform"),
    (with_parameter(min=3, max=3), "parameters.lstm_units: min=3 must be below max=3"),
    (with_parameter(min=9, max=3), "parameters.lstm_units: min=9 must be below max=3"),
    (with_parameter(min="a", max=3), "parameters.lstm_units.min: a finite number is needed, 'a'"),
    (with_parameter(min=True, max=3), "parameters.lstm_units.min: a finite number is needed, True"),
    (with_parameter(min=1, max=float("inf")), "parameters.lstm_units.max: a finite number is needed, inf"),
    (with_parameter(values=[]), "parameters.lstm_units.values: a list with at least one value is needed"),
    (with_parameter(values=5), "parameters.lstm_units.values: a list with at least one value is needed, 5"),
    (with_parameter(values=[5, 6, 5]), "parameters.lstm_units.values: 5 is listed twice"),
    (with_parameter(values=[1], min=2), "parameters.lstm_units.min: this key does not belong to categorical"),
    (with_parameter(values=[5, 6], probabilities=[0.5]), "parameters.lstm_units.probabilities: a list of 2 numbers"),
    (with_parameter(values=[5, 6], probabilities=[0.5, 0.6]), "probabilities: their sum must be 1, it is 1.1"),
    (with_parameter(values=[5, 6], probabilities=[-0.5, 1.5]), "parameters.lstm_units.probabilities: -0.5 is negative"),
    (with_parameter(values=[5, 6], probabilities=["a", 1]), "lstm_units.probabilities: a finite number is needed"),
    (with_parameter(distribution="unifrom", min=1, max=2), "'unifrom' is not one of"),
    (
        with_parameter(distribution="q_uniform", min=1, max=9, q=0),
        "parameters.lstm_units.q: q_uniform needs a positive",
    ),
    (with_parameter(distribution="q_normal", q=-1), "parameters.lstm_units.q: q_normal needs a positive q, -1"),
    (with_parameter(distribution="normal", sigma=0), "parameters.lstm_units.sigma: normal needs a positive sigma, 0"),
    (with_parameter(distribution="beta", a=0, b=1), "parameters.lstm_units.a: beta needs a positive a, 0"),
    (with_parameter(distribution="int_uniform", min=1.5, max=4), "lstm_units.min: int_uniform needs an integer, 1.5"),
    (
        with_parameter("epsilon", distribution="log_uniform_values", min=0, max=1),
        "epsilon.min: log_uniform_values needs",
    ),
    (with_parameter("epsilon", distribution="log_uniform", min=1, max=1000), "exponents of e, e^1000 is no number"),
    # What can be drawn must be allowed: every choice, every bound, and what lies between.
    (with_parameter(values=[3, 0]), "parameters.lstm_units: "),
    (with_parameter(min=4.0, max=9.0), "parameters.lstm_units: "),
    (with_parameter(distribution="q_normal", mu=20, sigma=10), "parameters.lstm_units: "),
    (with_parameter("train_frac", min=0.5, max=0.9), "leave nothing for the test split"),
    (
        with_parameter("network", parameters={"lstm_units": {"min": 4}}),
        "parameters.network.parameters.lstm_units.max: ",
    ),
    (with_parameter("network", parameters={"lstmunits": 4}), "parameters.network.parameters.lstmunits: unknown key"),
    (with_parameter("network", parameters={"window_size": 4}), "window_size is given twice"),
    (with_parameter("network", parameters={}), "parameters.network.parameters: a mapping is needed"),
    (with_parameter("network", parameters={"lstm_units": 4}, value=3), "parameters.network.value: a group has"),
    (sweep(method="grid"), "parameters.learning_rate: a grid needs a finite set, uniform is continuous"),
    ("", "a mapping of keys to values is needed, this is an empty file"),
    ("- method\n- random\n", "a mapping of keys to values is needed, this is a list"),
    ("random\n", "a mapping of keys to values is needed, this is a str"),
    ("method: random\nmethod: grid\n", "duplicate key 'method'"),
    ("parameters:\n  epochs: 3\n  epochs: 4\n", "duplicate key 'epochs'"),
    ("method:\trandom\n\tmetric: 3\n", "not valid YAML"),
    ("method: [random\n", "not valid YAML"),
    ("? [1, 2]\n: 3\n", "must be a scalar"),
    ("method: random\nparameters: &p\n  raw_data: a.hdf5\n  network: {parameters: *p}\n", "not valid YAML"),
    ("method: random\nparameters:\n  lstm_units: {values: &v [3, *v]}\n", "found unconstructable recursive node"),
    (f"method: random\ncommand: {'[' * 5000}{']' * 5000}\n", "not valid YAML: it is nested too deeply"),
    (b"\x00\xff\xfe\x80binary", "cannot be read as text"),
    ("method: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=[f"{n}-{text[:40]}" for n, (_, text) in enumerate(WRONG)])
def test_a_wrong_sweep_file_is_one_message_and_status_2_and_makes_nothing(
    given: Any, message: str, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_steps(tmp_path / "a.hdf5")
    path = tmp_path / "sweep.yaml"
    path.write_bytes(
        given if isinstance(given, bytes) else (given if isinstance(given, str) else dump_yaml(given)).encode()
    )
    monkeypatch.setattr("sys.argv", ["glrnn", "sweep", "sweep.yaml", "--out", "out", "--ranks-per-worker", "1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.hdf5", "sweep.yaml"]


def test_the_table_of_wrong_files_is_as_long_as_promised():
    assert len(WRONG) >= 40


def test_reading_a_sweep_file_loads_neither_optuna_nor_scipy_nor_tensorflow():
    program = (
        "import sys\n"
        "from glrnn_hpc.search.sweep import load_sweep\n"
        f"load_sweep({sweep(method='bayes', sampler='tpe')!r})\n"
        "print(sorted({'optuna', 'scipy', 'tensorflow'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[]\n", done.stderr
