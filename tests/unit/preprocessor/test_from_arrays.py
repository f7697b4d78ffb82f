"""Arrays in memory are trained as the configuration says, and the saved one says how they were."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import train
from glrnn_hpc.config import load_yaml
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.preprocessor.from_arrays import PreprocessorLSTM

KEYS: dict[str, Any] = {"train_frac": 0.5, "val_frac": 0.25, "window_size": 2}
SMALL: dict[str, Any] = {**KEYS, "lstm_units": 3, "dense_units": 3, "epochs": 1, "batch_size": 16}


def _arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "input_data": np.linspace(0, 1, 6),
        "param_data": 100 + rng.random((8, 2)),
        "output_data": rng.random((8, 1, 6)),
    }


def _made(**keys: Any) -> PreprocessorLSTM:
    return PreprocessorLSTM(**_arrays(), **KEYS, **keys)


def test_inputs_are_standardized_where_either_mapping_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scaled = {**SMALL, "standardize_inputs": True}
    losses = {}
    for name, preprocessor, config in (
        ("raw", _made(), SMALL),
        ("training", _made(), scaled),
        ("preprocessor", _made(standardize_inputs=True), SMALL),
        ("mapping", PreprocessorLSTM.from_dict({**_arrays(), **scaled}), scaled),
    ):
        losses[name] = train.train_without_wandb(preprocessor, config).history["loss"]
        assert load_yaml(Path("outputs/config.yaml"))["standardize_inputs"] is (name != "raw")
    assert losses["training"] == losses["preprocessor"] == losses["mapping"]
    assert losses["training"] != losses["raw"]


def test_what_is_said_twice_must_agree() -> None:
    message = "config.standardize_inputs: True was given, but the preprocessor was made with False"
    with pytest.raises(ConfigError, match=message):
        train.full_config(_made(standardize_inputs=False), {**SMALL, "standardize_inputs": True})


def test_a_key_that_arrays_in_memory_do_not_have_is_said_to_be_unused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        config = train.full_config(_made(), {**SMALL, "raw_data": "a.hdf5", "add_e0": True})
    assert config.add_e0 is False
    assert [record.getMessage() for record in caplog.records] == [
        "config.add_e0: True is not used; PreprocessorLSTM has its own value, False"
    ]
