"""Ensemble of models in one export (`ensemble.json`): its members with their weights, its columns, its intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from glrnn_hpc import layout
from glrnn_hpc.errors import ModelError, RecordError
from glrnn_hpc.records.formats import validated

#: Format of the files that are written.
FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MemberRecord(_Part):
    """Member of an ensemble: the number of its folder in `members/`, and how often the selection picked it."""

    folder: int = Field(ge=0)
    weight: int = Field(ge=1)


class IntervalTransform(_Part):
    """Transform of a label; see `experiments.labels.LabelTransform`."""

    label: str
    kind: Literal["linear", "log", "asinh"] = "linear"
    reference: str | None = None
    offset: float = 0.0


class LabelInterval(_Part):
    """Numbers behind the interval of one label, in the transformed units of the label.

    Attributes
    ----------
    factor : float
        Half width of an interval in units of the scale of the error.
    floor : list of float
        Part of that scale which the spread of the members does not show, at each step from the first predicted one.
    low, high : float
        Values beyond which members are not believed when their spread is taken.
    """

    factor: float = Field(ge=0, allow_inf_nan=False)
    floor: list[float] = Field(min_length=1)
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)


class IntervalRecord(_Part):
    """Intervals of an ensemble: the part of the truth that they hold, the transforms, and the numbers of each label."""

    level: float = Field(gt=0, lt=1)
    transforms: list[IntervalTransform] = []
    labels: dict[str, LabelInterval]


class EnsembleRecord(_Part):
    """Ensemble of models.

    Attributes
    ----------
    format : int
        Format of the file.
    members : list of MemberRecord
        Members; the one with the greatest weight first.
    first_step : int
        First step that all members predict, counted without padding.
    input_names, param_names, label_names : list of str
        Columns of the whole: the load features of all members in the order of the data, and what all members share.
    intervals : IntervalRecord
        What makes intervals of the members' predictions.
    """

    format: int = Field(FORMAT, ge=1, le=FORMAT)
    members: list[MemberRecord] = Field(min_length=1)
    first_step: int = Field(ge=0)
    input_names: list[str]
    param_names: list[str]
    label_names: list[str]
    intervals: IntervalRecord

    @model_validator(mode="after")
    def _check_together(self) -> EnsembleRecord:
        if list(self.intervals.labels) != self.label_names:
            raise ValueError(
                f"intervals.labels has {', '.join(self.intervals.labels)}, label_names {', '.join(self.label_names)}"
            )
        return self

    def as_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return self.model_dump()


def read_ensemble(path: Path) -> EnsembleRecord:
    """Read `ensemble.json` of an export.

    Raises
    ------
    ModelError
        If it is missing or broken, or a later version wrote it in another format.
    """
    try:
        content = layout.read_record(path, "format", "members")
        return validated(EnsembleRecord, content, path, FORMAT, "write it anew with `glrnn collect --ensemble`")
    except RecordError as error:
        raise ModelError(str(error)) from error


def write_ensemble(path: Path, ensemble: EnsembleRecord) -> None:
    """Write `ensemble.json` so that a reader sees the whole file or none."""
    layout.write_json(path, ensemble.as_json())
