"""Figures of the posterior show the probability that their legend states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from glrnn_hpc.calibration.observation import Observation
from glrnn_hpc.calibration.posterior import Posterior
from glrnn_hpc.calibration.posterior_figures import plot_response, response_band
from glrnn_hpc.experiments.triaxial import TRIAXIAL


def test_the_band_of_responses_holds_the_wanted_part_of_the_posterior_at_each_step():
    responses = np.arange(101.0)[:, None, None] * np.array([1.0, -1.0])[None, None]  # (101, 1, 2 steps)
    posterior = Posterior(np.zeros((101, 1)), np.full(101, 1 / 101), ("a",))
    low, high = response_band(posterior, responses)
    np.testing.assert_allclose(low, [[5, -95]], atol=1)
    np.testing.assert_allclose(high, [[95, -5]], atol=1)
    only = Posterior(np.zeros((101, 1)), np.eye(101)[40], ("a",))
    np.testing.assert_array_equal(response_band(only, responses), [[[40, -40]], [[40, -40]]])


def test_the_response_to_a_load_that_reverses_is_a_loop_with_a_band_along_its_branches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    drawn: list[Figure] = []
    saving = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (drawn.append(figure), saving(figure, *a, **k)))
    load = np.array([0.0, 1, 2, 3, 2, 1, 2])
    values = np.arange(7.0)[:, None]
    observation = Observation(
        tmp_path, "e_z", load, load[:, None], ("e_z",), ("q",), values, {"q": 0.0}, {"q": 6.0}, "none", ()
    )
    response = values[2:].T
    plot_response(observation, TRIAXIAL, 2, response, np.stack([response - 1, response + 1]), tmp_path / "r.png")
    (figure,) = drawn
    (axis,) = figure.axes
    measured, predicted = axis.get_lines()
    assert list(measured.get_xdata()) == list(load)
    assert list(predicted.get_xdata()) == list(load[2:])
    parts = [band.get_paths()[0].vertices for band in axis.collections]
    assert [(part[:, 0].min(), part[:, 0].max()) for part in parts] == [(2, 3), (1, 3), (1, 2)]
    assert [(part[:, 1].min(), part[:, 1].max()) for part in parts] == [(1, 4), (2, 6), (4, 7)]
    assert len(figure.legends[0].get_texts()) == 3
