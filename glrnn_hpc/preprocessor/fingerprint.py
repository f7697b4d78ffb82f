"""Check of a data file's fingerprint against the one that a training recorded."""

from __future__ import annotations

from pathlib import Path

from glrnn_hpc.errors import DataError


def check_fingerprint(data: str | Path, fingerprint: str, recorded: str | None) -> None:
    """Refuse data that are not the recorded sequences in the recorded order.

    Parameters
    ----------
    data : str or Path
        File of the data.
    fingerprint : str
        Hash of the chosen sequences, see `PreprocessorTriaxialCompression.fingerprint`.
    recorded : str or None
        Fingerprint in the `train_stats` of the model.

    Raises
    ------
    DataError
        If the fingerprints differ, or none is recorded.
    """
    if recorded is None:
        raise DataError(f"{data}: the model does not record which sequences it was trained on.")
    if fingerprint != recorded:
        raise DataError(f"{data}: holds other sequences than the model was trained on.")
