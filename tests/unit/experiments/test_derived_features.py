"""Features that an experiment derives are computed as it declares them, and mistakes in the declaration are named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments import derived_features
from glrnn_hpc.experiments.base import Column
from glrnn_hpc.experiments.derived_features import DerivedFeatures, given_features, load_array, owners_of

Columns = Mapping[str, NDArray[Any]]


def powers(columns: Columns) -> Columns:
    return {"square": columns["x"] ** 2, "cube": columns["x"] ** 3}


POWERS = DerivedFeatures("powers", ("x",), (Column("square"), Column("cube")), powers)
VALUES = np.arange(12.0).reshape(4, 3)


def test_derived_features_stand_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    columns = {"x": VALUES, "y": -VALUES}
    expected = np.stack([VALUES**3, VALUES, -VALUES], axis=2)
    array = load_array(["cube", "x", "y"], columns, (POWERS,))
    assert array.dtype == "float32"
    np.testing.assert_array_equal(array, expected)
    monkeypatch.setattr(derived_features, "_VALUES_AT_ONCE", 3)  # one sequence at a time
    np.testing.assert_array_equal(load_array(["cube", "x", "y"], columns, (POWERS,)), expected)
    assert given_features(["cube", "x", "y"], (POWERS,)) == ["x", "y"]


def test_they_follow_from_numbers_in_single_precision_whatever_is_given():
    precise = {"x": VALUES / 7}
    rounded = {"x": (VALUES / 7).astype("float32")}
    np.testing.assert_array_equal(load_array(["cube"], precise, (POWERS,)), load_array(["cube"], rounded, (POWERS,)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda columns: {"square": columns["x"]}, "powers give no cube, which they declare; they give square"),
        (lambda columns: {"cube": columns["x"][:, 0]}, r"give cube of shape \(4,\); \(4, 3\) is needed"),
        (lambda columns: {"cube": columns["x"] * np.nan}, "give values of cube that are not finite"),
    ],
)
def test_what_is_not_as_it_was_declared_is_refused(values: Any, message: str):
    wrong = DerivedFeatures("powers", ("x",), POWERS.columns, values)
    with pytest.raises(DataError, match=message):
        load_array(["cube"], {"x": VALUES}, (wrong,))


@pytest.mark.parametrize(
    ("group", "feature", "twice"),
    [("powers", "other", "powers"), ("others", "cube", "cube"), ("cube", "other", "cube")],
)
def test_a_name_that_is_given_twice_is_refused(group: str, feature: str, twice: str):
    other = DerivedFeatures(group, ("x",), (Column(feature),), powers)
    with pytest.raises(ConfigError, match=f"derived_features name {twice} twice"):
        owners_of((POWERS, other))
