"""Configuration of a single training: that of the preprocessor and the keys of the training must agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from glrnn_hpc import train
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression
from glrnn_hpc.training_configuration import flat_keys, known_keys


@pytest.fixture
def preprocessor(tiny: Callable[..., dict[str, Any]]) -> PreprocessorTriaxialCompression:
    return PreprocessorTriaxialCompression(**tiny())


def test_the_default_experiment_may_be_named_and_is_no_key_otherwise(preprocessor: PreprocessorTriaxialCompression):
    assert train.full_config(preprocessor, {"experiment": "triaxial"}).experiment == "triaxial"
    assert "experiment" not in train.full_config(preprocessor, {}).as_dict()
    assert "experiment" not in preprocessor.get_default_config()


def test_an_experiment_that_is_unknown_or_another_than_that_of_the_preprocessor_is_refused(
    preprocessor: PreprocessorTriaxialCompression,
):
    with pytest.raises(ConfigError, match="config.experiment: there is no experiment 'triaxal'; did you mean triaxial"):
        train.full_config(preprocessor, {"experiment": "triaxal"})
    with pytest.raises(ConfigError, match="config.experiment: 'arrays' was given, but .* was made with 'triaxial'"):
        train.full_config(preprocessor, {"experiment": "arrays"})


@pytest.mark.parametrize("name", ["experiment", "network", "data"])
def test_keys_in_a_group_of_a_run_are_found_whatever_the_group_is_called(
    preprocessor: PreprocessorTriaxialCompression, name: str
):
    known = known_keys(preprocessor, {})
    assert flat_keys({name: {"window_size": 5}, "epochs": 3}, known) == {"window_size": 5, "epochs": 3}
