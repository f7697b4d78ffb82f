"""The covariance of a surrogate's error is that of its residuals, block by block, and survives being written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import ModelError
from glrnn_hpc.experiments.labels import LabelTransform
from glrnn_hpc.records.error_covariance import read_error_covariance, write_error_covariance
from glrnn_hpc.surrogate.error_covariance import (
    ErrorCovariance,
    block_edges,
    block_means,
    covariance_of_record,
    fit_error_covariance,
    noise_variances,
)
from glrnn_hpc.surrogate.intervals import LabelSpace

N_STEPS, FIRST = 60, 4
SPACE = LabelSpace(("p", "a"), ("mu", "pressure"), (LabelTransform("p", "log", "pressure"),))


def sequences(n: int = 4000) -> tuple[Any, Any, Any]:
    """Return predictions, truth and parameters; log p errs by 0.1 in the whole sequence, a by -0.5 of that and 0.02."""
    rng = np.random.default_rng(0)
    params = np.column_stack([rng.uniform(15, 50, n), rng.choice([0.2, 1.0], n)])
    slope = np.linspace(1, 2, N_STEPS)
    truth = np.stack([params[:, 1:] * slope, np.tile(slope, (n, 1))], axis=-1)
    common = 0.1 * rng.standard_normal((n, 1))
    errors = np.stack([np.tile(common, (1, N_STEPS)), np.tile(-0.5 * common, (1, N_STEPS))], axis=-1)
    errors[..., 1] += 0.02 * rng.standard_normal((n, 1))
    predicted = np.stack([truth[..., 0] * np.exp(-errors[..., 0]), truth[..., 1] - errors[..., 1]], axis=-1)
    return predicted, truth, params


def fitted(**keys: Any) -> ErrorCovariance:
    predicted, truth, params = sequences()
    covariance = fit_error_covariance(SPACE, FIRST, predicted, truth, params, **keys)
    assert covariance is not None
    return covariance


def test_predictions_that_are_not_finite_have_no_covariance():
    predicted, truth, params = sequences(20)
    assert fit_error_covariance(SPACE, FIRST, predicted, truth, params) is not None
    predicted[3, 5, 1] = np.inf
    assert fit_error_covariance(SPACE, FIRST, predicted, truth, params) is None


def test_it_is_that_of_the_residuals_in_transformed_units_and_independent_errors():
    errors = fitted().at(["p", "a"], FIRST + N_STEPS, None)
    assert errors is not None
    n_blocks = len(errors.edges) - 1
    covariance = errors.covariance.reshape(n_blocks, 2, n_blocks, 2)
    variance_of_a = 0.25 * 0.01 + 0.02**2
    np.testing.assert_allclose(covariance[0, 0, 5, 0], 0.01, rtol=0.1)
    np.testing.assert_allclose(covariance[0, 0, 5, 1], -0.5 * 0.01, rtol=0.1)
    np.testing.assert_allclose(covariance[1, 1, 7, 1], variance_of_a, rtol=0.1)
    # As much again as independent error.
    np.testing.assert_allclose(covariance[3, 0, 3, 0], 2 * 0.01, rtol=0.1)
    np.testing.assert_allclose(covariance[3, 1, 3, 1], 2 * variance_of_a, rtol=0.1)
    assert np.linalg.eigvalsh(errors.covariance).min() > 0


def test_labels_are_chosen_and_blocks_beyond_the_end_of_an_observation_are_left_out():
    covariance = fitted()
    whole, part = covariance.at(["a", "p"], FIRST + N_STEPS, None), covariance.at(["a"], FIRST + 20, None)
    assert whole is not None
    assert part is not None
    assert part.edges[-1] <= FIRST + 20 < whole.edges[len(part.edges)]
    n = len(part.edges) - 1
    np.testing.assert_array_equal(part.covariance, whole.covariance[::2, ::2][:n, :n])
    assert covariance.at(["p"], FIRST, None) is None


def test_types_have_errors_of_their_own_and_an_unknown_type_the_mean():
    predicted, truth, params = sequences()
    codes = np.tile([0.0, 1.0], len(truth) // 2)
    predicted[codes == 1.0] = truth[codes == 1.0]  # met exactly
    covariance = fit_error_covariance(SPACE, FIRST, predicted, truth, params, codes)
    assert covariance is not None
    variances = {}
    for code in (0.0, 1.0, None):
        errors = covariance.at(["p"], FIRST + N_STEPS, code)
        assert errors is not None
        variances[code] = errors.covariance[0, 0]
    # Half of the weight is that of all sequences: few sequences of one type tell little.
    assert variances[0.0] == pytest.approx(3 * variances[1.0], rel=1e-6)
    assert variances[None] == pytest.approx((variances[0.0] + variances[1.0]) / 2, rel=1e-6)
    assert covariance.counts == {0.0: 2000, 1.0: 2000}


def test_it_reads_what_it_wrote(tmp_path: Path):
    covariance = fitted(type_codes=np.tile([0.0, 1.0], 2000))
    path = layout.RunFolder(tmp_path).error_covariance
    write_error_covariance(path, covariance.as_record())
    record = read_error_covariance(path)
    assert record is not None
    again = covariance_of_record(record, ["mu", "pressure"])
    assert again.space == SPACE
    assert again.counts == covariance.counts
    np.testing.assert_array_equal(again.edges, covariance.edges)
    for code, values in covariance.covariances.items():
        np.testing.assert_allclose(again.covariances[code], values, rtol=2e-3, atol=1e-8)
    assert path.stat().st_size < 20_000


def test_few_sequences_tell_none_and_a_stress_of_zero_is_no_logarithm():
    predicted, truth, params = sequences(9)
    assert fit_error_covariance(SPACE, FIRST, predicted, truth, params) is None
    predicted, truth, params = sequences(40)
    truth[0, 3, 0] = predicted[1, 2, 0] = 0.0
    covariance = fit_error_covariance(SPACE, FIRST, predicted, truth, params)
    assert covariance is not None
    assert all(np.isfinite(values).all() for values in covariance.covariances.values())


def test_blocks_cover_all_steps_once_and_are_short_at_the_beginning():
    for n_steps in (1, 2, 5, 20, 91, 500):
        edges = block_edges(n_steps)
        assert (edges[0], edges[-1]) == (0, n_steps)
        assert (np.diff(edges) >= 1).all()
    assert np.diff(block_edges(91))[0] == 1
    curve = np.arange(12.0)[None, :, None]
    np.testing.assert_array_equal(block_means(curve, np.array([0, 1, 4, 12]))[0, :, 0], [0.0, 2.0, 7.5])


def test_noise_is_told_from_a_smooth_curve():
    noise = 0.01 * np.random.default_rng(0).standard_normal((50, 400, 1))
    smooth = np.sqrt(np.linspace(0, 1, 400))[:, None]
    assert np.sqrt(noise_variances(noise + smooth).mean()) == pytest.approx(0.01, rel=0.05)
    assert noise_variances(smooth)[0] < 1e-9
    assert noise_variances(np.ones((2, 1)))[0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"has format 2, this version reads formats up to 1; install a later version"),
        ({"lows": [0.0]}, "lows and noise need 2 values, one for each label"),
        ({"edges": [4, 4, 64]}, "edges must increase"),
        ({"groups": []}, "is broken: groups"),
        ({"groups": [{"n_sequences": 5, "deviations": [1.0], "correlations": []}]}, r"a group needs \d+ deviations"),
    ],
)
def test_a_broken_file_is_refused_by_its_name(tmp_path: Path, change: dict[str, Any], message: str):
    path = tmp_path / "error_covariance.json"
    write_error_covariance(path, fitted().as_record())
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message) as refused:
        read_error_covariance(path)
    assert str(path) in str(refused.value)


def test_a_folder_without_the_file_has_none(tmp_path: Path):
    assert read_error_covariance(tmp_path / "error_covariance.json") is None
