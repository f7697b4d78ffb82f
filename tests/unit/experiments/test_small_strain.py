"""Strain on a logarithmic scale: the values of known paths, and the feature that the models have."""

from __future__ import annotations

import numpy as np

from glrnn_hpc.experiments.small_strain import log_path, small_strain_features
from glrnn_hpc.experiments.triaxial import TRIAXIAL

#: Goes up by 0.0012, 0.0024 and back by 0.0008.
PATH = np.array([[0.001, 0.0022, 0.0046, 0.0038]])


def test_the_length_of_the_path_counts_and_neither_its_sign_nor_its_start():
    expected = np.log([1.0, 13.0, 37.0, 45.0])
    np.testing.assert_allclose(log_path(PATH)[0], expected, rtol=1e-12)
    np.testing.assert_allclose(log_path(-PATH)[0], expected, rtol=1e-12)
    np.testing.assert_array_equal(log_path(PATH[:, :1]), [[0.0]])


def test_the_first_steps_of_a_sequence_have_the_values_that_they_have_in_the_whole():
    paths = np.cumsum(np.random.default_rng(1).normal(size=(7, 40)), axis=1)
    for n_steps in (1, 2, 39):
        np.testing.assert_array_equal(log_path(paths[:, :n_steps]), log_path(paths)[:, :n_steps])


def test_the_first_steps_lie_apart_where_those_of_the_strain_itself_do_not():
    strain = np.linspace(0, 0.12, 101)[None]
    scaled = log_path(strain)[0]
    assert np.all(np.diff(scaled, 2) < 0)
    assert scaled[5] / scaled[-1] > 0.5 > 0.1 > strain[0, 5] / strain[0, -1]


def test_the_feature_is_named_after_the_strain_and_belongs_to_triaxial_tests():
    features = small_strain_features("e_r")
    assert features.needs == ("e_r",)
    assert features.names() == ("e_r_log_path",)
    np.testing.assert_array_equal(features.values({"e_r": PATH})["e_r_log_path"], log_path(PATH))
    assert [each.name for each in TRIAXIAL.derived_features()] == ["history", "small_strain"]
    assert TRIAXIAL.input_label("e_z_log_path") == "logarithm of the path so far e_z_log_path [-]"
