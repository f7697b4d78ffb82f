"""The summary of a calibration keeps the keys of version 0.1.0, and notes what contradicts the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from glrnn_hpc.calibration.posterior import Posterior
from glrnn_hpc.calibration.result import (
    CalibrationSummary,
    LabelFit,
    contradictions,
    label_fits,
    parameter_estimates,
)

SAMPLES = Posterior(np.array([[0.0, 10.0], [2.0, 20.0]]), np.array([0.5, 0.5]), ("a", "b"))
RANGES = {"a": (0.0, 2.0), "b": (5.0, 30.0)}

#: Keys of `calibration.json` as version 0.1.0 wrote them.
KEYS = [
    *("most_probable", "spread", "mean", "deviation", "interval", "effective_samples", "iterations"),
    *("reached_tolerance", "sigma", "errors", "model", "observation", "observed", "control", "steps", "first_step"),
    *("resampling", "notes", "ranges", "known", "trained_in", "versions", "outside_training", "samples", "seed"),
    *("seconds", "seconds_per_prediction"),
]


#: Keys that are newer.
NEW = ["surrogate_share"]


def summary() -> CalibrationSummary:
    return CalibrationSummary(
        parameters=parameter_estimates(SAMPLES, np.array([2.0, 10.0]), RANGES),
        known={"pressure": 0.2},
        labels={"q": LabelFit(0.3, 0.1, None, "MPa")},
        effective_samples=2.0,
        sigma=(0.5, 0.25),
        reached_tolerance=False,
        model="best",
        observation="test.dat",
        control="e_z",
        n_steps=11,
        first_step=3,
        resampling="none",
        notes=("a note",),
        training_ranges={},
        outside_training=(),
        n_samples=20,
        seed=0,
        seconds=1.5,
        seconds_per_prediction=0.1,
        versions={},
    )


def test_the_plain_dict_has_the_keys_of_version_0_1_0_in_their_order():
    content = summary().as_dict()
    assert [key for key in content if key not in NEW] == KEYS
    assert set(content) == {*KEYS, *NEW}
    assert json.loads(json.dumps(content)) == content
    assert content["iterations"] == 2
    assert content["errors"] == {"q": {"rmse": 0.3, "surrogate_rmse": 0.1, "expected": None, "unit": "MPa"}}
    assert content["trained_in"] is None
    assert list(replace(summary(), output=Path("out")).as_dict().items())[-1] == ("output", "out")


def test_each_parameter_has_its_own_column_of_the_posterior():
    estimates = parameter_estimates(SAMPLES, np.array([2.0, 10.0]), RANGES)
    assert (estimates["a"].mean, estimates["b"].mean) == (1.0, 15.0)
    assert (estimates["a"].deviation, estimates["b"].deviation) == (1.0, 5.0)
    assert estimates["b"].spread == np.hypot(5.0, 5.0)
    assert estimates["b"].search_range == (5.0, 30.0)
    assert estimates["b"].surrogate_share is None
    shared = parameter_estimates(SAMPLES, np.array([2.0, 10.0]), RANGES, {"a": 0.25, "b": 1.0})
    assert (shared["a"].surrogate_share, shared["b"].surrogate_share) == (0.25, 1.0)


def test_a_response_beyond_three_errors_of_the_surrogate_and_unknown_errors_are_noted(caplog):
    fits = label_fits(
        {"q": np.array([0.4, -0.4]), "e": np.array([0.1, 0.1])}, {"q": 0.1}, {"q": 0.1, "e": 0.0}, {"q": "MPa"}
    )
    poor, unknown = contradictions({}, fits, Path("test.dat"))
    assert poor.startswith("q is missed by 0.4 MPa, 4 times the error of the surrogate")
    assert unknown.startswith("The errors of the surrogate are not known")
    assert f"test.dat: {poor}" in caplog.text
    assert unknown not in caplog.text
    near = replace(fits["q"], rmse=0.29)
    assert contradictions({}, {"q": near}, Path("test.dat")) == []


def test_a_most_probable_value_outside_of_its_interval_is_noted():
    estimates = parameter_estimates(SAMPLES, np.array([2.0, 10.0]), RANGES)
    outside = replace(estimates["a"], most_probable=9.0)
    (note,) = contradictions({"a": outside}, {}, Path("test.dat"))
    assert note.startswith("The most probable a, 9, lies outside of its own interval 0 .. 2")
