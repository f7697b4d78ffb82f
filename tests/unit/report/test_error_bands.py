from __future__ import annotations

import numpy as np

from glrnn_hpc.experiments.labels import LabelTransform
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.report.error_bands import band_around, transforms_by_label


def test_a_band_of_relative_errors_stays_positive_where_differences_do_not():
    predicted = np.array([[1.0, 100.0]] * 3)
    simulated = predicted * np.array([[0.1], [1.0], [10.0]])
    centre = np.array([1.0, 2.0])
    relative = band_around(centre, predicted, simulated, LabelTransform("p", "log", "pressure"), 0.2)
    differences = band_around(centre, predicted, simulated)
    assert relative is not None
    assert differences is not None
    # The quantiles of three errors lie between them: a tenth less of the way to the extremes.
    np.testing.assert_allclose(relative, np.outer(10.0 ** np.array([-0.9, 0.0, 0.9]), centre))
    np.testing.assert_allclose(differences[:, 1], 2 + np.array([-81.0, 0.0, 810.0]))


def test_values_without_a_transform_have_a_band_of_differences():
    predicted, simulated = np.full((3, 2), -1.0), np.array([[-1.0, 0.0]] * 3)
    transform = LabelTransform("p", "log")
    np.testing.assert_allclose(band_around(predicted[0], predicted, simulated, transform), [[-1.0, 0.0]] * 3)


def test_two_sequences_have_no_band():
    assert band_around(np.ones(4), np.ones((2, 4)), np.ones((2, 4)), LabelTransform("p", "log")) is None


def test_a_group_tells_the_references_that_its_sequences_share():
    usable = transforms_by_label(TRIAXIAL.label_transforms(), {"pressure": 0.5})
    assert {label: reference for label, (_, reference) in usable.items()} == {"e": 0.0, "p": 0.5, "q": 0.5, "f0": 1.0}
    assert "q" not in transforms_by_label(TRIAXIAL.label_transforms(), {})
