"""Split of sequences into training, validation and test, and the statistics of the training split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import windows
from glrnn_hpc.config import (
    PreprocessingConfig,
    split_sizes,
)
from glrnn_hpc.data.shared import SequenceMoments, StackedGroups, take_moments
from glrnn_hpc.errors import DataError
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.records.train_stats import TrainStats, columns_in
from glrnn_hpc.scaling import Scaling
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.targets import Targets

Array = NDArray[Any]

#: Labels that are transformed at once, which bounds the memory.
_VALUES_AT_ONCE = 2**21


def split_ids(n: int, train_frac: float, val_frac: float, seed: int) -> dict[str, Array]:
    """Split whole sequences as GrainLearning does, so that its models' test sequences stay test sequences.

    Raises
    ------
    DataError
        If a split would be empty.
    """
    # RandomState, not default_rng: it gives the permutation of GrainLearning's seeds.
    order = np.random.RandomState(seed).permutation(n)
    n_train, n_val, _ = split_sizes(n, train_frac, val_frac)
    parts = np.split(order, [n_train, n_train + n_val])
    return dict(zip(("train", "val", "test"), parts, strict=True))


def split_and_scale(
    stack: StackedGroups,
    rows: Array,
    params: Array,
    config: PreprocessingConfig,
    names: Mapping[str, Any],
    seed: int,
    *,
    columns: Array | None = None,
    targets: Targets | None = None,
) -> PreparedData:
    """Split by whole sequences and take statistics of the training split, without its padding.

    Parameters
    ----------
    stack : StackedGroups
        The data; nothing of them is copied.
    rows : ndarray, shape (n,)
        Rows of the stack, in the merged order.
    params : ndarray, shape (n, n_params), float32
        Their extended parameters.
    config : PreprocessingConfig
        How to split, pad and scale.
    names : dict
        More entries for `train_stats`.
    seed : int
        Of the split.
    columns : ndarray, shape (n_used,), optional
        Columns of the load that are used; all of them by default.
    targets : Targets, optional
        What is learnt in place of the labels, not standardised.

    Raises
    ------
    UntransformableLabel
        If a label holds a value that its transform does not take.
    """
    sequences = Sequences(stack.inputs, stack.outputs, rows, params, config.pad_length, columns=columns)
    windows.n_windows(sequences.n_steps, config.window_size, config.window_step)
    ids = split_ids(len(rows), config.train_frac, config.val_frac, seed)
    stats: TrainStats = {
        "sequence_length": sequences.n_steps,
        "num_input_features": stack.inputs.shape[2] if columns is None else len(columns),
        "num_params": params.shape[1],
        "num_labels": stack.outputs.shape[2],
        "split_seed": seed,
    }
    stats.update(names)  # type: ignore[typeddict-item]
    train = np.sort(ids["train"])
    mean, std = stack.output_moments.merged(rows[train])
    if config.standardize_outputs and targets is None:
        stats["mean"], stats["std"] = mean, std
    else:
        # GrainLearning has `mean` and `std` of standardised labels only; errors are told in proportion to these.
        stats["labels_mean"], stats["labels_std"] = mean, std
    if targets is not None:
        moments = target_moments(stack.outputs, rows, params, targets)
        if config.standardize_outputs:
            targets = targets.standardised(*moments.merged(train))
        stats["num_targets"], stats["targets"] = len(targets.transforms), targets.record()
        sequences = replace(sequences, targets=targets)
    used = slice(None) if columns is None else columns
    stats["inputs_mean"], stats["inputs_std"] = (each[used] for each in stack.input_moments.merged(rows[train]))
    values = params[train].astype("float64")
    of_params = SequenceMoments(values, np.zeros_like(values), 1)
    stats["params_mean"], stats["params_std"] = of_params.merged(np.arange(len(train)))
    # Beyond them a surrogate extrapolates.
    stats["params_min"], stats["params_max"] = values.min(axis=0), values.max(axis=0)
    if config.standardize_outputs and targets is None:
        sequences = replace(sequences, label_scaling=scaling_of(stats))
    splits = {name: sequences.take(part) for name, part in ids.items()}
    return PreparedData(splits, stats, config.window_size, config.window_step)


class UntransformableLabel(DataError):
    """Value of a label that its transform does not take.

    Attributes
    ----------
    sequence, step : int
        Place of the sequence in the merged order, and step without padding.
    """

    def __init__(self, text: str, sequence: int, step: int) -> None:
        super().__init__(text)
        self.sequence, self.step = sequence, step


def target_moments(labels: Array, rows: Array, params: Array, targets: Targets) -> SequenceMoments:
    """Return the moments of the targets of each sequence over its steps, in the order of `rows`.

    Parameters
    ----------
    labels : ndarray, shape (n_rows, n_steps, n_labels), float32
        Raw labels.
    rows : ndarray, shape (n,)
        Which rows.
    params : ndarray, shape (n, n_params)
        Their parameters.
    targets : Targets
        Not standardised.

    Raises
    ------
    UntransformableLabel
        If a label holds a value that its transform does not take.
    """
    n_steps, n_targets = labels.shape[1], len(targets.transforms)
    mean, m2 = np.empty((len(rows), n_targets)), np.empty((len(rows), n_targets))
    step = max(1, _VALUES_AT_ONCE // (n_steps * labels.shape[2]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        raw = labels[rows[part]].astype("float64")
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            values = targets.of_labels(raw, params[part, None].astype("float64")).astype("float32")
        if not np.isfinite(values).all():
            sequence, at, target = np.argwhere(~np.isfinite(values))[0].tolist()
            transform = targets.transforms[target]
            value = raw[sequence, at, targets.label_names.index(transform.label)]
            divided = ""
            if transform.reference is not None:
                reference = params[start + sequence, targets.param_names.index(transform.reference)]
                divided = f" and the parameter {transform.reference} is {reference:g}"
            raise UntransformableLabel(
                f"{transform.label} is {value:g}{divided}; label_scaling: physical takes its {transform.kind}, which "
                f"needs {transform.domain()}. Remove the sequence, or set label_scaling: raw.",
                start + sequence,
                at,
            )
        take_moments(values, mean[part], m2[part])
    return SequenceMoments(mean, m2, n_steps)


def scaling_of(stats: Mapping[str, Any], prefix: str = "") -> Scaling:
    """Return what standardises the labels (no prefix), `inputs_` or `params_`.

    Raises
    ------
    ModelError
        If `train_stats` does not have their mean and std, as finite numbers.
    """
    mean, std = (columns_in(stats, f"{prefix}{name}") for name in ("mean", "std"))
    return Scaling(mean, std)


def label_scaling(stats: Mapping[str, Any]) -> Scaling | None:
    """Return mean and std of the labels in the training, whether it standardised them or not; None if not recorded."""
    for prefix in ("", "labels_"):
        if f"{prefix}mean" in stats and f"{prefix}std" in stats:
            return scaling_of(stats, prefix)
    return None
