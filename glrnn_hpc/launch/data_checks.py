"""Checks of a sweep's data before any worker is started."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from glrnn_hpc.config import RunConfig, split_sizes
from glrnn_hpc.data.hdf5 import check_same_shapes, check_values, read_schema, select_groups
from glrnn_hpc.errors import ConfigError, WindowError
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import experiment_of, preprocessor_of


def check_data(spec: SweepSpec) -> None:
    """Check that the data exist and that every group choice and window of the sweep fits them.

    Raises
    ------
    DataError, WindowError
        If the file, a group or a part of their values is missing, merged groups differ, a split is empty, or a window
        is as long as the sequences.
    """
    schema = read_schema(spec.data_file, experiment_of(spec))
    for pressure in _extremes(spec, "pressure"):
        for experiment_type in _extremes(spec, "experiment_type"):
            groups = select_groups(schema, pressure, experiment_type)
            check_same_shapes(schema, groups)
            check_values(schema, groups)
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
