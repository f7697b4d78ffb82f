"""Launch plan of a sweep: how many workers of how many ranks, where, and under which name."""

from __future__ import annotations

import dataclasses
import secrets
from pathlib import Path

from glrnn_hpc.config import parse
from glrnn_hpc.errors import ConfigError, LaunchError
from glrnn_hpc.launch.registry import launcher_class
from glrnn_hpc.launch.slurm.profile import Profile
from glrnn_hpc.records.sweep_state import LaunchPlan, Timing
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.worker.memory import size_in_bytes


def new_plan(
    spec: SweepSpec,
    n_slots: int,
    *,
    n_workers: int,
    ranks_per_worker: int | None,
    cluster: str,
    profile: Profile | None,
    collect: bool,
    timing: Timing | None,
    keep_going: bool,
    memory: str | None = None,
) -> LaunchPlan:
    """Return the plan of a new sweep; the arguments are those of `run_sweep`.

    Raises
    ------
    ConfigError
        If there is no such launcher, or `memory` is no size.
    LaunchError
        If the ranks cannot be divided among trials and nodes, or must be given.
    """
    launcher = launcher_class(cluster)
    check_memory(memory)
    site = profile or Profile()
    if ranks_per_worker is None:
        # Without workers nobody asks the launcher: a script starts them as it likes.
        size = spec.ranks_per_trial
        n_ranks = launcher.default_ranks(n_slots, size) if n_workers else size
    else:
        n_ranks = ranks_per_worker
        check_ranks(n_ranks, spec.ranks_per_trial, launcher.nodes_per_worker(site) if n_workers else 1)
    return LaunchPlan(
        workers=n_workers,
        ranks_per_worker=n_ranks,
        workers_per_node=launcher.workers_per_node(n_workers),
        cluster=cluster,
        profile=site.as_dict(),
        jobs=f"glrnn-{secrets.token_hex(4)}",
        collect=collect,
        timing=timing or Timing(),
        directory=str(Path.cwd()),
        keep_going=keep_going,
        memory=memory,
    )


def resumed_plan(
    before: LaunchPlan,
    spec: SweepSpec,
    *,
    n_workers: int | None,
    ranks_per_worker: int | None,
    cluster: str | None,
    profile: Profile | None,
    keep_going: bool | None,
    memory: str | None = None,
) -> LaunchPlan:
    """Return the plan with which a sweep is resumed; the arguments are those of `resume_sweep`.

    Raises
    ------
    ConfigError
        If there is no such launcher, or it takes no profile and one is given, or `memory` is no size.
    LaunchError
        If the ranks cannot be divided among trials and nodes.
    """
    check_memory(memory)
    plan = dataclasses.replace(
        before,
        workers=before.workers if n_workers is None else n_workers,
        ranks_per_worker=ranks_per_worker or before.ranks_per_worker,
        cluster=cluster or before.cluster,
        profile=before.profile if profile is None else profile.as_dict(),
        keep_going=before.keep_going if keep_going is None else keep_going,
        memory=memory or before.memory,
    )
    launcher = launcher_class(plan.cluster, plan.directory)
    if profile is not None and not launcher.takes_profile:
        raise ConfigError(
            f"--profile: belongs to --cluster slurm, and this sweep runs with --cluster {plan.cluster}; give both."
        )
    site = parse(Profile, plan.profile, "profile")
    check_ranks(plan.ranks_per_worker, spec.ranks_per_trial, launcher.nodes_per_worker(site))
    return dataclasses.replace(plan, workers_per_node=launcher.workers_per_node(plan.workers))


def check_memory(memory: str | None) -> None:
    """Check that the memory of a worker is a size.

    Raises
    ------
    ConfigError
        If it is not.
    """
    if memory is not None and not size_in_bytes(memory):
        raise ConfigError(
            f"--memory: {memory!r} is no size; give what the ranks of a worker may take on a node, such as 16G or 800M."
        )


def check_ranks(n_ranks: int, ranks_per_trial: int, n_nodes: int) -> None:
    """Check that the ranks of a worker are whole groups, on each of its nodes, of those that train a trial together.

    Raises
    ------
    LaunchError
        If they are not.
    """
    if n_ranks % ranks_per_trial:
        smaller = max(1, n_ranks // ranks_per_trial) * ranks_per_trial
        raise LaunchError(
            f"--ranks-per-worker {n_ranks} is no multiple of ranks_per_trial={ranks_per_trial}; "
            f"choose {smaller} or {(n_ranks // ranks_per_trial + 1) * ranks_per_trial}."
        )
    if n_ranks % n_nodes == 0 and n_ranks // n_nodes % ranks_per_trial:
        raise LaunchError(
            f"--ranks-per-worker {n_ranks}: on each of the {n_nodes} nodes of a worker (`nodes` of the profile) are "
            f"{n_ranks // n_nodes} ranks, no multiple of ranks_per_trial={ranks_per_trial}, and those of a trial share "
            f"a node; choose a multiple of {ranks_per_trial * n_nodes}."
        )
