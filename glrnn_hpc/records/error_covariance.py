"""Covariance of a surrogate's error beside an exported model (`error_covariance.json`)."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from glrnn_hpc import layout
from glrnn_hpc.errors import ModelError, RecordError
from glrnn_hpc.records.ensemble import IntervalTransform
from glrnn_hpc.records.formats import validated

#: Format of the files that are written.
FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorGroup(_Part):
    """Errors of the sequences of one type of experiment.

    Attributes
    ----------
    type_code : float or None
        Number of the type, such as 1 for drained; None where the model has one type only, or does not tell them.
    n_sequences : int
        Validation sequences of this type.
    deviations : list of float
        Standard deviations of the blocks' errors, the labels of a block side by side; 0 where a label is met exactly.
    correlations : list of float
        Their correlations below the diagonal, row by row.
    """

    type_code: float | None = None
    n_sequences: int = Field(ge=1)
    deviations: list[float]
    correlations: list[float]


class ErrorCovarianceRecord(_Part):
    """Covariance of a surrogate's error, in the transformed units of the labels.

    Attributes
    ----------
    format : int
        Format of the file.
    edges : list of int
        Steps at which the blocks begin, and the one behind the last block. An error is the mean over a block.
    labels : list of str
        Labels of the model.
    transforms : list of IntervalTransform
        Transforms of some of the labels.
    lows : list of float
        Value of each label below which a logarithm is not believed.
    noise : list of float
        Variance of the noise between neighbouring steps that a simulated curve of each label has.
    groups : list of ErrorGroup
        At least one.
    """

    format: int = Field(FORMAT, ge=1, le=FORMAT)
    edges: list[int] = Field(min_length=2)
    labels: list[str] = Field(min_length=1)
    transforms: list[IntervalTransform] = []
    lows: list[float]
    noise: list[float]
    groups: list[ErrorGroup] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_sizes(self) -> ErrorCovarianceRecord:
        n = len(self.labels) * (len(self.edges) - 1)
        if len(self.lows) != len(self.labels) or len(self.noise) != len(self.labels):
            raise ValueError(f"lows and noise need {len(self.labels)} values, one for each label")
        if any(later <= earlier for earlier, later in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("edges must increase")
        for group in self.groups:
            if len(group.deviations) != n or len(group.correlations) != n * (n - 1) // 2:
                raise ValueError(f"a group needs {n} deviations and {n * (n - 1) // 2} correlations")
        return self


def read_error_covariance(path: Path) -> ErrorCovarianceRecord | None:
    """Read `error_covariance.json` of an export; None if there is none.

    Raises
    ------
    ModelError
        If it is broken, or a later version wrote it in another format.
    """
    if not path.exists():
        return None
    otherwise = (
        "write it anew with `glrnn collect`, or remove the file: the calibration then takes one error for each label"
    )
    try:
        return validated(ErrorCovarianceRecord, layout.read_record(path, "format", "groups"), path, FORMAT, otherwise)
    except RecordError as error:
        raise ModelError(str(error)) from error


def write_error_covariance(path: Path, record: ErrorCovarianceRecord) -> None:
    """Write `error_covariance.json` so that a reader sees the whole file or none."""
    # Some ten thousand numbers: one on a line would triple the size.
    layout.write_text(path, json.dumps(record.model_dump(), separators=(",", ":")) + "\n")
