"""Training domain of a model: what its files and its data tell of the training, and what is refused because of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.collector.training_domain import (
    TrainingDomain,
    check_unit,
    list_extrapolations,
    read_training_domain,
)
from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import ConfigError, DataError, ModelError
from glrnn_hpc.load_path import LoadPath
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from tests.conftest import DATA, INPUT_KEYS, write_steps


def domain(**other: Any) -> TrainingDomain:
    """Return the training domain of a model of three labels and two parameters."""
    known: dict[str, Any] = {"label_names": ["e", "p", "q"], "param_names": ["E", "mu"], **other}
    return TrainingDomain(Path("model"), window_size=3, n_inputs=3, n_params=2, n_labels=3, **known)


def described(data: Path, **keys: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return statistics and configuration of a training on a file."""
    config = RunConfig(raw_data=str(data), window_size=3, **keys).as_dict()
    return dict(PreprocessorTriaxialCompression(**config).prepare_arrays().train_stats), config


def test_the_error_to_expect_of_a_label_is_in_proportion_to_its_size_here():
    known = domain(mean=[0.6, 3.0, 0.0], std=[0.1, 4.0, 2.0], label_errors={"e": 0.01, "p": 0.5, "q": 0.2})
    observed = np.array([[10.0, -10.0], [1.0, 1.0]])  # twice the size of p in the training, half that of q
    np.testing.assert_allclose(known.errors_at(["p", "q"], observed), [1.0, 0.1])
    partly = domain(mean=[0.6, 3.0, 0.0], std=[0.1, 4.0, 2.0], label_errors={"p": 0.5})
    np.testing.assert_array_equal(partly.errors_at(["p", "q"], observed), [0, 0])


def test_labels_are_found_by_name_and_those_of_a_nameless_model_by_their_order():
    assert domain().label_columns(["q", "e"]) == [2, 0]
    with pytest.raises(ConfigError, match="s: the model has no such label; it has e, p, q"):
        domain().label_columns(["e", "s"])
    nameless = domain(label_names=[])
    assert nameless.label_columns(["q", "e", "p"]) == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"does not tell the names of its 3 labels; .* \(2 are named: q, e\)"):
        nameless.label_columns(["q", "e"])


def test_parameters_come_in_the_order_of_the_model_whether_sought_or_given():
    assert domain().parameter_order(["mu"], {"E": 9.0}) == ["E", "mu"]
    assert domain(param_names=[]).parameter_order(["mu"], {"E": 9.0}) == ["mu", "E"]


@pytest.mark.parametrize(
    ("names", "sought", "message"),
    [
        (["E", "mu"], ["mu", "Mu"], "Mu: the model has no such parameter; did you mean mu"),
        (["E", "mu"], ["mu", "E"], "E: is both sought and given as known; choose one of them"),
        (["E", "mu", "v"], ["mu"], "v: the model was trained with E, mu, v; of these mu, E are given"),
        ([], ["mu", "v"], r"does not tell the names of its 2 parameters; .* \(3 are named: mu, v, E\)"),
    ],
)
def test_parameters_that_are_not_those_of_the_model_are_refused(names: list[str], sought: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        domain(param_names=names).parameter_order(sought, {"E": 9.0})


def test_the_usual_range_of_a_label_is_that_of_the_training_or_four_standard_deviations():
    known = domain(label_ranges={"e": (0.5, 1.0)}, mean=[0.6, 3.0, 0.0], std=[0.1, 4.0, 2.0])
    assert known.usual_range("e") == (0.5, 1.0)
    assert known.usual_range("p") == (-13.0, 19.0)
    assert known.usual_range("s") is None
    assert domain().usual_range("p") is None


def test_values_are_in_another_unit_from_ten_times_beyond_the_training_on():
    for values in ([0.02, 0.02], [60.0, 60.0], [-60.0, 1e9, 50.0]):
        check_unit("a.dat", "p", values, (0.2, 6.0), "MPa")
    for values in ([0.019], [61.0], [-61.0, 61.0, 1.0]):
        with pytest.raises(DataError, match=r"a\.dat: p is about .* in 0\.2\.\.6 MPa: .*; p is needed in MPa"):
            check_unit("a.dat", "p", values, (0.2, 6.0), "MPa")
    check_unit("a.dat", "q", [1e-9], (0.0, 9.0), "MPa")  # a range that holds 0 has no smallest size
    check_unit("a.dat", "p", [1e9], None, "MPa")


def test_ranges_that_leave_the_training_by_more_than_rounding_are_listed():
    training = {"E": (8.0, 9.0), "mu": (15.0, 50.0)}
    ranges = {"E": (7.995, 9.005), "mu": (10.0, 50.0), "v": (0.0, 1.0)}
    assert list_extrapolations(ranges, training) == ["mu in 10..50, trained in 15..50"]


def test_ranges_and_load_steps_are_those_of_the_training_data_as_long_as_they_are_there(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")  # every value of inputs and outputs is its step number
    stats, config = described(data)
    found = read_training_domain(tmp_path, stats, config)
    assert found.input_names == list(INPUT_KEYS)
    assert found.n_steps == 12
    assert found.grid == {name: list(range(12)) for name in INPUT_KEYS}
    assert found.label_ranges == {"e": (0, 11), "p": (1000, 1011)}
    assert found.first == 3
    assert found.load_paths == dict.fromkeys(INPUT_KEYS, LoadPath(0.0, 1.0, False))
    data.unlink()
    gone = read_training_domain(tmp_path, stats, config)
    assert (gone.grid, gone.label_ranges, gone.load_paths, gone.n_steps) == ({}, {}, {}, 12)


@pytest.mark.parametrize(("pad_length", "first"), [(1, 2), (3, 0), (7, 0)])
def test_load_steps_of_a_padded_model_are_those_of_the_experiment(tmp_path: Path, pad_length: int, first: int):
    stats, config = described(write_steps(tmp_path / "a.hdf5"), pad_length=pad_length)
    found = read_training_domain(tmp_path, stats, config)
    assert (found.n_steps, found.first) == (12, first)
    assert found.grid["e_z"] == list(range(12))
    assert found.load_paths["e_z"] == LoadPath(0.0, 1.0, False)


def test_the_steps_of_loads_that_reverse_are_those_of_the_data_or_those_that_the_export_recorded(tmp_path: Path):
    stats, config = described(DATA / "cyclic.hdf5")
    found = read_training_domain(tmp_path, stats, config)
    assert found.grid == {}  # each sequence has its own path
    assert found.load_paths["e_z"] == LoadPath(0.0, 0.0012, True)
    assert found.load_paths["e_x"].step is None
    column = {"name": "e_z", "min": -0.0192, "max": 0.0792, "start": 0.0, "step": 0.0012, "reverses": True}
    lateral = {"name": "e_x", "min": -0.09, "max": 0.02}  # as an earlier version recorded it
    layout.write_json(layout.RunFolder(tmp_path).provenance, {"load_features": [lateral, column]})
    gone = read_training_domain(tmp_path, stats, {**config, "raw_data": str(tmp_path / "gone.hdf5")})
    assert gone.load_paths == {"e_z": LoadPath(0.0, 0.0012, True)}


def test_data_of_other_sequences_than_those_of_the_training_tell_nothing_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    stats, config = described(write_steps(tmp_path / "a.hdf5"))
    write_steps(tmp_path / "a.hdf5", n_samples=21)
    assert read_training_domain(tmp_path, stats, config).grid == {}
    assert "its training data are not used" in caplog.text


def test_ranges_and_errors_are_read_from_the_provenance_and_a_broken_one_is_refused(tmp_path: Path):
    data = write_steps(tmp_path / "a.hdf5")
    stats, config = described(data)
    data.unlink()
    file = layout.RunFolder(tmp_path).provenance
    errors = {"test": {"p": {"rmse": 0.5, "max": 1.0}}}
    layout.write_json(file, {"labels": [{"name": "p", "min": 2.0, "max": 3.0}, {"name": "e"}], "errors": errors})
    found = read_training_domain(tmp_path, stats, config)
    assert found.label_ranges == {"p": (2.0, 3.0)}
    assert found.label_errors == {"p": 0.5}
    file.write_text("{")
    with pytest.raises(ModelError, match=r"provenance\.json: is broken"):
        read_training_domain(tmp_path, stats, config)
