"""What `glrnn sweep` and `glrnn resume` do, from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.config import say_defaults
from glrnn_hpc.data.hdf5 import read_schema, select_groups
from glrnn_hpc.errors import ConfigError, WindowError
from glrnn_hpc.launch import local
from glrnn_hpc.search import study
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.sweep import SweepSpec, trial_config
from glrnn_hpc.worker import devices

Report = Callable[[study.SweepStudy], None]


def run_sweep(
    spec: SweepSpec,
    out: str | Path,
    *,
    n_workers: int = 1,
    ranks_per_worker: int | None = None,
    n_trials: int | None = None,
    wait: bool = True,
    report: Report = lambda _: None,
) -> layout.SweepFolder:
    """Create the sweep's folder and run its trials on this machine.

    Parameters
    ----------
    spec : SweepSpec
        The sweep, as `search.sweep.load_sweep` reads it.
    out : path
        Folder to make; it must not exist, or be empty.
    n_workers, ranks_per_worker : int
        Workers, and MPI ranks of each; by default one worker with one rank per CPU.
    n_trials : int, optional
        Number of trials in place of `run_cap`.
    wait : bool
        Whether to wait until the trials are done.
    report : callable
        Called with the study about twice a second while waiting.

    Raises
    ------
    ConfigError, DataError, WindowError
        If the sweep cannot work; nothing is started and no folder is made.
    SweepError
        If `out` holds a sweep already, or the workers died and trials are left.
    LaunchError
        If the ranks cannot be started here.
    """
    n_slots = spec.n_trials(n_trials)
    spec = _with_absolute_data(spec)
    check_data(spec)
    point = {parameter.name: parameter.extremes()[0] for parameter in spec.searched}
    say_defaults(trial_config(spec, point), {*spec.constants, *point}, "parameters")
    n_ranks = ranks_per_worker or local.default_ranks(n_slots, devices.n_cpus())
    local.command(Path(out), "check", n_ranks)
    folder = study.create(Path(out).resolve(), spec, n_slots, {"workers": n_workers, "ranks_per_worker": n_ranks})
    _launch(folder, n_workers, n_ranks, wait, report)
    return folder


def resume_sweep(
    out: str | Path, *, n_workers: int | None = None, wait: bool = True, report: Report = lambda _: None
) -> layout.SweepFolder:
    """Start the workers that a sweep lacks and go on until its trials are done.

    Raises
    ------
    SweepError
        If `out` is not the folder of a sweep, or the workers died and trials are left.
    """
    folder = layout.SweepFolder(Path(out).resolve())
    state = study.SweepStudy(folder).folder.state
    wanted = layout.read_json(state)
    if not study.SweepStudy(folder).is_finished():
        layout.write_json(state, {**wanted, "state": "running"})
        _launch(folder, n_workers or wanted["workers"], wanted["ranks_per_worker"], wait, report)
    elif wanted["state"] != "finished":
        layout.write_json(state, {**wanted, "state": "finished"})
    return folder


def check_data(spec: SweepSpec) -> None:
    """Check that the data exist and that every group choice and window of the sweep fits them.

    Raises
    ------
    DataError, WindowError
        If the file or a group is missing, or a window is as long as the sequences.
    """
    by_name = {parameter.name: parameter for parameter in spec.parameters}
    schema = read_schema(spec.constants["raw_data"])
    for pressure in _values(by_name, "pressure"):
        for experiment_type in _values(by_name, "experiment_type"):
            groups = select_groups(schema, pressure, experiment_type)
            for window_size in _values(by_name, "window_size", 10):
                shortest = min(groups, key=lambda group: group.n_steps)
                if window_size >= shortest.n_steps:
                    raise WindowError(
                        f"parameters.window_size: {window_size} does not fit the {shortest.n_steps} steps of "
                        f"{shortest.name} in {schema.path}; choose at most {shortest.n_steps - 1}."
                    )


def _values(by_name: dict[str, Parameter], name: str, default: Any = "All") -> list[Any]:
    return by_name[name].extremes() if name in by_name else [default]


def _with_absolute_data(spec: SweepSpec) -> SweepSpec:
    """Workers may start in another folder, so that a relative path would mean another file there."""
    if "raw_data" not in spec.constants:
        raise ConfigError("parameters.raw_data: one file for the whole sweep is needed; give it as a value.")
    absolute = Parameter("raw_data", "constant", (str(Path(spec.constants["raw_data"]).resolve()),))
    return dataclasses.replace(
        spec, parameters=tuple(absolute if each.name == "raw_data" else each for each in spec.parameters)
    )


def _launch(folder: layout.SweepFolder, n_workers: int, n_ranks: int, wait: bool, report: Report) -> None:
    launcher = local.LocalLauncher(folder, n_workers, n_ranks)
    launcher.start()
    if wait:
        launcher.wait(report)
