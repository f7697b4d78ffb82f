"""A small model and an observation that it made itself, for the tests of the calibration."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import cli, layout, predict
from glrnn_hpc.config import RunConfig
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.records.error_covariance import write_error_covariance
from glrnn_hpc.surrogate import artifact
from glrnn_hpc.surrogate.error_covariance import fit_error_covariance
from glrnn_hpc.surrogate.intervals import LabelSpace
from tests.conftest import DATA

WHEEL = Path(str(files("grainlearning"))) / "rnn" / "trained_models" / "rnn_triaxial_drained"
RANGES = {"E": (8.0, 9.5), "v": (0.05, 0.45), "kr": (0.0, 1.0), "eta": (0.0, 1.0), "mu": (15.0, 50.0)}
LABELS = ["e", "p", "q", "f0", "a_c", "a_n", "a_t"]
FEW = {"n_samples": 20, "n_iterations": 2}
SOUGHT = [word for name, (low, high) in RANGES.items() for word in ("--param", f"{name}={low}:{high}")]
KNOWN = ["--known", "pressure=0.2", "--experiment-type", "drained"]

#: Runs `glrnn calibrate` with arguments; returns status, stdout and stderr.
Run = Callable[..., tuple[int, str, str]]


def write_model(folder: Path, **keys: Any) -> layout.RunFolder:
    """Write a model with the initial weights of a training on the real data."""
    small = {"window_size": 5, "lstm_units": 4, "dense_units": 4, "add_e0": True, "standardize_inputs": True}
    config = RunConfig(**{"raw_data": str(DATA / "triaxial.hdf5"), **small, **keys})
    stats = PreprocessorTriaxialCompression(**config.as_dict()).prepare_arrays().train_stats
    folder.mkdir()
    run = layout.RunFolder(folder)
    artifact.save_description(run, config, stats)
    artifact.save_model(rnn_model(stats, **config.as_dict()), run.model(weights_only=True))
    return run


def simulation(run: Path, sample: int = 0) -> tuple[Any, Any, Any]:
    """Return a load, parameters, and the response of the model from the first step on that it predicts."""
    model, stats, config = predict.get_pretrained_model(run)
    inputs, params, _ = PreprocessorTriaxialCompression(**config).all_sequences().arrays()
    response = predict.predict_sequences(model, inputs[[sample]], params[[sample]], stats, config)[0]
    return inputs[sample].astype("float64"), params[sample].astype("float64"), response.astype("float64")


def write_table(path: Path, load: Any, values: Any, names: list[str] = LABELS) -> Path:
    values = np.concatenate([values[:1].repeat(len(load) - len(values), axis=0), values])
    np.savetxt(path, np.column_stack([load, values]), header=" ".join(["e_x", "e_y", "e_z", *names]))
    return path


def write_errors(run: layout.RunFolder, size: float, n: int = 40) -> None:
    """Write the covariance of a model whose errors are common to all steps, `size` in transformed units."""
    model, stats, config = predict.get_pretrained_model(run.root)
    inputs, params, _ = PreprocessorTriaxialCompression(**config).all_sequences().arrays()
    chosen = np.linspace(0, len(inputs) - 1, n).astype(int)
    predicted = predict.predict_sequences(model, inputs[chosen], params[chosen], stats, config).astype("float64")
    space = LabelSpace(tuple(LABELS), tuple(stats["param_names"]), tuple(TRIAXIAL.label_transforms()))
    shifted = space.forward(predicted, params[chosen])
    shifted += size * np.random.default_rng(0).standard_normal((n, 1, len(LABELS)))
    simulated = space.inverse(shifted, params[chosen])
    covariance = fit_error_covariance(space, config["window_size"], predicted, simulated, params[chosen])
    assert covariance is not None
    write_error_covariance(run.error_covariance, covariance.as_record())


def truth_of(model_dir: Path, *sought: str) -> dict[str, float]:
    """Return the parameters with which the observation was made, without those that are sought."""
    _, params, _ = simulation(model_dir)
    names = predict.get_pretrained_model(model_dir)[1]["param_names"]
    return {name: value for name, value in zip(names, params.tolist(), strict=True) if name not in sought}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "model").root


@pytest.fixture(scope="module")
def table(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an observation that the model itself made."""
    load, _, response = simulation(model_dir)
    return write_table(tmp_path_factory.mktemp("tables") / "observation.dat", load, response)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model_dir: Path, table: Path
) -> Iterator[Run]:
    """Run `glrnn calibrate` in this process; return status, stdout and stderr."""

    def call(*arguments: object, model: Path = model_dir, observation: Path = table) -> tuple[int, str, str]:
        words = ["glrnn", "calibrate", model, observation, "--samples", 20, "--iterations", 2, *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    yield call
    for name in ("absl", "tensorflow", "h5py"):
        logging.getLogger(name).setLevel(logging.NOTSET)
