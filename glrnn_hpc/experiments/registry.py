"""Registry of experiments: the built-in ones by name, a user's own by `module:Class`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from glrnn_hpc.config import did_you_mean
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.experiments.arrays import ArraysInMemory
from glrnn_hpc.experiments.base import Column, Experiment
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.references import import_reference

#: The key of a configuration that names an experiment.
KEY = "experiment"

#: The experiment of a configuration without that key.
DEFAULT = TRIAXIAL

BUILT_IN: Mapping[str, Experiment] = MappingProxyType(
    {experiment.name: experiment for experiment in (TRIAXIAL, ArraysInMemory())}
)

_COLUMNS = ("contact_params", "inputs", "outputs")


def experiment_of(config: Mapping[str, object], where: str = "config", *, directory: str | None = None) -> Experiment:
    """Return the experiment that a configuration names by its key `experiment`; see `experiment_named`."""
    return experiment_named(config.get(KEY), f"{where}.{KEY}", directory=directory)


def experiment_named(name: object, where: str = KEY, *, directory: str | Path | None = None) -> Experiment:
    """Return an experiment by its name.

    Parameters
    ----------
    name : str, optional
        Of a built-in experiment, or `module:Class` of a user's own; None means `triaxial`.
    where : str
        Key path or option for the messages.
    directory : path, optional
        Where the module of a user's own lies; by default the current folder.

    Raises
    ------
    ConfigError
        If the name is unknown, the class cannot be imported, or lacks a part of an experiment.
    """
    if name is None:
        return DEFAULT
    if isinstance(name, str) and name in BUILT_IN:
        return BUILT_IN[name]
    if not isinstance(name, str) or ":" not in name:
        raise ConfigError(
            f"{where}: there is no experiment {name!r};{did_you_mean(name, BUILT_IN)} Known are {', '.join(BUILT_IN)}. "
            "Name one of your own as module:Class, such as my_tests:Oedometric, a subclass of "
            "glrnn_hpc.experiments.base.Experiment."
        )
    own = import_reference(name, where, directory=directory, example="my_tests:Oedometric")
    if not (isinstance(own, type) and issubclass(own, Experiment)):
        raise ConfigError(
            f"{where}: {name} is no experiment; it must be a subclass of glrnn_hpc.experiments.base.Experiment."
        )
    _check_parts(own, f"{where}: {name}")
    return own()


def is_built_in(name: object) -> bool:
    """Return whether a configuration's value of `experiment` runs no code of a user's own."""
    return name is None or name in BUILT_IN


def _check_parts(own: type[Experiment], where: str) -> None:
    for part in ("name", *_COLUMNS, "type_codes"):
        if not hasattr(own, part):
            raise ConfigError(f"{where} has no `{part}`; an experiment needs name, {', '.join(_COLUMNS)}, type_codes.")
    if not isinstance(own.name, str) or not own.name:
        raise ConfigError(f"{where}: `name` must be a text, it is {own.name!r}.")
    for part in _COLUMNS:
        columns = getattr(own, part)
        if not isinstance(columns, tuple) or not columns or not all(isinstance(each, Column) for each in columns):
            raise ConfigError(f"{where}: `{part}` must be a tuple of one or more Column, it is {columns!r}.")
        names = [column.name for column in columns]
        if len(set(names)) < len(names):
            raise ConfigError(f"{where}: `{part}` names a column twice: {', '.join(names)}.")
    codes = own.type_codes
    if not isinstance(codes, Mapping) or not codes or not all(isinstance(code, int | float) for code in codes.values()):
        raise ConfigError(f"{where}: `type_codes` must map each experiment type to a number, it is {codes!r}.")
    if own.control not in [column.name for column in own.inputs]:
        raise ConfigError(
            f"{where}: `control` must be one of the inputs {', '.join(column.name for column in own.inputs)}, it is "
            f"{own.control!r}."
        )
