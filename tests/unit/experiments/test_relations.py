from __future__ import annotations

import numpy as np
import pytest

from glrnn_hpc.experiments.base import UnderivableInputs
from glrnn_hpc.experiments.triaxial import TRIAXIAL, drained_lateral_strain, undrained_lateral_strain


def test_an_undrained_test_keeps_its_volume():
    axial = np.linspace(0, 0.2, 5)
    np.testing.assert_array_equal(axial + 2 * undrained_lateral_strain(axial), 0)


def test_a_drained_test_has_the_volume_of_its_void_ratio():
    axial, void_ratio = np.linspace(0, 0.2, 5), np.array([0.6, 0.58, 0.59, 0.61, 0.63])
    volumetric = axial + 2 * drained_lateral_strain(axial, void_ratio)
    # Compression is positive: the volume is 1.6 exp(-strain).
    np.testing.assert_allclose(1.6 * np.exp(-volumetric), 1 + void_ratio, rtol=1e-14)


@pytest.mark.parametrize(
    ("columns", "missing", "type_code", "reason"),
    [
        (("e_z",), ("e_x", "e_y"), 1.0, "from the void ratio, but there is no column e"),
        (("e_z", "e"), ("e_x", "e_y"), None, "say whether the test is drained or undrained"),
        (("e_z", "e"), ("e_x",), 0.0, "other load features than the strains of a triaxial test"),
    ],
)
def test_lateral_strains_that_do_not_follow_are_refused_with_the_reason(columns, missing, type_code, reason: str):
    values = {name: np.linspace(0.0, 0.1, 4) for name in columns}
    with pytest.raises(UnderivableInputs, match=reason):
        TRIAXIAL.derive_inputs(values, missing, "e_z", type_code)


def test_folders_and_raw_files_agree_by_value_or_where_the_folder_has_a_name():
    assert TRIAXIAL.is_same_group("200000/drained", "0.2e6/drained")
    assert TRIAXIAL.is_same_group("loose/drained", "0.2e6/drained")
    assert not TRIAXIAL.is_same_group("0.5e6/drained", "0.2e6/drained")
    assert not TRIAXIAL.is_same_group("loose/undrained", "0.2e6/drained")


def test_an_observation_that_begins_elsewhere_or_drains_contradicts_what_is_given():
    first, spans = {"p": 0.5}, {"e": 0.05}
    pressure, volume = TRIAXIAL.contradictions(first, spans, {"pressure": 0.2}, 0.0)
    assert "begins with p=0.5 MPa, but pressure=0.2 MPa is given" in pressure
    assert "taken for undrained, but its void ratio changes by 0.05, as in a drained test" in volume
    assert TRIAXIAL.contradictions(first, spans, {"pressure": 0.4}, 1.0) == []
    assert "does not change" in TRIAXIAL.contradictions({}, {"e": 0.0}, {}, 1.0)[0]
