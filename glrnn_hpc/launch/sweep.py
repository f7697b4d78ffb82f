"""Sweeps from Python: start, resume and cancel, as the command line does."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from glrnn_hpc import layout
from glrnn_hpc.config import log_defaults, parse, split_sizes
from glrnn_hpc.data.hdf5 import check_same_shapes, read_schema, select_groups
from glrnn_hpc.errors import ConfigError, LaunchError, SweepError, WindowError
from glrnn_hpc.launch import local
from glrnn_hpc.launch.slurm.profile import Profile
from glrnn_hpc.records.sweep_state import LaunchSettings, SweepState, Timing, read_sweep_state
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import experiment_of, preprocessor_of, trial_config
from glrnn_hpc.study import creation, study
from glrnn_hpc.tracking.settings import tracking_of
from glrnn_hpc.worker import devices

Report = Callable[[study.SweepStudy], None]

#: Where workers can run.
CLUSTERS = ("local", "slurm", "debug")


class Launcher(Protocol):
    """What starts the workers of a sweep, wherever they run."""

    def check(self) -> None:
        """Raise LaunchError if the workers cannot be started here; nothing is made."""

    def start(self) -> int:
        """Start the workers that are missing; return how many were."""

    def wait(self, report: Report) -> None:
        """Wait until they have ended; raise SweepError if trials are left then."""

    def cancel(self) -> None:
        """Take workers back that have not begun."""


def run_sweep(
    spec: SweepSpec,
    out: str | Path,
    *,
    n_workers: int = 1,
    ranks_per_worker: int | None = None,
    n_trials: int | None = None,
    storage: str | None = None,
    timing: Timing | None = None,
    cluster: str = "local",
    profile: Profile | None = None,
    collect: bool = False,
    wandb: str | None = None,
    wandb_sweep: str | None = None,
    wait: bool = True,
    report: Report = lambda _: None,
) -> layout.SweepFolder:
    """Create the sweep's folder and run its trials, on this machine or as jobs of Slurm.

    Parameters
    ----------
    spec : SweepSpec
        The sweep, as `search.sweep.load_sweep` reads it.
    out : path
        Folder to make; it must not exist, or be empty.
    n_workers, ranks_per_worker : int
        Workers, and MPI ranks of each; by default one worker with one rank per CPU. With 0 workers the folder is made
        and nobody started: a script starts `glrnn worker` itself.
    n_trials : int, optional
        Number of trials in place of `run_cap`.
    storage : str, optional
        URL of a database for the study; by default a journal file in the folder.
    timing : Timing, optional
        Heartbeats, and when a worker counts as dead.
    cluster : str
        local, slurm, or debug: one rank in this very process.
    profile : Profile, optional
        The site, for slurm.
    collect : bool
        Whether the best model is exported when the workers have ended; with slurm by a job of its own.
    wandb : str, optional
        offline, online or disabled: how W&B is told of the trials; by default WANDB_MODE, else offline.
    wandb_sweep : str, optional
        `create`, to make a sweep on W&B's server, or the id of one (ID or entity/project/ID): the runs arrive in it.
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
        If the ranks cannot be started here, or Slurm does not take them; the folder is not left behind then.
    TrackingError
        If a sweep is to be made on W&B's server and that does not work; no folder is made.
    """
    _check_cluster(cluster)
    if collect and not (n_workers and (wait or cluster == "slurm")):
        raise LaunchError(
            "--collect: nobody would do it: it needs workers, and on this machine a launcher that waits (no --no-wait)."
        )
    n_slots = spec.n_trials(n_trials)
    spec = _with_absolute_data(spec)
    if preprocessor_of(spec) is None:
        check_data(spec)
    point = {parameter.name: parameter.extremes()[0] for parameter in spec.searched}
    log_defaults(trial_config(spec, point), {*spec.constants, *point}, "parameters")
    n_ranks = _ranks(spec, ranks_per_worker, n_slots, cluster if n_workers else None, profile)
    launch = LaunchSettings(
        workers=n_workers,
        ranks_per_worker=n_ranks,
        workers_per_node=_workers_per_node(n_workers, cluster),
        cluster=cluster,
        profile=(profile or Profile()).as_dict(),
        jobs=f"glrnn-{secrets.token_hex(4)}",
        collect=collect,
        timing=timing or Timing(),
        directory=str(Path.cwd()),
    )
    root = Path(out).resolve()
    if n_workers:
        _launcher(layout.SweepFolder(root), launch).check()
    creation.check_free(root)  # a sweep on W&B's server cannot be taken back
    told = tracking_of(spec, root.name, wandb, wandb_sweep)
    folder = creation.create(root, spec, n_slots, launch, url=storage, tracking=told)
    if not n_workers:
        return folder
    launcher = _launcher(folder, launch)
    try:
        launcher.start()
    except LaunchError:
        layout.remove_folder(root)
        raise
    if wait:
        launcher.wait(report)
        _collect(folder, launch)
    return folder


def resume_sweep(
    out: str | Path,
    *,
    n_workers: int | None = None,
    ranks_per_worker: int | None = None,
    n_trials: int | None = None,
    retry_failed: bool = False,
    cluster: str | None = None,
    profile: Profile | None = None,
    wait: bool = True,
    report: Report = lambda _: None,
) -> layout.SweepFolder:
    """Start the workers that a sweep lacks and go on until its trials are done; export the best model if that lacks.

    Parameters
    ----------
    out : path
        Folder of the sweep.
    n_workers, ranks_per_worker : int, optional
        Workers that shall run, and ranks of each new one; by default as before. With 0 workers nobody is started.
    n_trials : int, optional
        A larger number of trials than before.
    retry_failed : bool
        Whether failed trials get another try with the same point.
    cluster, profile : optional
        Where the new workers run; by default as before.
    wait, report
        Like `run_sweep`.

    Raises
    ------
    SweepError
        If `out` is not the folder of a sweep, or the workers died and trials are left.
    ConfigError
        If `n_trials` is smaller than before, or larger than the grid.
    """
    if cluster is not None:
        _check_cluster(cluster)
    folder = layout.SweepFolder(Path(out).resolve())
    seen = study.SweepStudy(folder)
    before = read_sweep_state(folder)
    n_slots = _more_trials(seen.spec, before.n_trials, n_trials)
    launch = dataclasses.replace(
        before.launch,
        workers=before.launch.workers if n_workers is None else n_workers,
        ranks_per_worker=ranks_per_worker or before.launch.ranks_per_worker,
        cluster=cluster or before.launch.cluster,
        profile=before.launch.profile if profile is None else profile.as_dict(),
    )
    if profile is not None and launch.cluster != "slurm":
        raise ConfigError("--profile: belongs to --cluster slurm, and this sweep runs on this machine; give both.")
    site = parse(Profile, launch.profile, "profile")
    _ranks(seen.spec, launch.ranks_per_worker, 0, launch.cluster, site)
    launch = dataclasses.replace(launch, workers_per_node=_workers_per_node(launch.workers, launch.cluster))
    if launch.workers:
        _launcher(folder, launch).check()
    seen.add_slots(n_slots)
    if retry_failed:
        seen.retry_failed()
    has_new_work = retry_failed or n_trials is not None
    # A sweep that reached its target has waiting trials, which nobody wants any more unless they are asked for.
    is_target_reached = seen.is_target_reached()
    is_over = seen.is_finished() or (is_target_reached and not has_new_work)
    is_past_target = is_target_reached and has_new_work

    def resumed(state: SweepState) -> SweepState:
        changed = dataclasses.replace(
            state, n_trials=n_slots, launch=launch, is_past_target=state.is_past_target or is_past_target
        )
        if is_over:
            return dataclasses.replace(changed, state="finished")
        return dataclasses.replace(changed, state="running", reason=None)

    seen.change_state(resumed)
    if is_over and launch.collect and launch.workers and not folder.best.provenance.exists():
        _collect_late(seen, launch, wait, report)
    if not is_over and launch.workers:
        launcher = _launcher(folder, launch)
        launcher.start()
        if wait:
            launcher.wait(report)
            _collect(folder, launch)
    return folder


def cancel_sweep(out: str | Path) -> layout.SweepFolder:
    """Mark a sweep as cancelled: its ranks release their trials at the next heartbeat and end.

    Raises
    ------
    SweepError
        If `out` is not the folder of a sweep, or the sweep is finished.
    LaunchError
        If Slurm cannot be asked to take those out of its queue that have not begun; the sweep is cancelled then.
    """
    folder = layout.SweepFolder(Path(out).resolve())
    state = study.SweepStudy(folder).change_state(
        lambda state: state if state.state == "finished" else dataclasses.replace(state, state="cancelled")
    )
    if state.state == "finished":
        raise SweepError(f"{out}: the sweep is finished already.")
    try:
        _launcher(folder, state.launch).cancel()
    except LaunchError as error:
        raise LaunchError(
            f"{out}: is cancelled, and its ranks will end; but what waits in the queue stays: {error}"
        ) from error
    return folder


def _check_cluster(cluster: str) -> None:
    if cluster not in CLUSTERS:
        raise ConfigError(f"--cluster: {cluster!r} is not one of {', '.join(CLUSTERS)}.")


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
    schema = read_schema(spec.data_file, experiment_of(spec))
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
    try:
        path = Path(spec.data_file).resolve()
    except (ValueError, RuntimeError) as error:  # a zero byte, a loop of links
        raise ConfigError(f"parameters.raw_data: no path of a file: {error}") from error
    absolute = Parameter("raw_data", "constant", (str(path),))
    return dataclasses.replace(
        spec, parameters=tuple(absolute if each.name == "raw_data" else each for each in spec.parameters)
    )


def _ranks(
    spec: SweepSpec, wanted: int | None, n_slots: int, cluster: str | None, profile: Profile | None = None
) -> int:
    """Return the ranks of a worker: whole groups, on each of its nodes, of those that train a trial together."""
    size = spec.ranks_per_trial
    if wanted is None:
        if cluster == "slurm":
            raise LaunchError("--ranks-per-worker: give the MPI ranks of a job; this machine cannot tell them.")
        if cluster != "local":
            return size
        return max(1, local.default_ranks(n_slots * size, devices.n_cpus()) // size) * size
    if wanted % size:
        raise LaunchError(
            f"--ranks-per-worker {wanted} is no multiple of ranks_per_trial={size}; "
            f"choose {max(1, wanted // size) * size} or {(wanted // size + 1) * size}."
        )
    n_nodes = profile.nodes if profile is not None and cluster == "slurm" else 1
    if wanted % n_nodes == 0 and wanted // n_nodes % size:
        raise LaunchError(
            f"--ranks-per-worker {wanted}: on each of the {n_nodes} nodes of a worker (`nodes` of the profile) are "
            f"{wanted // n_nodes} ranks, no multiple of ranks_per_trial={size}, and those of a trial share a node; "
            f"choose a multiple of {size * n_nodes}."
        )
    return wanted


def _workers_per_node(n_workers: int, cluster: str) -> int:
    """Return how many workers share the CPUs of a node."""
    return max(1, n_workers) if cluster == "local" else 1


def _launcher(folder: layout.SweepFolder, launch: LaunchSettings) -> Launcher:
    n_workers, n_ranks = launch.workers, launch.ranks_per_worker
    if launch.cluster == "local":
        return local.LocalLauncher(folder, n_workers, n_ranks)
    if launch.cluster == "debug":
        return local.DebugLauncher(folder, n_workers, n_ranks)
    # Here, as submitit and what it loads are of no use on a machine without Slurm.
    from glrnn_hpc.launch.slurm.launcher import SlurmLauncher

    profile = parse(Profile, launch.profile, "profile")
    return SlurmLauncher(folder, n_workers, n_ranks, profile, launch.jobs, launch.collect)


def _collect_late(seen: study.SweepStudy, launch: LaunchSettings, wait: bool, report: Report) -> None:
    """Export the best model of a sweep that finished without: its launcher was killed, or the job of Slurm."""
    if not any(slot.state == "finished" for slot in seen.slots()):
        return  # none is any good, as the status says
    if launch.cluster != "slurm":
        _collect(seen.folder, launch)
        return
    from glrnn_hpc.launch.slurm.launcher import SlurmLauncher

    launcher = _launcher(seen.folder, launch)
    if isinstance(launcher, SlurmLauncher):
        launcher.collect()
        if wait:
            launcher.wait(report)


def _collect(folder: layout.SweepFolder, launch: LaunchSettings) -> None:
    """Export the best model here, where no job does it."""
    if launch.collect and launch.cluster != "slurm" and read_sweep_state(folder).state == "finished":
        from glrnn_hpc.collector import collect

        collect.collect(folder.root, top=1)
