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
from glrnn_hpc.data.shared import SequenceMoments, StackedGroups
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.records.train_stats import TrainStats, columns_in
from glrnn_hpc.sequences import Scaling, Sequences

Array = NDArray[Any]


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
    stack: StackedGroups, rows: Array, params: Array, config: PreprocessingConfig, names: Mapping[str, Any], seed: int
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
    """
    sequences = Sequences(stack.inputs, stack.outputs, rows, params, config.pad_length)
    windows.n_windows(sequences.n_steps, config.window_size, config.window_step)
    ids = split_ids(len(rows), config.train_frac, config.val_frac, seed)
    stats: TrainStats = {
        "sequence_length": sequences.n_steps,
        "num_input_features": stack.inputs.shape[2],
        "num_params": params.shape[1],
        "num_labels": stack.outputs.shape[2],
        "split_seed": seed,
    }
    stats.update(names)  # type: ignore[typeddict-item]
    train = np.sort(ids["train"])
    mean, std = stack.output_moments.merged(rows[train])
    if config.standardize_outputs:
        stats["mean"], stats["std"] = mean, std
    else:
        # GrainLearning has `mean` and `std` of standardised labels only; errors are told in proportion to these.
        stats["labels_mean"], stats["labels_std"] = mean, std
    stats["inputs_mean"], stats["inputs_std"] = stack.input_moments.merged(rows[train])
    values = params[train].astype("float64")
    of_params = SequenceMoments(values, np.zeros_like(values), 1)
    stats["params_mean"], stats["params_std"] = of_params.merged(np.arange(len(train)))
    # Beyond them a surrogate extrapolates.
    stats["params_min"], stats["params_max"] = values.min(axis=0), values.max(axis=0)
    if config.standardize_outputs:
        sequences = replace(sequences, label_scaling=scaling_of(stats))
    splits = {name: sequences.take(part) for name, part in ids.items()}
    return PreparedData(splits, stats, config.window_size, config.window_step)


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
