"""Sweeps from Python: run, resume and cancel, as the commands of the same names do."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.collector.sweep_data import check_data_is_there
from glrnn_hpc.config import dump_yaml, log_defaults
from glrnn_hpc.errors import ConfigError, LaunchError, SweepError
from glrnn_hpc.launch.data_checks import check_data, with_absolute_data
from glrnn_hpc.launch.edits import edited_sweep
from glrnn_hpc.launch.launcher import Launcher, OnProgress
from glrnn_hpc.launch.plan import new_plan, resumed_plan
from glrnn_hpc.launch.registry import launcher_class, launcher_for
from glrnn_hpc.launch.slurm.profile import Profile
from glrnn_hpc.records.sweep_state import LaunchPlan, SweepState, Timing, read_sweep_state
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import preprocessor_of, trial_config
from glrnn_hpc.study import creation
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.tracking.settings import tracking_settings


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
    keep_going: bool = False,
    memory: str | None = None,
    wait: bool = True,
    report: OnProgress = lambda _: None,
) -> layout.SweepFolder:
    """Create the sweep's folder and run its trials, on this machine or as jobs of Slurm.

    Parameters
    ----------
    spec : SweepSpec
        The sweep, as `load_sweep` reads it.
    out : path
        Folder to make; it must not exist, or be empty.
    n_workers, ranks_per_worker : int
        Workers, and MPI ranks of each; by default one worker with one rank per CPU. With 0 workers the folder is made
        and no worker is started: a script starts `glrnn worker` itself.
    n_trials : int, optional
        Number of trials in place of `run_cap`.
    storage : str, optional
        URL of a database for the study; by default a journal file in the folder.
    timing : Timing, optional
        Heartbeats, and when a worker counts as dead.
    cluster : str
        local, slurm, or debug: one rank in this very process. Or `module:Class`, a launcher of the user's own.
    profile : Profile, optional
        The site, for slurm and for launchers that take one.
    collect : bool
        Whether the best model is exported when the workers have ended; with slurm by a job of its own.
    wandb : str, optional
        offline, online, disabled or another mode of W&B, for all trials; by default WANDB_MODE, else offline.
    wandb_sweep : str, optional
        `create`, to make a sweep on W&B's server, or the id of one (ID or entity/project/ID): the runs arrive in it.
    keep_going : bool
        Whether the sweep goes on if its first trials, three for each rank, all fail with the same error.
    memory : str, optional
        What the ranks of a worker may take on a node, such as 16G: near it they are started anew between two trials. By
        default what the profile says or the kernel enforces, else as much as there is.
    wait : bool
        Whether to wait until the trials are done.
    report : callable
        Called with the study about twice a second while waiting.

    Raises
    ------
    ConfigError, DataError, WindowError
        If the sweep cannot work; nothing is started and no folder is made.
    SweepError
        If `out` holds a sweep already, the storage cannot be used, or the workers died and trials are left; or if the
        sweep was stopped, as its first trials failed with the same error.
    LaunchError
        If the ranks cannot be started here, or Slurm does not take them; the folder is not left behind then.
    TrackingError
        If a sweep is to be made on W&B's server and that does not work; no folder is made.
    """
    launcher_type = launcher_class(cluster)
    if collect and not (n_workers and (wait or launcher_type.collects_in_a_job)):
        raise LaunchError(
            "--collect: nobody would do it: it needs workers, and on this machine a launcher that waits (no --no-wait)."
        )
    n_slots = spec.n_trials(n_trials)
    spec = with_absolute_data(spec)
    if preprocessor_of(spec) is None:
        check_data(spec)
    point = {parameter.name: parameter.extremes()[0] for parameter in spec.searched}
    log_defaults(trial_config(spec, point), {*spec.constants, *point}, "parameters")
    plan = new_plan(
        spec,
        n_slots,
        n_workers=n_workers,
        ranks_per_worker=ranks_per_worker,
        cluster=cluster,
        profile=profile,
        collect=collect,
        timing=timing,
        keep_going=keep_going,
        memory=memory,
    )
    root = Path(out).resolve()
    if n_workers:
        launcher_for(layout.SweepFolder(root), plan).check()
    creation.check_free(root)  # a sweep on W&B's server cannot be taken back
    tracking = tracking_settings(spec, root.name, wandb, wandb_sweep)
    folder = creation.create(root, spec, n_slots, plan, url=storage, tracking=tracking)
    if not n_workers:
        return folder
    launcher = launcher_for(folder, plan)
    try:
        launcher.start()
    except LaunchError:
        layout.remove_folder(root)
        raise
    if wait:
        _wait(launcher, report)
    return folder


def resume_sweep(
    out: str | Path,
    *,
    n_workers: int | None = None,
    ranks_per_worker: int | None = None,
    n_trials: int | None = None,
    retry_failed: bool = False,
    raw_data: str | Path | None = None,
    cluster: str | None = None,
    profile: Profile | None = None,
    keep_going: bool | None = None,
    memory: str | None = None,
    wait: bool = True,
    report: OnProgress = lambda _: None,
) -> layout.SweepFolder:
    """Start the workers that a sweep lacks and go on until its trials are done; export the best model if it is missing.

    Parameters
    ----------
    out : path
        Folder of the sweep.
    n_workers, ranks_per_worker : int, optional
        Workers that shall run, and ranks of each new one; by default as before. With 0 workers none is started.
    n_trials : int, optional
        A larger number of trials than before.
    retry_failed : bool
        Whether failed trials get another try with the same point.
    raw_data : path, optional
        Where the data are now, if they have moved; it is written into `sweep.yaml`, if they are the same.
    cluster, profile : optional
        Where the new workers run; by default as before.
    keep_going : bool, optional
        Like `run_sweep`; by default as before. Trials that failed before do not count any more.
    memory : str, optional
        Like `run_sweep`; by default as before.
    wait, report
        Like `run_sweep`.

    Raises
    ------
    SweepError
        If `out` is not the folder of a sweep, the workers died and trials are left, or the sweep was stopped.
    ConfigError
        If `n_trials` is smaller than before, or larger than the grid; if there is no such launcher, or it takes no
        profile; if `sweep.yaml` was changed in more than a sweep can take over, see `launch.edits`.
    DataError
        If the data are not there, or have another path than at the start and are others.
    LaunchError
        If the workers cannot be started here.
    """
    if cluster is not None:
        launcher_class(cluster)
    folder = layout.SweepFolder(Path(out).resolve())
    study = SweepStudy(folder)
    before = read_sweep_state(folder)
    spec, edits = edited_sweep(study, before.launch.directory, raw_data)
    is_run_cap_new = n_trials is None and any(edit.path == "run_cap" and edit.now is not None for edit in edits)
    if is_run_cap_new:
        n_slots = _more_trials(spec, before.n_trials, spec.n_trials(), f"run_cap: {spec.run_cap}")
    else:
        n_slots = _more_trials(spec, before.n_trials, n_trials, f"--trials {n_trials}")
    plan = resumed_plan(
        before.launch,
        spec,
        n_workers=n_workers,
        ranks_per_worker=ranks_per_worker,
        cluster=cluster,
        profile=profile,
        keep_going=keep_going,
        memory=memory,
    )
    if plan.workers:
        launcher_for(folder, plan).check()
    has_waiting = n_slots > before.n_trials or retry_failed or not study.is_finished()
    if plan.workers and has_waiting and raw_data is None:
        check_data_is_there(study)
    study.take_over(spec)
    if raw_data is not None:
        layout.write_text(folder.sweep, dump_yaml(spec.as_dict()))
    study.add_slots(n_slots)
    if retry_failed:
        study.retry_failed()
    has_new_work = retry_failed or n_trials is not None or is_run_cap_new
    # A sweep that reached its target has waiting trials, which are trained only if the user wants more.
    is_target_reached = study.is_target_reached()
    n_failed = study.n_failed()
    is_over = study.is_finished() or (is_target_reached and not has_new_work)

    def resumed(state: SweepState) -> SweepState:
        changed = dataclasses.replace(
            state,
            n_trials=n_slots,
            launch=plan,
            edits=(*state.edits, *map(str, edits)),
            is_past_target=state.is_past_target or (is_target_reached and has_new_work),
        )
        if is_over:
            return dataclasses.replace(changed, state="finished")
        return dataclasses.replace(changed, state="running", reason=None, n_failed_before=n_failed)

    study.change_state(resumed)
    if not plan.workers:
        return folder
    if not is_over:
        launcher = launcher_for(folder, plan)
        launcher.start()
        if wait:
            _wait(launcher, report)
    elif plan.collect and not folder.best.provenance.exists():
        _collect_late(study, plan, wait, report)
    return folder


def cancel_sweep(out: str | Path) -> layout.SweepFolder:
    """Mark a sweep as cancelled: its ranks release their trials at the next heartbeat and end.

    Raises
    ------
    SweepError
        If `out` is not the folder of a sweep, or the sweep is finished.
    LaunchError
        If workers that have not begun cannot be taken back, such as jobs in a queue; the sweep is cancelled then.
    """
    folder = layout.SweepFolder(Path(out).resolve())
    state = SweepStudy(folder).change_state(
        lambda state: state if state.state == "finished" else dataclasses.replace(state, state="cancelled")
    )
    if state.state == "finished":
        raise SweepError(f"{out}: the sweep is finished already.")
    try:
        launcher_for(folder, state.launch).cancel()
    except LaunchError as error:
        raise LaunchError(
            f"{out}: is cancelled, and its ranks will end; but what waits in the queue stays: {error}"
        ) from error
    return folder


def _wait(launcher: Launcher, report: OnProgress) -> None:
    """Wait for the workers; export the best model if no job does it.

    Raises
    ------
    SweepError
        If the sweep was stopped.
    """
    launcher.wait(report)
    state, root = read_sweep_state(launcher.folder), launcher.folder.root
    if state.is_stopped:
        raise SweepError(
            f"{root}: the sweep was stopped: {state.reason}\nMend the cause; `glrnn resume {root} --retry-failed` then "
            "goes on. With --keep-going it does so whatever fails."
        )
    if launcher.plan.collect and not launcher.collects_in_a_job and state.state == "finished":
        launcher.collect()


def _collect_late(study: SweepStudy, plan: LaunchPlan, wait: bool, report: OnProgress) -> None:
    """Export the best model of a sweep that finished without: its launcher, or the job that collects, was killed."""
    if not any(slot.state == "finished" for slot in study.slots()):
        return  # no trial has a model; the status tells it
    launcher = launcher_for(study.folder, plan)
    launcher.collect()
    if launcher.collects_in_a_job and wait:
        launcher.wait(report)


def _more_trials(spec: SweepSpec, before: int, wanted: int | None, given: str) -> int:
    if wanted is None:
        return before
    if wanted < before:
        raise ConfigError(f"{given}: the sweep has {before} trials already; their number can only grow.")
    possible = spec.n_trials(wanted)
    if possible < wanted:
        raise ConfigError(f"{given}: the grid has {possible} points.")
    return wanted
