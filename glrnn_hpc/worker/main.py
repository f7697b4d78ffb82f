"""Program of a worker: every rank trains trials until the sweep has none left."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import sys
import traceback
from pathlib import Path

from glrnn_hpc import layout, logs, processes
from glrnn_hpc.collector.sweep_data import check_data_is_there, check_same_data
from glrnn_hpc.data import ranks
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.data.staging import staged
from glrnn_hpc.errors import WRONG_INPUT, GlrnnError, LaunchError, StorageError
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.search.sweep import experiment_of, group_choices
from glrnn_hpc.study import liveness
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.tracking.trial_tracker import TrialTracker
from glrnn_hpc.versions import software
from glrnn_hpc.worker import devices
from glrnn_hpc.worker.memory import MemoryWatch, memory_limit
from glrnn_hpc.worker.preemption import MORE_TO_DO, PreemptionNotice
from glrnn_hpc.worker.timeline import Timeline
from glrnn_hpc.worker.trial_loop import work_on_trials

logger = logging.getLogger(__name__)


def run(
    root: Path, job: str | None = None, n_ranks: int | None = None, preemption: PreemptionNotice | None = None
) -> None:
    """Work on the sweep in `root` until every trial is final, or it is cancelled. Collective on the world.

    Parameters
    ----------
    root : Path
        Folder of the sweep.
    job : str, optional
        Name of this worker, the launcher's choice; by default host and pid.
    n_ranks : int, optional
        Number of ranks that the launcher requested.
    preemption : PreemptionNotice, optional
        Handler of the signals that ask to leave, if there is one already.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep.
    LaunchError
        If the number of ranks is another one than requested.

    Notes
    -----
    After SIGUSR2 or SIGTERM all ranks release their trials, and the process ends with status 75
    (`preemption.MORE_TO_DO`): Slurm's batch script then puts the job into the queue again, and it goes on with the same
    trials. Ranks that come near their memory (`worker.memory`) end with the same status, after their trials.
    """
    preemption = preemption or PreemptionNotice()
    world = ranks.world()
    try:
        # A process of one rank may live on, as with `--cluster debug`.
        with contextlib.ExitStack() as threads:
            is_leaving = _work(world, root, job, n_ranks, preemption, threads)
        _leave_if_requested(world, root, is_leaving)
        # The shared arrays must not be mapped away under a batch that is still being prepared.
        gc.collect()
        world.free()
    except StorageError as error:
        # The file system or the database may be there again when the worker is started anew.
        logs.print_error(error)
        world.abort(MORE_TO_DO)
        sys.exit(MORE_TO_DO)
    except BaseException as error:
        if world.size == 1:
            raise
        if isinstance(error, GlrnnError) and error.is_agreed:
            # Every rank raises it: one prints it for all.
            if world.rank == 0:
                raise
            sys.exit(WRONG_INPUT)
        # The other ranks would wait for this one in MPI_Finalize for ever.
        if isinstance(error, GlrnnError):
            logs.print_error(error)
            world.abort(WRONG_INPUT)
        sys.stderr.write(f"rank {world.rank}: {traceback.format_exc()}\n")
        sys.stderr.flush()
        world.abort(1)


def _leave_if_requested(world: ranks.Ranks, root: Path, is_leaving: bool) -> None:
    """End the process with `MORE_TO_DO` if a rank was to leave and there is more to do. Collective."""
    # Of any rank: another one may have ended its work before the signal came.
    is_requested = any(world.allgather(is_leaving))
    if is_requested and world.bcast(read_sweep_state(layout.SweepFolder(root)).state == "running"):
        sys.stdout.flush()
        sys.stderr.flush()
        # Nobody leaves before all are here: Slurm ends a step when its first rank ends with an error. Not sys.exit:
        # submitit would write a result, and the job would count as done.
        world.barrier()
        os._exit(MORE_TO_DO)


def _work(
    world: ranks.Ranks,
    root: Path,
    job: str | None,
    n_ranks: int | None,
    preemption: PreemptionNotice,
    threads: contextlib.ExitStack,
) -> bool:
    """Work until there is nothing left to do for this worker; return whether it leaves although the sweep has more."""
    if n_ranks is not None and world.size != n_ranks:
        raise LaunchError(
            f"{n_ranks} ranks were asked for, but this worker has {world.size}: mpiexec and mpi4py use different "
            "MPI libraries. Use the mpiexec of the library that mpi4py loads, or set MPI4PY_LIBMPI."
        )
    study = SweepStudy(layout.SweepFolder(root.resolve()))
    launch = read_sweep_state(study.folder).launch
    timing = launch.timing
    name = world.bcast(job or f"{socket.gethostname()}-{os.getpid()}")
    folder = study.folder.worker(name)
    _register(world, study.folder, folder)
    timeline = Timeline(folder.utilisation, world.rank)
    timeline.begin("import", ago=processes.seconds_since_start())
    watchdog = liveness.Watchdog(timing.hang_timeout)
    watchdog.start()
    if world.size == 1:
        threads.callback(watchdog.stop)  # with more ranks, the last steps of MPI may hang too
    heartbeat = liveness.Heartbeat(folder, timing.heartbeat)
    threads.callback(heartbeat.stop)
    if world.rank == 0:
        heartbeat.beat()
        heartbeat.start()
        liveness.clean_up(study.folder)
    node = world.on_node()
    group = node.in_groups(study.spec.ranks_per_trial)
    # Only now: importing TensorFlow takes seconds, and a worker is to be seen at once.
    cpus_of_ranks = node.allgather(devices.cpus())
    n_threads = devices.threads_per_rank(cpus_of_ranks, node.rank, launch.workers_per_node)
    timeline.devices = devices.prepare(n_threads, node.rank)
    from glrnn_hpc.worker.trainer import Trainer

    tracker = TrialTracker(study.folder, watchdog.progress)
    if group.rank == 0:
        tracker.prepare()
    timeline.begin("read")
    data = world.agreed(lambda: _read(study, node, launch.profile.get("scratch")))
    # Of a worker that is started again: the file, or its path in the sweep file, may be another one by now.
    world.agreed(lambda: _check_same_data(study, world, data))
    if world.rank == 0:
        folder.ready.touch()
    # On one rank: thousands would read the commit from the file system of the working copy.
    versions = world.bcast(software() if world.rank == 0 else None)
    trainer = Trainer(study, data, group, watchdog, timeline, tracker, versions)
    # A process that does the work of a sweep itself cannot be started again.
    limit = None if launch.cluster == "debug" else memory_limit(launch, processes.memory_limit())
    memory = MemoryWatch(limit, node.allgather(os.getpid()), folder.full)
    if group.rank == 0:
        owner = Owner(name, world.rank, processes.this_process())
        work_on_trials(
            study,
            owner,
            timing,
            trainer,
            watchdog,
            timeline.begin,
            preemption.is_leaving_requested,
            trainer.log_end,
            memory.is_ending_requested,
        )
        trainer.dismiss()
        tracker.close()
    else:
        trainer.follow()
    timeline.write()
    # The heart beats on meanwhile: the others may still hold trials.
    world.barrier_idle(watchdog.progress)
    # A node may see the mark of another one late.
    is_full = any(world.allgather(folder.full.exists()))
    if is_full and world.rank == 0:
        with folder.memory_ends.open("a", encoding="utf-8") as ends:
            ends.write(f"{os.environ.get('SLURM_RESTART_COUNT', 0)}\n")
    return preemption.is_leaving_requested() or is_full


def _register(world: ranks.Ranks, sweep: layout.SweepFolder, folder: layout.WorkerFolder) -> None:
    members = world.gather((processes.this_process(), processes.mapped_segments()))
    if members is not None:
        folder.root.mkdir(parents=True, exist_ok=True)
        liveness.clean_up_after(sweep, folder)
        for mark in (folder.leaving, folder.ended, folder.full):  # of the same job, before it was requeued
            mark.unlink(missing_ok=True)
        segments = [name for _, names in members for name in names]
        liveness.register(folder, [process for process, _ in members], segments)
    # No rank may hold a lease before its worker can be looked up.
    world.barrier()


def _check_same_data(study: SweepStudy, world: ranks.Ranks, data: DemData | None) -> None:
    """Check on one rank that the data are those of the trials that are done."""
    if data is not None and world.rank == 0:
        check_same_data(study, study.spec, data)


def _read(study: SweepStudy, node: ranks.Ranks, scratch: str | None) -> DemData | None:
    """Read every group that a trial of the sweep can select; None if it has a preprocessor with data of its own."""
    spec = study.spec
    if "raw_data" not in spec.constants:
        return None
    node.agreed(lambda: check_data_is_there(study))
    file = spec.data_file
    pressures, types = group_choices(spec)
    with staged(file, scratch, node) as copy:
        return read_data(file, pressures, types, node, copy=copy, experiment=experiment_of(spec))
