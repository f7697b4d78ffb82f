"""Statistics of a training: shapes, scalings, names and ranges of its columns (`train_stats.json`).

Users get them as a plain dict from `prepare_datasets`, hence the TypedDict. A file without `version` is one of version
0.1.0, whose form is the same; a preprocessor of the user's own may add entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.errors import ModelError, RecordError

#: One number per column: an array before it is written, a list once it is read.
PerColumn: TypeAlias = "NDArray[Any] | list[float]"

#: The shapes that a network is built for.
SHAPES = ("num_input_features", "num_params", "num_labels")


class Shapes(TypedDict):
    """Numbers of load features, parameters and labels."""

    num_input_features: int
    num_params: int
    num_labels: int


class TransformRecord(TypedDict):
    """Transform of one target: a `LabelTransform` of the experiment."""

    label: str
    kind: str
    reference: str | None
    offset: float


class ExactRecord(TypedDict):
    """Relation that gives a label: its text, and the number of the experiment type where it holds; None for all."""

    label: str
    relation: str
    type_code: float | None


class _TargetScaling(TypedDict, total=False):
    mean: PerColumn
    std: PerColumn


class TargetsRecord(_TargetScaling):
    """Targets of a network in place of the labels: transforms, exact labels, and mean and std of the targets."""

    transforms: list[TransformRecord]
    exact: list[ExactRecord]


class TrainStats(Shapes, total=False):
    """Shapes and statistics of the training split, over all its sequences and steps.

    Attributes
    ----------
    num_input_features, num_params, num_labels : int
        Columns.
    sequence_length : int
        Steps of a sequence, padding included.
    split_seed : int
        Seed of the split.
    mean, std : ndarray, shape (n_labels,)
        Of standardised labels, in their units; `labels_` of labels that are not standardised; `inputs_` and `params_`
        are those of the load and of the parameters.
    params_min, params_max : ndarray, shape (n_params,)
        Range of the parameters.
    input_names, param_names, label_names : list of str
        Names of the columns.
    fingerprint : str
        Hash of the sequences and their order.
    num_targets : int
        Outputs of the network, where they are not the labels.
    targets : TargetsRecord
        What these outputs are.
    """

    sequence_length: int
    split_seed: int
    mean: PerColumn
    std: PerColumn
    labels_mean: PerColumn
    labels_std: PerColumn
    inputs_mean: PerColumn
    inputs_std: PerColumn
    params_mean: PerColumn
    params_std: PerColumn
    params_min: PerColumn
    params_max: PerColumn
    input_names: list[str]
    param_names: list[str]
    label_names: list[str]
    fingerprint: str
    num_targets: int
    targets: TargetsRecord
    version: str


def read_train_stats(path: Path) -> TrainStats:
    """Read and check `train_stats.json`.

    Raises
    ------
    ModelError
        If the file is broken, or does not hold the shapes of the network.
    """
    try:
        content = layout.read_json(path)
    except RecordError as error:
        raise ModelError(str(error)) from error
    return checked_train_stats(content, path)


def write_train_stats(path: Path, stats: Mapping[str, Any]) -> None:
    """Write `train_stats.json`, arrays as lists."""
    layout.write_json(path, {key: plain(value) for key, value in stats.items()})


def checked_train_stats(content: object, path: Path) -> TrainStats:
    """Return statistics once they are known to hold the shapes of the network.

    Raises
    ------
    ModelError
        If one of them is missing or no whole number from 1; `path` names the file.
    """
    if not isinstance(content, dict):
        raise ModelError(f"{path}: is broken: a mapping is needed, this is a {type(content).__name__}.")
    for name in SHAPES:
        value = content.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{path}: is broken: {name} must be a whole number from 1, it is {value!r}.")
    return cast(TrainStats, content)


def shape_in(stats: Mapping[str, Any], name: str) -> int:
    """Return one of the shapes of statistics that a user may have made.

    Raises
    ------
    ModelError
        If it is missing.
    """
    if name not in stats:
        raise ModelError(f"train_stats has no {name}; it has {', '.join(stats)}.")
    return int(stats[name])


def input_names_of(stats: Mapping[str, Any]) -> list[str]:
    """Return the load features of a model, `input_<k>` where its statistics do not name them."""
    return list(stats.get("input_names") or (f"input_{k}" for k in range(stats["num_input_features"])))


def param_names_of(stats: Mapping[str, Any]) -> list[str]:
    """Return the parameters of a model, `param_<k>` where its statistics do not name them."""
    return list(stats.get("param_names") or (f"param_{k}" for k in range(stats["num_params"])))


def label_names_of(stats: Mapping[str, Any]) -> list[str]:
    """Return the labels of a model, `label_<k>` where its statistics do not name them."""
    return list(stats.get("label_names") or (f"label_{k}" for k in range(stats["num_labels"])))


def columns_in(stats: Mapping[str, Any], name: str) -> NDArray[Any]:
    """Return a statistic of all columns, (n_columns,), float64.

    Raises
    ------
    ModelError
        If it is missing, or holds anything else than finite numbers.
    """
    if name not in stats:
        raise ModelError(f"train_stats has no {name}, which the configuration asks for; it has {', '.join(stats)}.")
    try:
        values = np.asarray(stats[name], "float64")
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if not np.isfinite(values).all():
        raise ModelError(f"train_stats: {name} must be finite numbers, it is {stats[name]!r}.")
    return values


def plain(value: Any) -> Any:
    """Return lists and numbers of Python for those of NumPy, in mappings too."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
