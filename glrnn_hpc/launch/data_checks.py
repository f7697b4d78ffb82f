"""Checks of a sweep's data before any worker is started."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import PREPROCESSING_KEYS, PreprocessingConfig, RunConfig, parse, split_sizes
from glrnn_hpc.data.hdf5 import (
    DATASETS,
    GroupShape,
    Schema,
    check_same_shapes,
    check_values,
    read_schema,
    select_groups,
)
from glrnn_hpc.data.hdf5_access import find_dataset, open_file, read_slab
from glrnn_hpc.data.merged_groups import chosen_features
from glrnn_hpc.errors import ConfigError, GlrnnError, WindowError
from glrnn_hpc.experiments.base import ExtraParameter, Group
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import experiment_of, preprocessor_of
from glrnn_hpc.targets import choose_targets

#: Keys that append a parameter.
_SWITCHES = sorted(key for key in PREPROCESSING_KEYS if key.startswith("add_"))


def check_data(spec: SweepSpec) -> None:
    """Check that the data exist and that every group choice, parameter and window of the sweep fits them.

    Raises
    ------
    ConfigError
        If a parameter is to be appended that the experiment does not have, a load feature is missing, or the experiment
        declares no targets for the columns.
    DataError, WindowError
        If the file, a group or a part of its values is missing, holds something else than numbers or does not tell a
        parameter that is to be appended, merged groups differ, a split is empty, or a window is too long.
    """
    schema = read_schema(spec.data_file, experiment_of(spec))
    appended = _appended_parameters(spec)
    checked: set[str] = set()
    for pressure in _extremes(spec, "pressure"):
        for experiment_type in _extremes(spec, "experiment_type"):
            groups = select_groups(schema, pressure, experiment_type)
            check_same_shapes(schema, groups)
            _check_columns(spec, schema, groups)
            unchecked = [group for group in groups if group.name not in checked]
            check_values(schema, unchecked)
            _check_first_sequences(schema, unchecked, appended)
            checked |= {group.name for group in groups}
            n_sequences = sum(group.n_samples for group in groups)
            for train_frac in _extremes(spec, "train_frac"):
                for val_frac in _extremes(spec, "val_frac"):
                    split_sizes(n_sequences, train_frac, val_frac)
            shortest = min(groups, key=lambda group: group.n_steps)
            shortest_padding = min(_extremes(spec, "pad_length"))
            for window_size in _extremes(spec, "window_size"):
                if window_size >= shortest.n_steps + shortest_padding:
                    raise WindowError(
                        f"parameters.window_size: {window_size} does not fit the {shortest.n_steps} steps of "
                        f"{shortest.name} in {schema.path}; choose at most {shortest.n_steps + shortest_padding - 1}."
                    )


def _check_columns(spec: SweepSpec, schema: Schema, groups: Sequence[GroupShape]) -> None:
    """Check that the groups have the load features that any trial chooses, and what its targets need.

    Raises
    ------
    ConfigError
        If a load feature is missing, or the experiment does not declare the targets for these columns.
    """
    experiment = experiment_of(spec)
    keys = ("inputs", "inputs_drained", "inputs_undrained", "label_scaling", "exact", *_SWITCHES)
    for values in itertools.product(*(_extremes(spec, key) for key in keys)):
        chosen = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        config = parse(PreprocessingConfig, {"raw_data": spec.data_file, **chosen}, "parameters")
        columns = {
            "input": chosen_features(schema, groups, config, experiment.derived_features()),
            "param": [*schema.contact_params, *(each.name for each in experiment.appended_parameters(config))],
            "label": schema.outputs,
        }
        choose_targets(experiment, config, columns, {group.experiment_type for group in groups})


def _appended_parameters(spec: SweepSpec) -> tuple[ExtraParameter, ...]:
    """Return the parameters that a trial of the sweep may append to the contact parameters.

    Raises
    ------
    ConfigError
        If the experiment does not have one of them.
    """
    switches = {key: any(_extremes(spec, key)) for key in _SWITCHES}
    config = parse(PreprocessingConfig, {"raw_data": spec.data_file, **switches}, "parameters")
    return experiment_of(spec).appended_parameters(config)


def _check_first_sequences(schema: Schema, groups: Sequence[GroupShape], appended: Sequence[ExtraParameter]) -> None:
    """Check by the first sequence of each group that it holds numbers, and tells the appended parameters.

    Raises
    ------
    DataError
        If it does not: each trial would fail.
    """
    with open_file(schema.path) as file:
        for shape in groups:
            if shape.n_samples == 0:
                continue
            arrays: dict[str, NDArray[Any]] = {}
            for name in DATASETS:
                dataset = find_dataset(file, f"{shape.name}/{name}")
                arrays[name] = np.empty((1, *dataset.shape[1:]), "float32")
                if math.prod(arrays[name].shape):
                    read_slab(dataset, slice(0, 1), arrays[name], n_parts=1, is_collective=False)
            group = Group(schema.path, shape.pressure, shape.experiment_type, schema.outputs, arrays["outputs"])
            for parameter in appended:
                try:
                    parameter.values(group)
                except GlrnnError:
                    raise
                except Exception:
                    # The user's code may want all sequences of the group: the trials will tell.
                    continue


def with_absolute_data(spec: SweepSpec) -> SweepSpec:
    """Return the sweep with the absolute path of its data file, as workers may start in another folder.

    Raises
    ------
    ConfigError
        If the sweep names no file and has no preprocessor of its own, or the text is no path.
    """
    if "raw_data" not in spec.constants:
        if preprocessor_of(spec) is not None:
            return spec
        raise ConfigError("parameters.raw_data: one file for the whole sweep is needed; give it as a value.")
    try:
        path = Path(spec.data_file).resolve()
    except ConfigError:
        raise
    except (ValueError, RuntimeError) as error:  # a zero byte, a loop of links
        raise ConfigError(f"parameters.raw_data: no path of a file: {error}") from error
    absolute = Parameter("raw_data", "constant", (str(path),))
    return dataclasses.replace(
        spec, parameters=tuple(absolute if each.name == "raw_data" else each for each in spec.parameters)
    )


def _extremes(spec: SweepSpec, key: str) -> list[Any]:
    """Return the choices or the bounds of a key in the sweep; the default of the configuration if it is not there."""
    for parameter in spec.parameters:
        if parameter.name == key:
            return parameter.extremes()
    return [RunConfig.model_fields[key].default]
