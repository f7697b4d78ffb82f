"""A surrogate takes the place of the DEM code in GrainLearning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grainlearning import DynamicSystem

from glrnn_hpc import predict
from glrnn_hpc.calibration.calibrate import calibrate, surrogate_callback
from glrnn_hpc.calibration.surrogate import Surrogate
from glrnn_hpc.errors import ConfigError, DataError, ModelError
from glrnn_hpc.surrogate import artifact
from tests.unit.calibration.conftest import FEW, LABELS, RANGES, simulation, truth_of, write_model


def test_a_network_that_keras_must_run_answers_the_same(model_dir: Path, tmp_path: Path, monkeypatch):
    from glrnn_hpc.calibration import surrogate
    from glrnn_hpc.surrogate import one_load

    fast = surrogate.Surrogate(model_dir)
    monkeypatch.setattr(one_load, "one_load_kernel", lambda model, window_size: None)
    slow = surrogate.Surrogate(model_dir)
    load, params, _ = simulation(model_dir)
    several = np.stack([params, params * 1.01])
    np.testing.assert_allclose(fast.respond(load, several), slow.respond(load, several), rtol=1e-5, atol=1e-4)


def test_the_callback_takes_a_system_too_and_asks_for_the_whole_load(model_dir: Path):
    load, params, response = simulation(model_dir)
    extra = dict(zip(("pressure", "experiment_type", "e0"), params[5:], strict=True))

    def system(obs: Any, ctrl: Any) -> DynamicSystem:
        return DynamicSystem(
            obs.T,
            1,
            [8, 0, 0, 0, 15],
            [9, 1, 1, 1, 50],
            ctrl,
            LABELS,
            param_names=list(RANGES),
            param_data=params[None, :5],
        )

    whole = system(response, load.T)
    surrogate_callback(model_dir, extra)(whole)
    np.testing.assert_allclose(whole.sim_data[0], response.T, rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match=r"ctrl_data has 96 steps and obs_data 96|ctrl_data has 90 steps"):
        surrogate_callback(model_dir, extra)(system(response, load[:90].T))
    with pytest.raises(DataError, match=r"needs 3 load features, time last: \(3, n_steps\)"):
        surrogate_callback(model_dir, extra)(system(response, load))
    with pytest.raises(DataError, match="no ctrl_data"):
        surrogate_callback(model_dir, extra)(system(response, None))
    with pytest.raises(ConfigError, match="pressure, experiment_type, e0: the model was trained with"):
        surrogate_callback(model_dir)(system(response, load.T))


def test_a_model_that_gives_nan_is_refused(table: Path, tmp_path: Path):
    broken = write_model(tmp_path / "broken")
    model, stats, config = predict.get_pretrained_model(broken.root)
    model.set_weights([value * np.nan for value in model.get_weights()])
    artifact.save_model(model, broken.model(weights_only=True))
    with pytest.raises(ModelError, match="values that are not finite"):
        calibrate(broken.root, table, {"mu": (15, 50)}, known=truth_of(broken.root, "mu"), **FEW)


def test_padding_beyond_a_window_is_not_answered(tmp_path: Path):
    """The responses begin at the first step of the load, whatever was repeated in front of it."""
    padded = write_model(tmp_path / "padded", pad_length=8).root
    load, params, response = simulation(padded)
    answered = Surrogate(padded).respond(load[8:], params[None])
    np.testing.assert_allclose(answered[0], response[8 - 5 :], rtol=1e-5, atol=1e-4)
