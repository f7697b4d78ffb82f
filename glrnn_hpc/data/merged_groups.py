"""Groups of a data file merged into one: the load features that are chosen and common to them, and their rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import PreprocessingConfig, did_you_mean
from glrnn_hpc.data.hdf5 import GroupShape, Schema, check_same_shapes
from glrnn_hpc.data.shared import DemData, StackedGroups, stack_arrays
from glrnn_hpc.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

Array = NDArray[Any]


@dataclass(frozen=True)
class MergedGroups:
    """Sequences of several groups.

    Attributes
    ----------
    stack : StackedGroups
        Where they lie: the shared arrays, or copies where the groups have their load features in different columns.
    rows : ndarray, shape (n,)
        Rows of the stack, in the order of the groups.
    params : ndarray, shape (n, n_params), float32
        Extended parameters.
    columns : ndarray, shape (n_used,), or None
        Columns of the stack's inputs that are used; None for all.
    """

    stack: StackedGroups
    rows: Array
    params: Array
    columns: Array | None


def chosen_features(schema: Schema, shapes: Sequence[GroupShape], config: PreprocessingConfig) -> tuple[str, ...]:
    """Return the load features that are chosen for all groups, in the order of the first one.

    Raises
    ------
    ConfigError
        If a group lacks one that is chosen for it.
    DataError
        If no feature is common to all groups.
    """
    chosen = []
    for shape in shapes:
        names = schema.inputs_of(shape)
        key, wanted = _key_of(config, shape.experiment_type)
        for name in wanted or ():
            if name not in names:
                hint = did_you_mean(name, names, " ", "")
                raise ConfigError(
                    f"{key}: {shape.name} of {schema.path} has no load feature {name}; it has {', '.join(names)}.{hint}"
                )
        chosen.append([name for name in names if wanted is None or name in wanted])
    common = tuple(name for name in chosen[0] if all(name in others for others in chosen[1:]))
    if not common:
        listed = "; ".join(f"{shape.name}: {', '.join(names)}" for shape, names in zip(shapes, chosen, strict=True))
        raise DataError(
            f"{schema.path}: the groups have no load feature in common, on which they could be merged ({listed}); "
            "select fewer groups, or other features (inputs)."
        )
    return common


def merge_groups(
    data: DemData, shapes: Sequence[GroupShape], params: Array, config: PreprocessingConfig
) -> MergedGroups:
    """Merge groups on the load features that are chosen for all of them.

    Parameters
    ----------
    data : DemData
        Where the groups are.
    shapes : sequence of GroupShape
        The groups, in their order.
    params : ndarray, shape (n, n_params)
        Extended parameters of all their sequences.
    config : PreprocessingConfig
        Its keys `inputs`, `inputs_drained` and `inputs_undrained`.

    Raises
    ------
    DataError
        If they differ in parameters, outputs or steps.
    ConfigError
        If a feature is missing; see `chosen_features`.
    """
    check_same_shapes(data.schema, shapes)
    features = chosen_features(data.schema, shapes, config)
    columns = {tuple(data.schema.inputs_of(shape).index(name) for name in features) for shape in shapes}
    n_inputs = {shape.n_inputs for shape in shapes}
    if len(columns) == 1 and len(n_inputs) == 1:
        stack, rows = data.rows([shape.name for shape in shapes])
        (used,) = columns
        is_all = used == tuple(range(*n_inputs))
        return MergedGroups(stack, rows, params, None if is_all else np.array(used))
    # Their columns lie in different places: no selection of one shared array gives them.
    logger.info(
        "%s: the groups are merged on %s, the load features that all have.", data.schema.path, ", ".join(features)
    )
    parts = []
    for shape in shapes:
        arrays = data.groups[shape.name]
        names = data.schema.inputs_of(shape)
        parts.append((arrays.inputs[..., [names.index(name) for name in features]], arrays.outputs))
    inputs, outputs = (np.concatenate(each) for each in zip(*parts, strict=True))
    stack = stack_arrays(inputs, params, outputs)
    return MergedGroups(stack, np.arange(len(params)), params, None)


def _key_of(config: PreprocessingConfig, experiment_type: str) -> tuple[str, list[str] | None]:
    """Return the key that chooses the load features of a type, and its value."""
    key = f"inputs_{experiment_type}"
    own = getattr(config, key, None)
    return ("inputs", config.inputs) if own is None else (key, own)
