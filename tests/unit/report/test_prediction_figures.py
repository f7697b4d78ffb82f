"""Predicted against simulated responses, and the errors of each label."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.report import error_bands, plot_style, prediction_figures
from tests.unit.report.sample_trials import assert_apart, boxes


def predictions(path: Path, n_groups: int = 1, n_samples: int = 21, label: str = "p") -> Path:
    """Write predictions that are 2 everywhere; simulation k is k, so that its error is k - 2; twice k in `own`."""
    inputs = np.linspace(0, 1, 5)[None, :, None].repeat(n_samples, axis=0)
    simulated = np.arange(float(n_samples))[:, None, None].repeat(5, axis=1).repeat(2, axis=2)
    simulated[:, :, 1] *= 2
    names = [f"{number}.0e6/drained" for number in range(n_groups)]
    arrays = (np.zeros((n_samples, 1)), inputs, np.full_like(simulated, 2.0))
    extra = {name: {"simulated": simulated, "samples": np.arange(n_samples)} for name in names}
    groups = dict.fromkeys(names, arrays)
    write_file(path, groups, contact_params=["E"], inputs=["load"], outputs=[label, "own"], extra=extra)
    return path


METRICS = {name: {"mae": 1.0, "rmse": 1.5, "r2": 0.5} for name in ("p", "own")}


def test_the_band_around_a_prediction_is_that_of_the_errors(tmp_path: Path):
    simulated = np.arange(21.0)[:, None, None].repeat(5, axis=1)
    band = error_bands.error_band(np.full_like(simulated, 2.0), simulated)
    assert band is not None
    np.testing.assert_allclose(band[:, :, 0], np.array([1.0, 10.0, 19.0])[:, None].repeat(5, axis=1) - 2)
    assert error_bands.error_band(simulated[:2], simulated[:2]) is None
    drawing = prediction_figures.draw_predictions(predictions(tmp_path / "p.hdf5"), METRICS)
    axis = drawing.figure.axes[0]
    (band_drawn,) = axis.collections
    heights = band_drawn.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((1.0, 19.0))
    assert axis.get_ylabel() == "p [MPa]"
    assert len(drawing.figure.axes) == 1  # of e, p and q those that there are
    assert axis.get_xlabel() == "load"
    assert "p 1.5" in drawing.alt


def test_of_a_group_the_sequence_with_the_median_error_is_shown_over_its_axial_strain(tmp_path: Path):
    # One standard deviation of each label is 0.1, 100 and nothing; errors in these units, their mean squares are
    # 1600, 9, 1, 12.25 and 8.09 thirds: the second is the median. Neither absolute errors, nor those in original units,
    # nor in units of what was predicted have the same one, nor have those of a single step.
    scale = np.array([0.1, 100.0, 1.0])
    errors = scale * [[0.0, 40.0, 0.0], [3.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 3.5, 0.0], [0.5, 2.8, 0.0]]
    at_steps = np.array([[0, 2, 0, 0], [1, 1, 1, 1], [0, 0, 2, 0], [0, 0, 0, 2], [2, 0, 0, 0]])
    steps = np.array([[-1.0, -1.0, 5.0], [1.0, 1.0, 5.0], [-1.0, -1.0, 5.0], [1.0, 1.0, 5.0]])
    simulated = np.broadcast_to(scale * steps, (5, 4, 3))
    predicted = simulated + errors[:, None, :] * at_steps[:, :, None]
    # An input is 100 sequences + 10 columns + steps.
    inputs = np.add.outer(np.add.outer(100 * np.arange(5), np.arange(4)), 10 * np.arange(3)).astype("float64")
    extra = {"0.2e6/drained": {"simulated": simulated, "samples": np.arange(5)}}
    for names, column, title in (
        (["e_x", "e_z", "e_y"], 1, "axial strain e_z [-]"),
        (["stress", "time", "angle"], 2, "angle"),
    ):
        groups = {"0.2e6/drained": (np.zeros((5, 1)), inputs, predicted)}
        file = tmp_path / f"{title}.hdf5"
        write_file(file, groups, contact_params=["E"], inputs=names, outputs=["e", "p", "q"], extra=extra)
        drawing = prediction_figures.draw_predictions(file, {})
        assert drawing.figure.axes[0].get_title(loc="left") == "0.2e6/drained (5 sequences)"
        for label, axis in enumerate(drawing.figure.axes):
            as_simulated, as_predicted = axis.get_lines()  # each sequence has its own load: there is no band
            np.testing.assert_allclose(as_simulated.get_ydata(), simulated[1, :, label], rtol=1e-6)
            np.testing.assert_allclose(as_predicted.get_ydata(), predicted[1, :, label], rtol=1e-6)
            for line in axis.get_lines():
                assert list(line.get_xdata()) == [100 + 10 * column + step for step in range(4)]
            assert axis.get_xlabel() == title


def test_groups_without_enough_sequences_have_no_band_and_a_page_no_more_than_twelve(tmp_path: Path):
    drawing = prediction_figures.draw_predictions(predictions(tmp_path / "p.hdf5", 14, 2), METRICS)
    assert len(drawing.figure.axes) == 12
    assert not any(axis.collections for axis in drawing.figure.axes)
    assert "The first 12 of 14 groups are shown." in drawing.caption


def test_loads_that_reverse_are_drawn_as_loops_with_a_band_only_where_all_sequences_have_the_same(tmp_path: Path):
    load = np.array([0.0, 1, 2, 1, 0, -1, 0, 1])
    simulated = np.arange(3.0)[:, None, None] + np.arange(8.0)[None, :, None]
    predicted = np.broadcast_to(np.arange(8.0)[None, :, None], simulated.shape)
    own_paths = np.stack([load, load[::-1], -load])[:, :, None]
    one_path = np.broadcast_to(load[None, :, None], own_paths.shape)
    file = tmp_path / "p.hdf5"
    arrays = {"1/drained": own_paths, "2/drained": one_path}
    groups = {name: (np.zeros((3, 1)), paths, predicted) for name, paths in arrays.items()}
    extra = {name: {"simulated": simulated, "samples": np.arange(3)} for name in groups}
    write_file(file, groups, contact_params=["E"], inputs=["e_z"], outputs=["q"], extra=extra)
    drawing = prediction_figures.draw_predictions(file, {})
    own, one = drawing.figure.axes
    assert not own.collections
    # The second sequence has the median error.
    for axis, path, n_lines in ((own, load[::-1], 2), (one, load, 3)):
        assert [list(line.get_xdata()) for line in axis.get_lines()] == [list(path)] * n_lines
    bands = [band.get_paths()[0].vertices for band in one.collections]
    assert [(part[:, 0].min(), part[:, 0].max()) for part in bands] == [(0, 2), (-1, 2), (-1, 1)]
    assert "no band: errors at the same step are not comparable" in drawing.caption
    assert "Band and dotted line" in drawing.caption
    assert len(drawing.figure.legends[0].get_texts()) == 4


def test_a_figure_without_a_band_explains_none(tmp_path: Path):
    load = np.array([0.0, 1, 2, 1])
    paths = np.stack([load, load[::-1], -load])[:, :, None]
    values = np.arange(12.0).reshape(3, 4, 1)
    extra = {"1/drained": {"simulated": values, "samples": np.arange(3)}}
    arrays = {"1/drained": (np.zeros((3, 1)), paths, values + 1)}
    write_file(tmp_path / "p.hdf5", arrays, contact_params=["E"], inputs=["e_z"], outputs=["q"], extra=extra)
    drawing = prediction_figures.draw_predictions(tmp_path / "p.hdf5", {})
    assert "Band" not in drawing.caption
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == [
        "simulated (DEM)",
        "predicted (LSTM)",
    ]


def test_intervals_of_an_ensemble_are_drawn_in_place_of_the_errors_of_all(tmp_path: Path):
    file = predictions(tmp_path / "p.hdf5")
    with h5py.File(file, "a") as opened:
        group = opened["0.0e6/drained"]
        n_samples = len(group["outputs"])
        # The bounds tell which sequence they are of.
        for name, sign in (("lower", -1), ("upper", 1)):
            group[name] = group["outputs"][:] + sign * (1 + np.arange(n_samples))[:, None, None]
        shown = prediction_figures._median_sequence(group["outputs"][:], group["simulated"][:])
    drawing = prediction_figures.draw_predictions(file, METRICS)
    (band,) = drawing.figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((2 - (1 + shown), 2 + 1 + shown))
    assert len(drawing.figure.axes[0].get_lines()) == 2  # no median of errors
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == [
        *("simulated (DEM)", "predicted (LSTM)", "90 % interval"),
    ]
    assert "the 90 % interval that the ensemble gives" in drawing.caption
    assert "5 to 95 %" not in drawing.caption


def test_errors_are_shown_per_label_in_its_unit(tmp_path: Path):
    drawing = prediction_figures.draw_errors(predictions(tmp_path / "p.hdf5"), METRICS)
    labels = [axis.get_xlabel() for axis in drawing.figure.axes if axis.get_visible()]
    assert labels == ["error of p [MPa]", "error of own [-]"]
    # predicted - simulated is 2, 1 … -18.
    assert "p [MPa] median -8, 5 to 95 % -17 to 1" in drawing.alt
    assert "105 steps" in drawing.caption
    first, second, *_ = drawing.figure.axes
    zero, median = first.get_lines()
    assert (set(zero.get_xdata()), set(median.get_xdata())) == ({0}, {-8})
    *bars, span = first.patches
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((-17, 1))
    assert (len(bars), sum(bar.get_height() > 0 for bar in bars)) == (50, 21)
    assert sum(bar.get_height() * bar.get_width() for bar in bars) == pytest.approx(1)
    assert first.get_title() == "RMSE 1.5, R² 0.500"
    # 2, 0 … -38.
    *bars, span = second.patches
    assert second.get_xlim() == pytest.approx((-38, 2))
    assert bars[0].get_height() == bars[-1].get_height() > 0
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((-36, 0))
    assert prediction_figures.draw_errors(predictions(tmp_path / "q.hdf5", n_samples=1), METRICS).alt


def test_a_label_may_be_called_as_no_formula_may_and_be_long(tmp_path: Path):
    label = r"$\frac{a$" + 300 * "x"
    file = predictions(tmp_path / "p.hdf5", label=label)
    metrics = {label: METRICS["p"], "own": METRICS["own"]}
    prediction_figures.plot_predictions(file, tmp_path / "p.png", metrics)
    assert (tmp_path / "p.png").stat().st_size > 0
    with plot_style.without_formulas():
        drawing = prediction_figures.draw_errors(file, metrics)
        texts = [axis.xaxis.label for axis in drawing.figure.axes if axis.get_visible()]
        assert_apart(boxes(drawing.figure, texts))
    assert texts[0].get_text() == "error of $\\frac{a$xxxxxxxxxx… [-]"


def test_a_response_that_differs_by_rounding_alone_is_drawn_as_a_constant(tmp_path: Path):
    path, steps = tmp_path / "p.hdf5", np.linspace(0, 1, 5)[None, :, None].repeat(4, axis=0)
    simulated, predicted = np.full_like(steps, 0.64), 0.64 + 1e-7 * steps
    extra = {"1.0e6/undrained": {"simulated": simulated, "samples": np.arange(4)}}
    arrays = (np.zeros((4, 1)), steps, predicted)
    write_file(path, {"1.0e6/undrained": arrays}, contact_params=["E"], inputs=["e_z"], outputs=["e"], extra=extra)
    metrics = {"e": {"mae": 0.0, "rmse": 0.0, "r2": 1.0}}
    (axis,) = prediction_figures.draw_predictions(path, metrics).figure.axes
    assert axis.get_ylim() == pytest.approx((0.608, 0.672), abs=1e-4)
