"""Fingerprint of the data: the same sequences pass, others and unrecorded ones are refused."""

from __future__ import annotations

import pytest

from glrnn_hpc.errors import DataError
from glrnn_hpc.preprocessor.fingerprint import check_fingerprint


def test_the_recorded_sequences_pass():
    check_fingerprint("a.hdf5", "12ab", "12ab")


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ("34cd", "^a.hdf5: holds other sequences than the model was trained on"),
        (None, "^a.hdf5: the model does not record which sequences it was trained on"),
    ],
)
def test_other_sequences_and_a_model_without_a_fingerprint_are_refused_by_the_file(recorded: str | None, message: str):
    with pytest.raises(DataError, match=message):
        check_fingerprint("a.hdf5", "12ab", recorded)
