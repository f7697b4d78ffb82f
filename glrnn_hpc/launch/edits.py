"""Edits of a sweep's file after the sweep was made: taken over when it is resumed, or refused with the difference."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from glrnn_hpc.collector.sweep_data import check_same_data, with_moved_data
from glrnn_hpc.config import load_yaml
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.launch.data_checks import with_absolute_data
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.spec_changes import DATA_PATH, SpecChange, allowed_changes
from glrnn_hpc.search.sweep import load_sweep, trial_config
from glrnn_hpc.study.study import SweepStudy

logger = logging.getLogger(__name__)


def edited_sweep(
    study: SweepStudy, directory: str | None, raw_data: str | Path | None = None
) -> tuple[SweepSpec, list[SpecChange]]:
    """Return a sweep as its file says now, and in what it differs from the sweep that was made.

    Parameters
    ----------
    study : SweepStudy
        Of the sweep.
    directory : str or None
        Folder of the user's own code.
    raw_data : path, optional
        Where the data are now, if it is not where the file says.

    Raises
    ------
    ConfigError
        If the file is wrong, or has changed in what decides on the trials.
    DataError
        If the data have another path and are not those of the trials.
    """
    file = study.folder.sweep
    spec = load_sweep(file, directory=directory or str(Path.cwd()))
    spec = with_absolute_data(spec if raw_data is None else with_moved_data(spec, raw_data))
    if not study.holds_sweep:
        _check_trials_agree(study)
    changes = allowed_changes(study.made, spec, file)
    for change in changes:
        logger.info("%s: %s", file, change)
    if any(change.path == DATA_PATH for change in changes):
        check_same_data(study, spec)
    # In the order of the sweep that was made: the points of a grid and of a random search depend on it.
    now = {parameter.name: parameter for parameter in spec.parameters}
    parameters = tuple(now[parameter.name] for parameter in study.made.parameters)
    return dataclasses.replace(spec, parameters=parameters), changes


def _check_trials_agree(study: SweepStudy) -> None:
    """Check the file of a sweep of an earlier version, which kept no copy, by the configurations of its trials."""
    spec = study.spec
    searched = {parameter.name for parameter in spec.searched}
    for slot in study.slots():
        path = study.folder.trial(slot.number).config
        if not slot.params or not path.exists():
            continue
        if slot.params.keys() != searched:
            differences = [f"it searches {', '.join(sorted(searched))}, the trial {', '.join(sorted(slot.params))}"]
        else:
            trained, now = load_yaml(path), trial_config(spec, slot.params).as_dict()
            keys = [key for key in trained if key != "raw_data" and key in now and now[key] != trained[key]]
            differences = [f"{key} is {now[key]} there and {trained[key]} in the trial" for key in keys]
        if differences:
            raise ConfigError(
                f"{study.folder.sweep}: is not the sweep that trial {slot.number} is of: {'; '.join(differences)}. "
                "Put these values back, or make a new sweep with another --out."
            )
