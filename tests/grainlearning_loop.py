"""A calibration as GrainLearning's own tutorial has it: one call of the network per window."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from grainlearning import BayesianCalibration
from grainlearning.rnn import predict as peer

RANGES = {"E": (7.0, 10.0), "v": (0.0, 0.5), "kr": (0.0, 1.0), "eta": (0.0, 1.0), "mu": (1.0, 60.0)}


@dataclass
class PeerCalibration:
    """Result of a calibration and its times."""

    most_probable: dict[str, float]
    iterations: int
    seconds: float
    predictions: list[float] = field(default_factory=list)


def calibrate(
    model: keras.Model,
    stats: dict[str, Any],
    config: dict[str, Any],
    load: np.ndarray[Any, Any],
    measured: np.ndarray[Any, Any],
    observed: list[str],
    pressure: float,
    n_samples: int,
    n_iterations: int,
    seed: int,
) -> PeerCalibration:
    """Calibrate against `measured` (n_steps, n_observed) with the prediction of GrainLearning's own module.

    Its prediction k sees the window that ends at step ``window_size - 1 + k`` and is compared with step ``window_size +
    k``: one step late. So that both compare the same, it is given the load from the second step on, and a last one,
    which it does not look at.
    """
    began = time.perf_counter()
    first = config["window_size"]
    columns = [stats["label_names"].index(name) for name in observed]
    # Its models have two inputs in a list.
    theirs = keras.Model([model.input["inputs"], model.input["params"]], model.output)
    sequence = np.concatenate([load[1:], load[-1:]]).astype("float32")
    predictions = []

    def respond(calibration: Any) -> None:
        start = time.perf_counter()
        n = len(calibration.system.param_data)
        params = np.column_stack([calibration.system.param_data, np.full(n, pressure)]).astype("float32")
        sequences = np.repeat(sequence[None], n, axis=0)
        data = tf.data.Dataset.from_tensor_slices(({"inputs": sequences, "params": params}, sequences))
        long = {**stats, "sequence_length": len(sequence)}
        response = peer.predict_batch(theirs, data, long, config, batch_size=n).numpy()
        calibration.system.set_sim_data(np.moveaxis(response, 1, -1)[:, columns])
        predictions.append(time.perf_counter() - start)

    calibration = BayesianCalibration.from_dict(
        {
            "num_iter": n_iterations,
            "callback": respond,
            "save_fig": -1,
            "system": {
                "param_names": list(RANGES),
                "param_min": [low for low, _ in RANGES.values()],
                "param_max": [high for _, high in RANGES.values()],
                "num_samples": n_samples,
                "obs_names": observed,
                "obs_data": measured[first:].T,
                "ctrl_name": "e_z",
                "ctrl_data": load.T,
            },
            "inference": {
                "Bayes_filter": {"ess_target": 0.3, "scale_cov_with_max": True},
                "sampling": {"max_num_components": 1, "random_state": seed},
            },
        }
    )
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of few distinct samples
        calibration.run()
    best = dict(zip(RANGES, calibration.get_most_prob_params().tolist(), strict=True))
    return PeerCalibration(best, len(calibration.inference.sigma_list), time.perf_counter() - began, predictions)


def with_noise(
    model: keras.Model,
    stats: dict[str, Any],
    load: np.ndarray[Any, Any],
    params: list[float],
    config: dict[str, Any],
    noise: float,
) -> np.ndarray[Any, Any]:
    """Return what the model itself answers (n_steps, n_labels), with noise; the first steps repeat the first answer."""
    sequences = load[None].astype("float32")
    windows = np.stack(
        [sequences[0, end - config["window_size"] + 1 : end + 1] for end in range(config["window_size"] - 1, len(load))]
    )
    answered = model({"inputs": windows, "params": np.repeat([params], len(windows), axis=0).astype("float32")}).numpy()
    answered = answered * np.asarray(stats["std"]) + np.asarray(stats["mean"])
    answered = np.concatenate([answered[:1].repeat(config["window_size"] - 1, axis=0), answered])
    return answered * (1 + noise * np.random.default_rng(0).standard_normal(answered.shape))
