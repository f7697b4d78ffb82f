"""Provenance of an exported model (`provenance.json`): its sweep, its data, its columns, its errors, its software.

A file without `format` is read as format 1, which version 0.1.0 wrote. A part that a file does not have is None or
empty in the record, so that files with a part of the record can be read, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from glrnn_hpc import layout
from glrnn_hpc.records.baseline import BaselineComparison
from glrnn_hpc.records.formats import validated

#: Formats of the files that are written: of a single model, which earlier versions read, too, and of an ensemble.
FORMAT, ENSEMBLE_FORMAT = 1, 2


class _Part(BaseModel):
    # Entries that a user or a later version added stay in the record, and are written again.
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=(), ser_json_inf_nan="constants")

    def as_json(self) -> dict[str, Any]:
        """Return what the file holds: the entries that were given or read, in the order of the record."""
        return self.model_dump(exclude_unset=True)


class SweepOrigin(_Part):
    """Sweep that an exported model comes from; `folder` is None in models that are passed on."""

    name: str = ""
    folder: str | None = None
    method: str = ""
    metric: str = ""
    goal: str = ""
    seed: int | None = None
    n_trials: int = 0


class DataOrigin(_Part):
    """Data of a training; None where a preprocessor of the user's own does not tell it.

    Attributes
    ----------
    path : str or None
        Of the file.
    sha256 : str or None
        Checksum of the file.
    bytes : int or None
        Size of the file.
    groups : list of str or None
        Merged groups, in their order.
    sequences : dict of str to int, or None
        Number of sequences in each split.
    fingerprint : str or None
        Hash of the chosen sequences.
    """

    path: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    groups: list[str] | None = None
    sequences: dict[str, int] | None = None
    fingerprint: str | None = None


class Column(_Part):
    """Column of a model: its name, and its least and greatest value in the training split in original units."""

    name: str
    min: float | None = None
    max: float | None = None

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and the greatest value; None if one of them is not known."""
        return None if self.min is None or self.max is None else (self.min, self.max)


class LoadColumn(Column):
    """Column of a load feature: how it goes through the sequences of the training split, as `load_path.LoadPath` tells.

    All three are None in files of earlier exports, and where a preprocessor of the user's own does not tell them.
    """

    start: float | None = None
    step: float | None = None
    reverses: bool | None = None


class LabelColumn(Column):
    """Column of a label, with its unit and what standardises it."""

    unit: str | None = None
    mean: float | None = None
    std: float | None = None


class LabelError(_Part):
    """Errors of one label on a split, in its unit and in standardised units; `r2` has none."""

    mae: float | None = None
    rmse: float
    r2: float | None = None
    mae_standardised: float | None = None
    rmse_standardised: float | None = None


class ModelFile(_Part):
    """File of an exported model and the number of its weights."""

    file: str
    sha256: str
    weights: int


class Owner(_Part):
    """Rank that trained the last epochs of a trial, with its host and its job."""

    host: str
    job: str
    rank: int


class MemberOrigin(_Part):
    """Trial that is a member of an ensemble.

    Attributes
    ----------
    folder : int
        Number of its folder in `members/`.
    weight : int
        How often the selection picked it.
    sweep : SweepOrigin
        Sweep that it comes from.
    trial, generation : int
        Number of the trial and its last generation.
    state : str
        finished or pruned.
    point, seed, epochs, best_epoch, metrics, recomputed, window_size, pad_length, trained_on, trained_with
        As in `Provenance`.
    load_features : list of str
        Load features that it takes.
    mse_standardised : dict of str to float
        As in `Provenance`, at the steps that all members predict.
    model : ModelFile
        File of its model.
    """

    folder: int
    weight: int
    sweep: SweepOrigin = SweepOrigin()
    trial: int
    generation: int | None = None
    state: str = ""
    point: dict[str, Any] = {}
    seed: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    metrics: dict[str, float] = {}
    recomputed: dict[str, float] = {}
    window_size: int | None = None
    pad_length: int | None = None
    load_features: list[str] = []
    mse_standardised: dict[str, float] = {}
    model: ModelFile
    trained_on: Owner | None = None
    trained_with: dict[str, Any] | None = None


class SingleModel(_Part):
    """Best single model beside an ensemble: its folder in `members/`, and its errors at the steps of the ensemble."""

    folder: int
    errors: dict[str, dict[str, LabelError]]
    mse_standardised: dict[str, float]


class EnsembleOrigin(_Part):
    """Origin of an ensemble: the selection of its members, the best single model, and what its intervals hold.

    Attributes
    ----------
    n_picks : int
        Picks that were allowed.
    n_candidates : int
        Verified trials that were chosen from.
    members : list of MemberOrigin
        Trials.
    best_single : SingleModel
        Member with the least error on the validation split.
    interval_level : float
        Part of the truth that the intervals are made to hold on the validation split.
    coverage : dict
        Part that they hold, by split and by label.
    """

    n_picks: int
    n_candidates: int
    members: list[MemberOrigin]
    best_single: SingleModel
    interval_level: float
    coverage: dict[str, dict[str, float]]


class Provenance(_Part):
    """Provenance of an exported model, or of an ensemble of models.

    Attributes
    ----------
    format : int
        Format of the file.
    sweep : SweepOrigin
        Sweep that the model comes from.
    trial, generation : int or None
        Number of the trial and its last generation; None of an ensemble, whose members have their own.
    ensemble : EnsembleOrigin or None
        Members of an ensemble; None of a single model.
    refused : list of int
        Trials of the same sweep whose files could not be verified.
    point : dict
        Searched parameters of the trial.
    seed, split_seed : int or None
        Seeds of the training and of the split.
    epochs, best_epoch : int or None
        Epochs of the training, and the one whose weights are exported.
    metrics, recomputed : dict of str to float
        Metrics as logged, and as computed again from the files.
    errors : dict
        Errors by split and by label.
    mse_standardised : dict of str to float
        Mean squared error of standardised labels by split.
    baseline : BaselineComparison or None
        Comparison with Gaussian processes.
    data : DataOrigin
        Data of the training.
    sequence_length, window_size, pad_length : int or None
        Steps.
    load_features, parameters, labels : list of LoadColumn, Column and LabelColumn
        Columns of the model in its order.
    model : ModelFile or None
        File of the model.
    trained_on : Owner or None
        Rank that trained the last epochs.
    trained_with : dict or None
        Software of the training.
    exported : str
        Time of the export.
    host : str or None
        Where it was exported.
    python, versions, git
        Software of the export.
    """

    format: int = Field(FORMAT, ge=1, le=ENSEMBLE_FORMAT)
    sweep: SweepOrigin = SweepOrigin()
    trial: int | None = None
    generation: int | None = None
    ensemble: EnsembleOrigin | None = None
    refused: list[int] = []
    point: dict[str, Any] = {}
    seed: int | None = None
    split_seed: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    metrics: dict[str, float] = {}
    recomputed: dict[str, float] = {}
    errors: dict[str, dict[str, LabelError]] = {}
    mse_standardised: dict[str, float] = {}
    baseline: BaselineComparison | None = None
    data: DataOrigin = DataOrigin()
    sequence_length: int | None = None
    window_size: int | None = None
    pad_length: int | None = None
    load_features: list[LoadColumn] = []
    parameters: list[Column] = []
    labels: list[LabelColumn] = []
    model: ModelFile | None = None
    trained_on: Owner | None = None
    trained_with: dict[str, Any] | None = None
    exported: str = ""
    host: str | None = None
    python: str = ""
    versions: dict[str, Any] = {}
    git: Any = None


def read_provenance(path: Path) -> Provenance:
    """Read `provenance.json` of an export.

    Raises
    ------
    FileNotFoundError
        If there is none.
    RecordError
        If it is broken, or a later version wrote it in another format.
    """
    content = layout.read_record(path)
    return validated(Provenance, content, path, ENSEMBLE_FORMAT, "write it anew with `glrnn collect`")


def write_provenance(path: Path, provenance: Provenance) -> None:
    """Write `provenance.json` so that a reader sees the whole file or none."""
    layout.write_json(path, provenance.as_json())
