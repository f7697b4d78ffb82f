"""Groups of a data file merged into one: the load features that are chosen and common to them, and their rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import PreprocessingConfig, did_you_mean
from glrnn_hpc.data.hdf5 import GroupShape, Schema, check_same_shapes
from glrnn_hpc.data.shared import DemData, SequenceMoments, StackedGroups, stack_arrays, take_moments
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.derived_features import DerivedFeatures, given_features, load_array, owners_of

logger = logging.getLogger(__name__)

Array = NDArray[Any]


@dataclass(frozen=True)
class MergedGroups:
    """Sequences of several groups.

    Attributes
    ----------
    stack : StackedGroups
        Where they lie: the shared arrays, or, with derived load features or groups that have theirs in different
        columns, copies.
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


def chosen_features(
    schema: Schema,
    shapes: Sequence[GroupShape],
    config: PreprocessingConfig,
    derived: Sequence[DerivedFeatures] = (),
) -> tuple[str, ...]:
    """Return the load features that are chosen for all groups: those of the first one in its order, then derived ones.

    Parameters
    ----------
    schema : Schema
        Of the file.
    shapes : sequence of GroupShape
        The groups.
    config : PreprocessingConfig
        Its keys `inputs`, `inputs_drained` and `inputs_undrained`.
    derived : sequence of DerivedFeatures
        What the experiment can derive; their names stand for all features of each of them.

    Raises
    ------
    ConfigError
        If a group lacks one that is chosen for it, a derived feature is chosen without what it follows from, or a name
        means both a column and a derived feature.
    DataError
        If no feature is common to all groups.
    """
    chosen = [_chosen_of(schema, shape, config, derived) for shape in shapes]
    common = tuple(name for name in chosen[0] if all(name in others for others in chosen[1:]))
    if not common:
        listed = "; ".join(f"{shape.name}: {', '.join(names)}" for shape, names in zip(shapes, chosen, strict=True))
        raise DataError(
            f"{schema.path}: the groups have no load feature in common, on which they could be merged ({listed}); "
            "select fewer groups, or other features (inputs)."
        )
    return common


def merge_groups(
    data: DemData,
    shapes: Sequence[GroupShape],
    params: Array,
    config: PreprocessingConfig,
    derived: Sequence[DerivedFeatures] = (),
) -> MergedGroups:
    """Merge groups on the load features that are chosen for all of them.

    The shared arrays are used in place where the features are columns of the file, the same in all groups. Otherwise
    each process computes an array of the chosen features of these groups, and of its moments; the responses are copied
    only where the groups do not lie in one stack.

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
    derived : sequence of DerivedFeatures
        What the experiment can derive.

    Raises
    ------
    DataError
        If they differ in parameters, outputs or steps, or a derived feature is not as it is declared.
    ConfigError
        If a feature is missing; see `chosen_features`.
    """
    check_same_shapes(data.schema, shapes)
    features = chosen_features(data.schema, shapes, config, derived)
    given = given_features(features, derived)
    columns = {tuple(data.schema.inputs_of(shape).index(name) for name in given) for shape in shapes}
    n_inputs = {shape.n_inputs for shape in shapes}
    if len(given) == len(features) and len(columns) == 1 and len(n_inputs) == 1:
        stack, rows = data.rows([shape.name for shape in shapes])
        (used,) = columns
        is_all = used == tuple(range(*n_inputs))
        return MergedGroups(stack, rows, params, None if is_all else np.array(used))
    if len(columns) > 1 or len(n_inputs) > 1:
        # Their columns lie in different places: no selection of one shared array gives them.
        listed = ", ".join(features)
        logger.info("%s: the groups are merged on %s, the load features that all have.", data.schema.path, listed)
    parts = []
    for shape in shapes:
        names, inputs = data.schema.inputs_of(shape), data.groups[shape.name].inputs
        parts.append(load_array(features, {name: inputs[..., k] for k, name in enumerate(names)}, derived))
    if len(n_inputs) == 1:
        stack, rows = _with_inputs(data, [shape.name for shape in shapes], parts)
        return MergedGroups(stack, rows, params, None)
    outputs = np.concatenate([data.groups[shape.name].outputs for shape in shapes])
    stack = stack_arrays(np.concatenate(parts), params, outputs)
    return MergedGroups(stack, np.arange(len(params)), params, None)


def _with_inputs(data: DemData, names: Sequence[str], parts: Sequence[Array]) -> tuple[StackedGroups, Array]:
    """Return the stack of some groups with other load features, (n, n_steps, n_used) of each, and their rows."""
    stack, rows = data.rows(names)
    n, n_steps, n_used = len(stack.inputs), *parts[0].shape[1:]
    # Of zeros: groups that are not chosen take no memory.
    inputs, mean, m2 = np.zeros((n, n_steps, n_used), "float32"), np.zeros((n, n_used)), np.zeros((n, n_used))
    for name, part in zip(names, parts, strict=True):
        of_group = data.locations[name][1]
        inputs[of_group] = part
        take_moments(part, mean[of_group], m2[of_group])
    inputs.flags.writeable = False
    return replace(stack, inputs=inputs, input_moments=SequenceMoments(mean, m2, n_steps)), rows


def _chosen_of(
    schema: Schema, shape: GroupShape, config: PreprocessingConfig, derived: Sequence[DerivedFeatures]
) -> list[str]:
    """Return the load features that are chosen for one group, those of the file first."""
    names, owners = schema.inputs_of(shape), owners_of(derived)
    groups = {each.name: each for each in derived}
    key, wanted = _key_of(config, shape.experiment_type)
    if wanted is None:
        wanted = list(names)
        ambiguous = [name for name in names if name in owners]
    else:
        ambiguous = [name for name in wanted if name in names and (name in owners or name in groups)]
    if ambiguous:
        raise ConfigError(
            f"{key}: {ambiguous[0]} is a column of {shape.name} of {schema.path}, and a load feature that the "
            "experiment derives; rename the column (attribute inputs of the file), or choose the features without it."
        )
    expanded: list[str] = []
    for name in wanted:
        if name not in (*names, *owners, *groups):
            hint = did_you_mean(name, [*names, *owners, *groups], " ", "")
            can = f", and derived from them {_listed(derived, names)}" if _listed(derived, names) else ""
            raise ConfigError(
                f"{key}: {shape.name} of {schema.path} has no load feature {name}; it has "
                f"{', '.join(names)}{can}.{hint}"
            )
        expanded += groups[name].names() if name in groups else [name]
    for name in expanded:
        needs = owners[name].needs if name in owners else ()
        if lacking := [need for need in needs if need not in names]:
            raise ConfigError(
                f"{key}: {name} is derived from {', '.join(needs)}, but {shape.name} of {schema.path} has no load "
                f"feature {', '.join(lacking)}; it has {', '.join(names)}."
            )
        if lacking := [need for need in needs if need not in expanded]:
            raise ConfigError(
                f"{key}: {name} is derived from {', '.join(needs)}; choose {', '.join(lacking)}, too: a model is given "
                "all that its load features follow from."
            )
    return [name for name in (*names, *owners) if name in expanded]


def _listed(derived: Sequence[DerivedFeatures], names: Sequence[str]) -> str:
    """Return what can be derived from some columns, as text."""
    possible = [each for each in derived if all(need in names for need in each.needs)]
    return "; ".join(f"{each.name} ({', '.join(each.names())})" for each in possible)


def _key_of(config: PreprocessingConfig, experiment_type: str) -> tuple[str, list[str] | None]:
    """Return the key that chooses the load features of a type, and its value."""
    key = f"inputs_{experiment_type}"
    own = getattr(config, key, None)
    return ("inputs", config.inputs) if own is None else (key, own)
