"""Candidates for an ensemble: their truth without padding, what they must agree in, and the units of their errors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.collector.ensemble_candidates import EnsembleCandidate, disagreement, select_members, truth_of
from glrnn_hpc.collector.verification import Candidate
from glrnn_hpc.collector.verify import Verified
from glrnn_hpc.config import RunConfig
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.study.slots import Slot
from tests.conftest import DATA

SMALL = {"raw_data": str(DATA / "triaxial.hdf5"), "pressure": "0.2e6", "add_e0": True}


def candidate(number: int, first_step: int = 3, **keys: Any) -> EnsembleCandidate:
    """Return a candidate that predicts the truth; neither its study nor its model are asked for anything."""
    config = RunConfig(**{**SMALL, "window_size": 3, **keys})
    data = PreprocessorTriaxialCompression(**config.as_dict()).prepare_arrays()
    nothing: Any = None
    files = Verified(layout.TrialFolder(Path()), nothing, {}, None, config, data.train_stats, data, {})
    predicted = truth_of(files, "val").labels[:, first_step:].astype("float32")
    slot = Slot(number, "finished", {}, 0.0)
    return EnsembleCandidate(Candidate(nothing, slot), files, first_step, predicted)


def test_the_truth_is_that_of_the_file_whatever_a_candidate_learns_and_pads():
    plain = truth_of(candidate(0).files, "val")
    other = truth_of(candidate(1, pad_length=7, inputs=["e_z"], label_scaling="physical", exact=["p"]).files, "val")
    np.testing.assert_array_equal(other.labels, plain.labels)
    np.testing.assert_array_equal(other.params, plain.params)
    assert (list(plain.inputs), list(other.inputs)) == (["e_x", "e_y", "e_z"], ["e_z"])
    np.testing.assert_array_equal(other.input_array(["e_z"])[..., 0], plain.inputs["e_z"])


def test_steps_of_candidates_with_other_windows_are_compared_by_their_numbers():
    exact, late = candidate(0, first_step=3), candidate(1, first_step=9)
    wrong = replace(exact, predicted=exact.predicted * 1.1)
    assert set(select_members([wrong, late], 1).weights) == {1}
    assert select_members([exact, late], 1).mse == pytest.approx(0.0, abs=1e-9)
    # Errors before the first step that all predict do not count.
    early = exact.predicted.copy()
    early[:, :6] *= 3
    assert select_members([replace(exact, predicted=early), late], 1).mse == pytest.approx(0.0, abs=1e-9)


def test_errors_of_small_stresses_count_as_those_of_large_ones():
    exact = candidate(0)
    p = exact.files.stats["label_names"].index("p")
    largest = exact.predicted[..., p].max(axis=1).argsort()
    relative, absolute = exact.predicted.copy(), exact.predicted.copy()
    relative[largest[-1], :, p] *= 1.3  # 30 % of one sequence with the largest stresses
    absolute[largest[: len(largest) // 2], :, p] *= 1.3  # and of the half with the smallest ones
    found = select_members([replace(exact, predicted=each) for each in (absolute, relative)], 1)
    assert found.picks == (1,)


def test_a_negative_mean_stress_is_a_large_error_and_no_failure():
    exact = candidate(0)
    impossible = exact.predicted.copy()
    impossible[..., exact.files.stats["label_names"].index("p")] = -1.0
    found = select_members([replace(exact, predicted=impossible), exact], 1)
    assert found.picks == (1,)
    assert np.isfinite(found.mse_of_candidates).all()


def test_a_learning_rate_is_no_disagreement_and_window_load_and_units_are_none():
    other = candidate(1, window_size=5, pad_length=2, inputs=["e_z"], label_scaling="physical", learning_rate=0.1)
    assert disagreement(candidate(0), other) is None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"val_frac": 0.2}, r"its val_frac is 0\.2, that of trial 4 0\.15"),
        ({"train_frac": 0.6}, r"its train_frac is 0\.6, that of trial 4 0\.7"),
        ({"add_e0": False}, r"its parameters is \['E', .*'experiment_type'\], that of trial 4 \['E', .*'e0'\]"),
        ({"pressure": "0.5e6"}, "its fingerprint of the data is "),
    ],
)
def test_what_members_must_agree_in_is_said_with_both_values(keys: dict[str, Any], message: str):
    reason = disagreement(candidate(4), candidate(1, **keys))
    assert reason is not None
    assert reason.startswith("cannot be in one ensemble with trial 4: ")
    assert re.search(message, reason)


def test_other_labels_another_seed_of_the_split_and_other_sequences_are_disagreements():
    first = candidate(4)
    stats = dict(first.files.stats)

    def changed(**entries: Any) -> EnsembleCandidate:
        kept: Any = {key: value for key, value in {**stats, **entries}.items() if value is not None}
        return replace(first, files=replace(first.files, stats=kept))

    labels = disagreement(first, changed(label_names=["e", "p", "q", "f0", "a_c", "a_n", "b"]))
    assert labels is not None
    assert "its labels is ['e', 'p', 'q', 'f0', 'a_c', 'a_n', 'b'], that of trial 4 ['e'" in labels
    assert "its split_seed is 7, that of trial 4 42" in str(disagreement(first, changed(split_seed=7)))
    # Data without a fingerprint are compared themselves.
    bare, other = changed(fingerprint=None), candidate(1, pressure="0.5e6")
    kept: Any = {key: value for key, value in other.files.stats.items() if key != "fingerprint"}
    strange = replace(other, files=replace(other.files, stats=kept))
    assert disagreement(bare, bare) is None
    assert "its validation sequences are others" in str(disagreement(bare, strange))
