"""Shapes that a network is built for, read from the statistics of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glrnn_hpc.errors import ConfigError

#: The shapes, and the names that GrainLearning's older files use for them.
_OLD_NAMES = {
    "num_input_features": "num_load_features",
    "num_params": "num_contact_params",
    "num_labels": "num_labels",
}


def shapes_of(input_shapes: Mapping[str, Any]) -> dict[str, int]:
    """Return `num_input_features`, `num_params` and `num_labels`, such as `train_stats` holds them.

    Where a network learns other targets than the labels, `num_labels` is their number: `num_targets`.

    Raises
    ------
    ConfigError
        If one of them is missing.
    """
    shapes = {name: _shape(input_shapes, name) for name in _OLD_NAMES}
    if "num_targets" in input_shapes:
        shapes["num_labels"] = int(input_shapes["num_targets"])
    return shapes


def _shape(shapes: Mapping[str, Any], name: str) -> int:
    for known in (name, _OLD_NAMES[name]):
        if known in shapes:
            return int(shapes[known])
    raise ConfigError(f"input_shapes: {name} is missing; it has {', '.join(shapes) or 'nothing'}.")
