"""Comparison of sweeps: their trials can be ranked together if data, split, units and goal are the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from glrnn_hpc.collector.provenance import Checksums
from glrnn_hpc.config import RUN_KEYS, RunConfig
from glrnn_hpc.data.hdf5 import read_schema, select_groups
from glrnn_hpc.errors import SweepError
from glrnn_hpc.search.sweep import PREPROCESSOR, experiment_of, is_raw_metric
from glrnn_hpc.study.study import SweepStudy

#: Keys that select the sequences of a training.
_SELECTION_KEYS = ("pressure", "experiment_type")

#: Keys that decide on which sequences, and in which units, a loss is taken.
_COMPARED_KEYS = (*_SELECTION_KEYS, "train_frac", "val_frac", "standardize_outputs")

#: Values of the compared keys and of `metric`, `goal` and `raw_data`; the distribution of a key that is searched.
Settings: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """Setting in which two sweeps differ: its name and both values."""

    name: str
    first: object
    other: object


def check_comparable(studies: list[SweepStudy], checksums: Checksums) -> None:
    """Refuse sweeps whose values cannot be ranked together.

    Raises
    ------
    SweepError
        If a sweep differs from the first one in its metric, goal, data, or in the choice, split or units of these.
    """
    first = studies[0]
    for other in studies[1:]:
        for difference in _differences(first, other):
            raise SweepError(
                f"{other.folder.root}: cannot be ranked together with {first.folder.root}: {difference.name} is "
                f"{difference.other} there and {difference.first} here; collect them one by one."
            )
        _check_same_data(first, other, checksums)


def _check_same_data(first: SweepStudy, other: SweepStudy, checksums: Checksums) -> None:
    files = [study.spec.constants.get("raw_data") for study in (first, other)]
    if files[0] == files[1]:
        return
    sums = [checksums.of(Path(str(file))) for file in files]
    if sums[0] != sums[1]:
        raise SweepError(
            f"{other.folder.root}: cannot be ranked together with {first.folder.root}: their data differ, "
            f"{files[1]} (SHA-256 {sums[1][:12]}…) and {files[0]} ({sums[0][:12]}…); collect them one by one."
        )


def _differences(first: SweepStudy, other: SweepStudy) -> list[Difference]:
    """Return the settings that decide on the meaning of a value, and differ."""
    settings = [_settings_of(study) for study in (first, other)]
    differences = [
        Difference(name, settings[0].get(name), settings[1].get(name))
        for name in dict.fromkeys([*settings[0], *settings[1]])
        if settings[0].get(name) != settings[1].get(name)
    ]
    if any(difference.name in _SELECTION_KEYS for difference in differences):
        groups = [_groups(study, each) for study, each in zip((first, other), settings, strict=True)]
        if groups[0] is not None and groups[0] == groups[1]:  # `All`, and a list of all of them
            return [difference for difference in differences if difference.name not in _SELECTION_KEYS]
    return differences


def _settings_of(study: SweepStudy) -> Settings:
    """Return metric, goal, and the keys that decide on the meaning of a value, with defaults."""
    settings: Settings = {"metric": study.spec.metric, "goal": study.spec.goal}
    # A raw loss has one unit, whatever the network learns.
    compared = _COMPARED_KEYS if is_raw_metric(study.spec.metric) else (*_COMPARED_KEYS, "label_scaling", "exact")
    settings |= {key: RunConfig.model_fields[key].default for key in compared}
    settings |= {
        parameter.name: parameter.values[0] if parameter.is_constant else parameter.as_config()
        for parameter in study.spec.parameters
        # A preprocessor of the user's own decides by keys of its own, too.
        if parameter.name in compared or parameter.name == PREPROCESSOR or parameter.name not in RUN_KEYS
    }
    settings["raw_data"] = "a file" if "raw_data" in study.spec.constants else None
    return settings


def _groups(study: SweepStudy, settings: Settings) -> list[str] | None:
    """Return the names of the groups that all trials take; None if trials differ in it, or read no data file."""
    pressure, experiment_type = (settings[key] for key in _SELECTION_KEYS)
    if isinstance(pressure, dict) or isinstance(experiment_type, dict) or "raw_data" not in study.spec.constants:
        return None
    schema = read_schema(Path(study.spec.data_file), experiment_of(study.spec))
    return [group.name for group in select_groups(schema, pressure, experiment_type)]
