"""The baseline of prepared data: responses that it must reproduce, and data to which it does not apply."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from glrnn_hpc.baseline import fit as baseline
from glrnn_hpc.config import RunConfig
from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.preprocessor.from_file import preprocessor_of_file
from glrnn_hpc.records.baseline import BaselineFit, read_baseline, write_baseline
from tests.conftest import INPUT_KEYS

N_STEPS = 12
AXIAL = np.linspace(0, 0.11, N_STEPS)


def loads(n: int, lateral: np.ndarray | float = 0.0) -> np.ndarray:
    """Return loads (n, n_steps, 3) with one axial strain for all, and lateral strains in proportion to it."""
    axial = np.broadcast_to(AXIAL, (n, N_STEPS))
    side = axial * np.broadcast_to(lateral, (n,))[:, None]
    return np.stack([side, side, axial], axis=2)


def fitted(
    path: Path, params: np.ndarray, load: np.ndarray, labels: dict[str, np.ndarray], seconds: float = 30, **keys: Any
) -> tuple[BaselineFit, PreparedData]:
    """Write sequences of one group and fit the baseline to them."""
    write_file(
        path,
        {"0.2e6/drained": (params, load, np.stack([*labels.values()], axis=2))},
        contact_params=["E", "v"],
        inputs=INPUT_KEYS,
        outputs=list(labels),
    )
    config = RunConfig(raw_data=str(path), **{"window_size": 3, **keys})
    data = preprocessor_of_file(config.as_dict()).prepare_arrays(42)
    key = baseline.baseline_key(data.train_stats, config)
    return baseline.fit_baseline(data, config, TRIAXIAL, key, seconds), data


def parameters(n: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, 2))


def linear(params: np.ndarray) -> np.ndarray:
    return 5 + params[:, :1] * AXIAL * 30 - params[:, 1:] * np.sin(30 * AXIAL)


def deviation(data: PreparedData) -> np.ndarray:
    return np.asarray(data.train_stats["std"])


def test_a_response_that_is_linear_in_the_parameters_is_reproduced(tmp_path: Path):
    params = parameters(80)
    fit, data = fitted(
        tmp_path / "a.hdf5", params, loads(80), {"s": linear(params), "constant": np.ones((80, N_STEPS))}
    )
    assert (fit.n_train, fit.n_fitted, fit.n_test) == (56, 56, 12)
    assert fit.n_components == 2  # the response has two shapes
    assert fit.rmse["s"] < 0.02 * deviation(data)[0]
    assert fit.rmse["constant"] == pytest.approx(0, abs=1e-6)


def test_what_the_lateral_strains_alone_tell_is_learnt_from_them(tmp_path: Path):
    hidden = np.random.default_rng(1).uniform(-1, 1, 80)
    labels = {"s": hidden[:, None] * AXIAL * 10}
    fit, data = fitted(tmp_path / "a.hdf5", parameters(80), loads(80, hidden), labels)
    assert fit.rmse["s"] < 0.05 * deviation(data)[0]


def test_stresses_are_learnt_transformed_and_exact_relations_are_taken_as_they_are(tmp_path: Path):
    params = parameters(60)
    q = 0.2 * np.exp(3 * params[:, :1]) * (1 + 5 * AXIAL)
    fit, data = fitted(tmp_path / "a.hdf5", params, loads(60), {"p": 0.2 + q / 3, "q": q})
    assert fit.rmse["p"] == pytest.approx(fit.rmse["q"] / 3, rel=1e-3)
    assert fit.rmse["q"] < 0.05 * deviation(data)[1]


def test_a_label_that_cannot_be_transformed_is_learnt_as_it_is(tmp_path: Path):
    params = parameters(60)
    fit, data = fitted(tmp_path / "a.hdf5", params, loads(60), {"f0": linear(params) - 5})
    assert fit.rmse["f0"] < 0.02 * deviation(data)[0]


def test_padding_changes_only_the_steps_that_are_compared(tmp_path: Path):
    params = parameters(60)
    fit, _ = fitted(tmp_path / "a.hdf5", params, loads(60), {"s": linear(params)}, window_size=5, pad_length=3)
    assert (fit.key.first_step, fit.key.n_steps) == (2, N_STEPS)


def test_a_path_that_differs_between_sequences_is_not_for_it(tmp_path: Path):
    params, inputs = parameters(40), loads(40)
    inputs[7, 5:, 2] -= 0.01  # one test is unloaded
    with pytest.raises(baseline.NoBaseline, match="the path of e_z differs between the sequences"):
        fitted(tmp_path / "a.hdf5", params, inputs, {"s": linear(params)})


def test_load_features_without_the_one_that_the_steps_follow_are_not_for_it(tmp_path: Path):
    params = parameters(40)
    with pytest.raises(baseline.NoBaseline, match="e_z, is not among e_x"):
        fitted(tmp_path / "a.hdf5", params, loads(40, params[:, 0]), {"s": linear(params)}, inputs=["e_x"])


def test_a_handful_of_sequences_is_too_few(tmp_path: Path):
    params = parameters(12)
    with pytest.raises(baseline.NoBaseline, match="8 training sequences, and it needs at least 10"):
        fitted(tmp_path / "a.hdf5", params, loads(12), {"s": linear(params)})


def test_sequences_that_are_all_the_same_tell_it_nothing(tmp_path: Path):
    params = np.ones((40, 2))
    with pytest.raises(baseline.NoBaseline, match="neither the parameters nor the loads"):
        fitted(tmp_path / "a.hdf5", params, loads(40), {"s": linear(params)})


def test_values_that_are_not_finite_are_named(tmp_path: Path):
    params = parameters(40)
    _, data = fitted(tmp_path / "a.hdf5", params, loads(40), {"s": linear(params)})
    train = data.splits["train"]
    labels = train.labels.copy()
    labels[train.rows[0], 8] = np.nan
    data.splits["train"] = type(train)(train.inputs, labels, train.rows, train.params)
    config = RunConfig(raw_data="a.hdf5", window_size=3)
    key = baseline.baseline_key(data.train_stats, config)
    with pytest.raises(baseline.NoBaseline, match="not finite"):
        baseline.fit_baseline(data, config, TRIAXIAL, key)


def test_statistics_without_names_or_fingerprint_are_not_for_it():
    stats = {"num_input_features": 1, "num_params": 1, "num_labels": 1, "sequence_length": 5, "param_names": ["E"]}
    with pytest.raises(baseline.NoBaseline, match="do not tell fingerprint, input_names, label_names"):
        baseline.baseline_key(stats, RunConfig(raw_data="a.hdf5", window_size=3))


def test_a_recorded_baseline_is_not_that_of_the_same_sequences_with_other_responses(tmp_path: Path):
    params, record = parameters(40), tmp_path / "baseline.json"
    fit, _ = fitted(tmp_path / "a.hdf5", params, loads(40), {"s": linear(params)})
    other, _ = fitted(tmp_path / "b.hdf5", params, loads(40), {"s": linear(params) * 1.01})
    assert other.key.fingerprint == fit.key.fingerprint
    write_baseline(record, fit)
    assert read_baseline(record, fit.key) == fit
    assert read_baseline(record, other.key) is None


def test_statistics_without_the_scale_of_the_labels_are_not_for_it(tmp_path: Path):
    params = parameters(40)
    _, data = fitted(tmp_path / "a.hdf5", params, loads(40), {"s": linear(params)})
    kept = {name: value for name, value in data.train_stats.items() if name != "std"}
    with pytest.raises(baseline.NoBaseline, match="do not tell mean and deviation of the labels"):
        baseline.baseline_key(kept, RunConfig(raw_data="a.hdf5", window_size=3))


def test_many_sequences_end_in_time_on_a_subset_of_them(tmp_path: Path):
    params = parameters(5200)
    fit, data = fitted(tmp_path / "a.hdf5", params, loads(5200), {"s": linear(params)}, seconds=3)
    assert fit.n_train > baseline.MOST_FITTED
    assert fit.n_fitted <= baseline.MOST_FITTED
    assert fit.rmse["s"] < 0.05 * deviation(data)[0]
    # Each process is fitted to half of the sequences of the one before, once the time is over.
    assert fit.n_fitted < fit.n_train / 2


def test_it_is_fitted_on_one_thread_because_threads_that_wait_for_each_other_use_up_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Processor time counts the waiting, and the fit of a busy machine would be worse than that of an idle one.
    during: list[int] = []
    fit_emulator = baseline.fit_emulator

    def counted(*arguments: Any) -> Any:
        during.extend(each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas")
        return fit_emulator(*arguments)

    monkeypatch.setattr(baseline, "fit_emulator", counted)
    params = parameters(60)
    with threadpoolctl.threadpool_limits(2):
        fitted(tmp_path / "a.hdf5", params, loads(60), {"q": linear(params)})
    assert during
    assert set(during) == {1}


def test_without_scikit_learn_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.gaussian_process", None)
    params = parameters(40)
    with pytest.raises(ConfigError, match=r"pip install 'glrnn_hpc\[baseline\]'"):
        fitted(tmp_path / "a.hdf5", params, loads(40), {"s": linear(params)})
