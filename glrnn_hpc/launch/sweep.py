"""What `glrnn sweep` and `glrnn resume` do, from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.config import say_defaults, split_sizes
from glrnn_hpc.data.hdf5 import check_same_shapes, read_schema, select_groups
from glrnn_hpc.errors import ConfigError, LaunchError, SweepError, WindowError
from glrnn_hpc.launch import local
from glrnn_hpc.search import study
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.sweep import SweepSpec, preprocessor_of, trial_config
from glrnn_hpc.search.workers import Timing
from glrnn_hpc.worker import devices

Report = Callable[[study.SweepStudy], None]


def run_sweep(
    spec: SweepSpec,
    out: str | Path,
    *,
    n_workers: int = 1,
    ranks_per_worker: int | None = None,
    n_trials: int | None = None,
    storage: str | None = None,
    timing: Timing | None = None,
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
    storage : str, optional
        URL of a database for the study; by default a journal file in the folder.
    timing : Timing, optional
        Heartbeats, and when a worker counts as dead.
    wait : bool
        Whether to wait until the trials are done.
    report : callable
        Called with the study about twice a second while waiting.

    Raises
    ------
    ConfigError, DataError, WindowError
        If the sweep cannot work; nothing is started and no folder is made.
    SweepError
        If `out` holds a sweep already, the storage cannot be used, or the workers died and trials are left.
    LaunchError
        If the ranks cannot be started here.
    """
    n_slots = spec.n_trials(n_trials)
    spec = _with_absolute_data(spec)
    if preprocessor_of(spec) is None:
        check_data(spec)
    point = {parameter.name: parameter.extremes()[0] for parameter in spec.searched}
    say_defaults(trial_config(spec, point), {*spec.constants, *point}, "parameters")
    n_ranks = _ranks(spec, ranks_per_worker, n_slots)
    local.command(Path(out), "check", n_ranks)
    launch = {
        "workers": n_workers,
        "ranks_per_worker": n_ranks,
        "workers_per_node": n_workers,
        "timing": dataclasses.asdict(timing or Timing()),
        "directory": str(Path.cwd()),
    }
    folder = study.create(Path(out).resolve(), spec, n_slots, launch, url=storage)
    _launch(folder, n_workers, n_ranks, wait, report)
    return folder


def resume_sweep(
    out: str | Path,
    *,
    n_workers: int | None = None,
    ranks_per_worker: int | None = None,
    n_trials: int | None = None,
    retry_failed: bool = False,
    wait: bool = True,
    report: Report = lambda _: None,
) -> layout.SweepFolder:
    """Start the workers that a sweep lacks and go on until its trials are done.

    Parameters
    ----------
    out : path
        Folder of the sweep.
    n_workers, ranks_per_worker : int, optional
        Workers that shall run, and ranks of each new one; by default as before.
    n_trials : int, optional
        A larger number of trials than before.
    retry_failed : bool
        Whether failed trials get another try with the same point.
    wait, report
        Like `run_sweep`.

    Raises
    ------
    SweepError
        If `out` is not the folder of a sweep, or the workers died and trials are left.
    ConfigError
        If `n_trials` is smaller than before, or larger than the grid.
    """
    folder = layout.SweepFolder(Path(out).resolve())
    seen = study.SweepStudy(folder)
    before = layout.read_json(folder.state)
    changes = {
        "n_trials": _more_trials(seen.spec, before["n_trials"], n_trials),
        "workers": n_workers or before["workers"],
        "workers_per_node": n_workers or before["workers_per_node"],
        "ranks_per_worker": _ranks(seen.spec, ranks_per_worker or before["ranks_per_worker"], 0),
    }
    local.command(folder.root, "check", changes["ranks_per_worker"])
    seen.add_slots(changes["n_trials"])
    if retry_failed:
        seen.retry_failed()
    has_new_work = retry_failed or n_trials is not None
    # A sweep that reached its target has waiting trials, which nobody wants any more unless they are asked for.
    is_over = seen.is_finished() or (seen.is_target_reached() and not has_new_work)

    def resumed(state: dict[str, Any]) -> dict[str, Any]:
        if is_over:
            return {**state, **changes, "state": "finished"}
        return {key: value for key, value in {**state, **changes, "state": "running"}.items() if key != "reason"}

    wanted = seen.change_state(resumed)
    if not is_over:
        _launch(folder, wanted["workers"], wanted["ranks_per_worker"], wait, report)
    return folder


def cancel_sweep(out: str | Path) -> layout.SweepFolder:
    """Mark a sweep as cancelled: its ranks give their trials back at the next heartbeat and end.

    Raises
    ------
    SweepError
        If `out` is not the folder of a sweep, or the sweep is finished.
    """
    folder = layout.SweepFolder(Path(out).resolve())
    state = study.SweepStudy(folder).change_state(
        lambda state: state if state["state"] == "finished" else {**state, "state": "cancelled"}
    )
    if state["state"] == "finished":
        raise SweepError(f"{out}: the sweep is finished already.")
    return folder


def _more_trials(spec: SweepSpec, before: int, wanted: int | None) -> int:
    if wanted is None:
        return before
    if wanted < before:
        raise ConfigError(f"--trials {wanted}: the sweep has {before} trials already; their number can only grow.")
    possible = spec.n_trials(wanted)
    if possible < wanted:
        raise ConfigError(f"--trials {wanted}: the grid has {possible} points.")
    return wanted


def check_data(spec: SweepSpec) -> None:
    """Check that the data exist and that every group choice and window of the sweep fits them.

    Raises
    ------
    DataError, WindowError
        If the file or a group is missing, merged groups differ, a split is empty, or a window is as long as the
        sequences.
    """
    by_name = {parameter.name: parameter for parameter in spec.parameters}
    schema = read_schema(spec.constants["raw_data"])
    for pressure in _values(by_name, "pressure"):
        for experiment_type in _values(by_name, "experiment_type"):
            groups = select_groups(schema, pressure, experiment_type)
            check_same_shapes(schema, groups)
            n = sum(group.n_samples for group in groups)
            for train_frac in _values(by_name, "train_frac", 0.7):
                for val_frac in _values(by_name, "val_frac", 0.15):
                    split_sizes(n, train_frac, val_frac)
            for window_size in _values(by_name, "window_size", 10):
                shortest = min(groups, key=lambda group: group.n_steps)
                # What is padded is padded by a window.
                is_padded = all(_values(by_name, "pad_length", 0))
                if window_size >= shortest.n_steps + is_padded * window_size:
                    raise WindowError(
                        f"parameters.window_size: {window_size} does not fit the {shortest.n_steps} steps of "
                        f"{shortest.name} in {schema.path}; choose at most {shortest.n_steps - 1}."
                    )


def _values(by_name: dict[str, Parameter], name: str, default: Any = "All") -> list[Any]:
    return by_name[name].extremes() if name in by_name else [default]


def _with_absolute_data(spec: SweepSpec) -> SweepSpec:
    """Workers may start in another folder, so that a relative path would mean another file there."""
    if "raw_data" not in spec.constants:
        if preprocessor_of(spec) is not None:
            return spec
        raise ConfigError("parameters.raw_data: one file for the whole sweep is needed; give it as a value.")
    absolute = Parameter("raw_data", "constant", (str(Path(spec.constants["raw_data"]).resolve()),))
    return dataclasses.replace(
        spec, parameters=tuple(absolute if each.name == "raw_data" else each for each in spec.parameters)
    )


def _ranks(spec: SweepSpec, wanted: int | None, n_slots: int) -> int:
    """Return the ranks of a worker: whole groups of those that train a trial together."""
    size = spec.ranks_per_trial
    if wanted is None:
        return max(1, local.default_ranks(n_slots * size, devices.n_cpus()) // size) * size
    if wanted % size:
        raise LaunchError(
            f"--ranks-per-worker {wanted} is no multiple of ranks_per_trial={size}; "
            f"choose {max(1, wanted // size) * size} or {(wanted // size + 1) * size}."
        )
    return wanted


def _launch(folder: layout.SweepFolder, n_workers: int, n_ranks: int, wait: bool, report: Report) -> None:
    launcher = local.LocalLauncher(folder, n_workers, n_ranks)
    launcher.start()
    if wait:
        launcher.wait(report)
