"""An export tells the covariance of the errors that it makes on its validation split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import layout, predict
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.preprocessor.from_file import preprocessor_of_model
from glrnn_hpc.preprocessor.splits import split_ids
from glrnn_hpc.records.error_covariance import read_error_covariance
from glrnn_hpc.surrogate.error_covariance import block_means, covariance_of_record
from tests.conftest import INPUT_KEYS
from tests.sweep.test_collect import spec_of, swept, write_data

N_SAMPLES, N_STEPS = 70, 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> layout.SweepFolder:
    """Run a sweep on drained sequences of two labels, of which ten and more are for validation."""
    root, rng = tmp_path_factory.mktemp("errors"), np.random.default_rng(0)
    params = rng.random((N_SAMPLES, 2))
    inputs = np.cumsum(rng.random((N_SAMPLES, N_STEPS, 3)), axis=1)
    labels = np.stack([inputs[..., 2] * params[:, :1], inputs[..., 0] + 100], axis=2)
    names = {"contact_params": ["E", "v"], "inputs": INPUT_KEYS, "outputs": ["a_c", "p"]}
    write_file(root / "a.hdf5", {"0.2e6/drained": (params, inputs, labels)}, **names)
    keys = {"add_pressure": True, "learning_rate": 1e-2, "window_size": {"values": [3, 5]}}
    return swept(root / "sweep", spec_of(root / "a.hdf5", **keys))


@pytest.mark.parametrize("ensemble", [None, 2])
def test_it_is_that_of_the_exported_model(whole: layout.SweepFolder, ensemble: int | None):
    collect(whole.root, ensemble=ensemble)
    record = read_error_covariance(whole.best.error_covariance)
    assert record is not None
    model, stats, config = predict.get_pretrained_model(whole.best.root)
    errors = errors_of(model, stats, config)
    assert record.edges[0] == config["window_size"]
    assert record.edges[-1] == N_STEPS
    (group,) = record.groups
    assert group.n_sequences == len(errors) >= 10
    means = block_means(errors, np.array(record.edges) - record.edges[0])
    found = covariance_of_record(record, stats["param_names"]).at(["a_c", "p"], N_STEPS, None)
    assert found is not None
    flat = means.reshape(len(means), -1)
    expected = flat.T @ flat / len(flat)
    np.testing.assert_allclose(
        found.covariance, expected + np.diag(np.diag(expected)), rtol=2e-3, atol=2e-5 * expected.max()
    )


def errors_of(model: Any, stats: Any, config: Any) -> Any:
    """Return the errors on the validation split: of a_c as it is, of the logarithm of p over the pressure."""
    sequences = preprocessor_of_model(config).all_sequences()
    ids = split_ids(len(sequences), config["train_frac"], config["val_frac"], stats["split_seed"])["val"]
    inputs, params, labels = sequences.take(ids).arrays()
    predicted = predict.predict_sequences(model, inputs, params, stats, config)
    simulated = np.asarray(labels, "float64")[:, config["window_size"] :]
    logarithms = np.log(simulated[..., 1]) - np.log(np.asarray(predicted[..., 1], "float64"))
    return np.stack([simulated[..., 0] - predicted[..., 0], logarithms], axis=-1)


def test_too_few_validation_sequences_tell_nothing(tmp_path: Path):
    data = write_data(tmp_path / "a.hdf5")
    sweep = swept(tmp_path / "sweep", spec_of(data, learning_rate=1e-3))
    collect(sweep.root)
    assert not sweep.best.error_covariance.exists()
