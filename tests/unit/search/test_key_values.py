"""Values of a sweep file as the keys of the training take them, whatever their spelling."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from glrnn_hpc.config import dump_yaml, parse_yaml
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.search import samplers
from glrnn_hpc.search.sweep import load_sweep, trial_config
from tests.unit.search.test_sweep import PARAMETERS, sweep


def load(text: str = "", *, directory: str | None = None, **other: Any) -> Any:
    """Read a sweep with parameters given as YAML."""
    return load_sweep(sweep(parameters={**PARAMETERS, **(parse_yaml(text, "x") or {})}, **other), directory=directory)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ('window_size: "20"', "window_size", (20,)),
        ('window_size: {values: ["5", 6, 7.0]}', "window_size", (5, 6, 7)),
        ('{train_frac: "0.6", val_frac: "0.2"}', "train_frac", (0.6,)),
        ('pad_length: "0"', "pad_length", (0,)),
        ('standardize_outputs: "false"', "standardize_outputs", (False,)),
        ("standardize_outputs: {values: [1, 0]}", "standardize_outputs", (True, False)),
        ('ranks_per_trial: "2"', "ranks_per_trial", (2,)),
        ('learning_rate: "1e-3"', "learning_rate", (0.001,)),
        ("clipnorm: {values: [null, '0.5']}", "clipnorm", (None, 0.5)),
        ("pressure: all", "pressure", ("All",)),
        ("pressure: {values: [ALL, ['0.2e6', '0.5e6']]}", "pressure", ("All", ["0.2e6", "0.5e6"])),
        ("experiment_type: Drained", "experiment_type", ("drained",)),
        (
            "experiment_type: {values: [[Drained, UNDRAINED], all]}",
            "experiment_type",
            (["drained", "undrained"], "All"),
        ),
    ],
)
def test_values_have_the_types_of_their_keys_before_anything_else_sees_them(text: str, name: str, values: tuple):
    spec = load(text)
    (parameter,) = [each for each in spec.parameters if each.name == name]
    assert parameter.values == values
    assert [type(value) for value in parameter.values] == [type(value) for value in values]
    point = samplers.point_of(spec, 0)
    given = {**spec.constants, **point}
    used = trial_config(spec, point).model_dump()
    assert {key: used[key] for key in given} == given, "a point is what the training gets"
    assert load_sweep(parse_yaml(dump_yaml(spec.as_dict()), "x")) == spec


def test_the_text_none_may_be_meant_by_a_key_of_the_users_own_preprocessor(tmp_path: Path):
    (tmp_path / "smoothed_data.py").write_text(
        "class Own:\n    @classmethod\n    def get_default_config(cls):\n        return {'smoothing': 'None'}\n"
    )
    text = "{preprocessor: 'smoothed_data:Own', smoothing: {values: [None, mean]}}"
    spec = load(text, directory=str(tmp_path))
    assert [each.values for each in spec.searched if each.name == "smoothing"] == [("None", "mean")]


def test_keys_of_the_users_own_code_keep_the_values_as_given_or_take_their_own_types(tmp_path: Path):
    (tmp_path / "typed_networks.py").write_text(
        "def own(input_shapes, depth: int = 2, mode: str = 'a', extra=None):\n    return None\n"
    )
    text = "{network: 'typed_networks:own', depth: '3', mode: '7', extra: '8'}"
    assert load(text, directory=str(tmp_path)).constants.items() >= {"depth": 3, "mode": "7", "extra": "8"}.items()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('window_size: {values: [6, "6"]}', r"parameters.window_size.values: 6 is listed twice"),
        ("lstm_units: {values: [6, 6.0]}", r"parameters.lstm_units.values: 6 is listed twice"),
        (
            "window_size: {value: [5, 10]}",
            r"one value is needed, the list \[5, 10\] was given; for choices write window_",
        ),
        ("window_size: [5, 10]", r"parameters.window_size: one value is needed, .*window_size: \{values: \[5, 10\]\}"),
        ("clipnorm: None", "parameters.clipnorm: the text None was given, .*; write null, or leave it out"),
        ("pressure: {values: [None, All]}", r"parameters.pressure.values: the text None"),
        (
            "pressure: []",
            r"^parameters.pressure: All, a name, or a list of at least one name is needed \(\[\] was given\).$",
        ),
        ("experiment_type: []", r"^parameters.experiment_type: All, a name, or a list of at least one name is needed"),
        ("experiment_type: 5", r"parameters.experiment_type: Input should be a valid string \(5 was given\)"),
        ("window_size: '20 steps'", r"parameters.window_size: Input should be a valid integer"),
        ("learning_rate: {distribution: log_uniform, min: 16, max: 256}", r"learning_rate: .*at most 10 can be meant"),
        (
            "lstm_units: {distribution: q_log_uniform, min: 16, max: 256, q: 8}",
            "exponents of e: from 8.886e.06 to .*at most 100000 can be meant.*distribution: q_log_uniform_values",
        ),
        ("learning_rate: {min: -0.1, max: 0.1}", "parameters.learning_rate: Input should be greater than 0"),
        ("learning_rate: {min: 0, max: 1}", "parameters.learning_rate: Input should be greater than 0"),
        ("learning_rate: {distribution: q_uniform, min: 0, max: 0.1, q: 0.01}", "Input should be greater than 0"),
        ("learning_rate: {distribution: log_uniform_values, min: 0, max: 0.1}", "needs positive bounds"),
    ],
)
def test_what_a_key_cannot_take_is_named_by_its_path(text: str, message: str):
    with pytest.raises(ConfigError, match=message):
        load(text)


def test_the_keys_beside_the_parameters_are_checked_as_well():
    with pytest.raises(ConfigError, match="early_terminate: the text None was given"):
        load(early_terminate="None")
    with pytest.raises(ConfigError, match="sweep: the keys method, parameters stand inside it; .*top level"):
        load_sweep({"sweep": {"method": "grid", "parameters": {}}})
    assert load(metric={"name": "val_loss", "goal": None}).goal == "minimize"
    assert load(name="None").labels["name"] == "None"


@pytest.mark.parametrize("method", ["random", "bayes"])
@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("learning_rate: {min: 0, max: 0.1}", 0, 0.1),
        ("epsilon: {min: 0.0, max: 1}", 0, 1),
        ("clipnorm: {min: 0.0, max: 1}", 0, 1),
        ("beta_1: {min: 0.5, max: 1.0}", 0.5, 1),
        ("beta_2: {distribution: log_uniform_values, min: 0.9, max: 1}", 0.9, 1),
        ("ema_momentum: {distribution: uniform, min: 0, max: 1}", 0, 1),
    ],
)
def test_a_bound_that_is_no_value_of_the_key_is_an_open_end(method: str, text: str, low: float, high: float):
    spec = load(text, method=method)
    (parameter,) = [each for each in spec.searched if each.name == text.partition(":")[0]]
    assert dict(parameter.settings) == {"min": low, "max": high}
    for u in (0.0, 2.0**-54, 0.5, 1 - 2.0**-53, 1.0):
        trial_config(spec, {"window_size": 5, "learning_rate": 0.01, parameter.name: parameter.ppf(u)})
    trial = optuna.create_study().ask()
    drawn = samplers.suggest(trial, [parameter])[parameter.name]
    assert low <= drawn <= high
    if method == "bayes":
        bounds = trial.distributions[parameter.name]
        for bound in (bounds.low, bounds.high):
            trial_config(spec, {"window_size": 5, "learning_rate": 0.01, parameter.name: bound})


def test_closed_ends_are_drawn_up_to_the_bound():
    (parameter,) = [each for each in load("weight_decay: {min: 0.0, max: 0.1}").searched if each.name == "weight_decay"]
    assert (parameter.ppf(0.0), parameter.ppf(1.0)) == (0.0, 0.1)
    assert parameter.open_ends == (False, False)


def test_bounds_of_log_uniform_that_may_be_values_are_a_warning_that_names_the_other_distribution(caplog):
    caplog.set_level(logging.INFO)
    load("learning_rate: {distribution: log_uniform, min: 1e-4, max: 3e-2}")
    (record,) = [each for each in caplog.records if "exponents of e" in each.getMessage()]
    assert record.levelno == logging.WARNING
    assert "from 1 to 1.03; for bounds that are values take log_uniform_values" in record.getMessage()
    caplog.clear()
    load("learning_rate: {distribution: log_uniform, min: -9, max: -4}")
    (record,) = [each for each in caplog.records if "exponents of e" in each.getMessage()]
    assert record.levelno == logging.INFO


def test_a_folder_of_an_earlier_version_is_read_whatever_is_refused_today(tmp_path: Path):
    text = "lstm_units: {distribution: q_log_uniform, min: 3, max: 12, q: 8}"
    with pytest.raises(ConfigError, match="at most 100000 can be meant"):
        load(text)
    assert np.isfinite(samplers.point_of(load(text, directory=str(tmp_path)), 0)["lstm_units"])
