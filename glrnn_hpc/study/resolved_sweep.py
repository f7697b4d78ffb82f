"""Sweep as it was resolved when it was made, kept in its study: what runs, whatever becomes of the sweep file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import optuna

from glrnn_hpc import config, layout
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.search.parameter import Parameter
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep

#: Attribute of the study that holds the sweep.
_SWEEP = "sweep"


def keep(study: optuna.Study, spec: SweepSpec) -> None:
    """Keep a sweep in its study."""
    study.set_user_attr(_SWEEP, spec.as_dict())


def is_kept(study: optuna.Study) -> bool:
    """Whether the study holds its sweep; those of earlier versions do so once they are resumed."""
    return _SWEEP in study.user_attrs


def kept_sweep(study: optuna.Study, folder: layout.SweepFolder, directory: str | None) -> SweepSpec:
    """Return the sweep as it was resolved; the file of the folder, if the sweep was made by a version that kept none.

    Parameters
    ----------
    study : optuna.Study
        Of the sweep.
    folder : SweepFolder
        Of the sweep.
    directory : str or None
        Folder of the user's own code; None for the current folder.

    Raises
    ------
    ConfigError
        If the user's own code cannot be imported any more, or the file is wrong.
    """
    kept = study.user_attrs.get(_SWEEP)
    return load_sweep(folder.sweep if kept is None else kept, directory=directory or str(Path.cwd()))


def with_data_of_file(spec: SweepSpec, folder: layout.SweepFolder) -> SweepSpec:
    """Return a sweep with the path of its data as the sweep file names it now: data may move, settings may not."""
    path: object = None
    with contextlib.suppress(ConfigError):  # while somebody edits the file
        parameters = config.load_yaml(folder.sweep).get("parameters")
        if isinstance(parameters, Mapping):
            entry = parameters.get("raw_data")
            path = entry.get("value") if isinstance(entry, Mapping) else entry
    if not isinstance(path, str) or "raw_data" not in spec.constants:
        return spec
    return with_data_at(spec, path)


def with_data_at(spec: SweepSpec, path: str) -> SweepSpec:
    """Return a sweep with another path of its data."""
    moved = Parameter("raw_data", "constant", (path,))
    parameters_now = tuple(moved if each.name == "raw_data" else each for each in spec.parameters)
    return dataclasses.replace(spec, parameters=parameters_now)
