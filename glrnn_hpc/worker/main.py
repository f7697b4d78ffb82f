"""The program of a worker: every rank pulls trials until the sweep has none left."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import traceback
from pathlib import Path

from glrnn_hpc import layout, logs, processes
from glrnn_hpc.data import ranks
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.data.staging import staged
from glrnn_hpc.errors import WRONG_INPUT, GlrnnError, LaunchError, StorageError
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import experiment_of, group_choices
from glrnn_hpc.study import liveness
from glrnn_hpc.study.leases import Owner
from glrnn_hpc.study.liveness import Timing
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.tracking.trial_tracker import TrialTracker
from glrnn_hpc.versions import software
from glrnn_hpc.worker import devices
from glrnn_hpc.worker.preemption import AGAIN, Notice
from glrnn_hpc.worker.timeline import Timeline
from glrnn_hpc.worker.trial_loop import pull

logger = logging.getLogger(__name__)


def run(root: Path, job: str | None = None, n_ranks: int | None = None, notice: Notice | None = None) -> None:
    """Work on the sweep in `root` until every trial is final, or it is cancelled. Collective on the world.

    Parameters
    ----------
    root : Path
        Folder of the sweep.
    job : str, optional
        Name of this worker, the launcher's choice; by default host and pid.
    n_ranks : int, optional
        Number of ranks that the launcher asked for.
    notice : Notice, optional
        What notes SIGUSR2, if there is one already.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep.
    LaunchError
        If the number of ranks is another one than asked for.

    Notes
    -----
    After SIGUSR2 all ranks give their trials back, and the process ends with status 75 (`notice.AGAIN`): Slurm's batch
    script then puts the job into the queue again, and it goes on with the same trials.
    """
    notice = notice or Notice()
    world = ranks.world()
    try:
        _work(world, root, job, n_ranks, notice)
        _leave_if_told(world, root, notice)
        # The shared arrays must not be mapped away under a batch that is still being prepared.
        gc.collect()
        world.free()
    except StorageError as error:
        # The file system or the database may be there again when the worker is started anew.
        logs.say(error)
        world.abort(AGAIN)
        sys.exit(AGAIN)
    except BaseException as error:
        if world.size == 1:
            raise
        if isinstance(error, GlrnnError) and error.is_agreed:
            # Every rank is here: one speaks for all.
            if world.rank == 0:
                raise
            sys.exit(WRONG_INPUT)
        # The other ranks would wait for this one in MPI_Finalize for ever.
        if isinstance(error, GlrnnError):
            logs.say(error)
            world.abort(WRONG_INPUT)
        sys.stderr.write(f"rank {world.rank}: {traceback.format_exc()}\n")
        sys.stderr.flush()
        world.abort(1)


def _leave_if_told(world: ranks.Ranks, root: Path, notice: Notice) -> None:
    """End the process with `AGAIN` if a rank was told to leave and there is more to do. Collective."""
    # One rank's word: another may have found nothing more to do before the signal came.
    is_told = any(world.allgather(notice.is_given()))
    if is_told and world.bcast(layout.SweepFolder(root).current_state() == "running"):
        sys.stdout.flush()
        sys.stderr.flush()
        # Nobody leaves before all are here: Slurm ends a step when its first rank ends with an error. Not sys.exit:
        # submitit would write a result, and the job would count as done.
        world.barrier()
        os._exit(AGAIN)


def _work(world: ranks.Ranks, root: Path, job: str | None, n_ranks: int | None, notice: Notice) -> None:
    if n_ranks is not None and world.size != n_ranks:
        raise LaunchError(
            f"{n_ranks} ranks were asked for, but this worker has {world.size}: mpiexec and mpi4py use different "
            "MPI libraries. Use the mpiexec of the library that mpi4py loads, or set MPI4PY_LIBMPI."
        )
    study = SweepStudy(layout.SweepFolder(root.resolve()))
    state = layout.read_json(study.folder.state)
    timing = Timing(**state["timing"])
    name = world.bcast(job or f"{socket.gethostname()}-{os.getpid()}")
    folder = study.folder.worker(name)
    _register(world, study.folder, folder)
    timeline = Timeline(folder.utilisation, world.rank)
    timeline.begin("import", ago=processes.seconds_since_start())
    heart = liveness.Heart(folder, timing.heartbeat)
    if world.rank == 0:
        heart.beat()
        heart.start()
        liveness.clean_up(study.folder)
    watchdog = liveness.Watchdog(timing.hang_timeout)
    watchdog.start()
    node = world.on_node()
    group = node.in_groups(study.spec.ranks_per_trial)
    # Only now: importing TensorFlow takes seconds, and a worker is to be seen at once.
    cpus_of_ranks = node.allgather(devices.cpus())
    n_threads = devices.threads_per_rank(cpus_of_ranks, node.rank, state["workers_per_node"])
    timeline.devices = devices.prepare(n_threads, node.rank)
    from glrnn_hpc.worker.trainer import Trainer

    tracker = TrialTracker(study.folder, watchdog.progress)
    if group.rank == 0:
        tracker.prepare()
    timeline.begin("read")
    data = world.agreed(lambda: _read(study.spec, node, state.get("profile", {}).get("scratch")))
    if world.rank == 0:
        folder.ready.touch()
    # One rank's word: thousands would ask the file system of the working copy for its commit.
    trained_with = world.bcast(software() if world.rank == 0 else None)
    trainer = Trainer(study, data, group, watchdog, timeline, tracker, trained_with)
    if group.rank == 0:
        owner = Owner(name, world.rank, processes.this_process())
        pull(study, owner, timing, trainer, watchdog, timeline.begin, notice.is_given, trainer.conclude)
        trainer.dismiss()
        tracker.close()
    else:
        trainer.follow()
    timeline.write()
    # The others may still hold trials.
    world.barrier()
    heart.stop()


def _register(world: ranks.Ranks, sweep: layout.SweepFolder, folder: layout.WorkerFolder) -> None:
    members = world.gather((processes.this_process(), processes.mapped_segments()))
    if members is not None:
        folder.root.mkdir(parents=True, exist_ok=True)
        liveness.clean_up_after(sweep, folder)
        for mark in (folder.leaving, folder.ended):  # of the same job, before it was requeued
            mark.unlink(missing_ok=True)
        segments = [name for _, names in members for name in names]
        liveness.register(folder, [process for process, _ in members], segments)
    # No rank may hold a lease before its worker can be looked up.
    world.barrier()


def _read(spec: SweepSpec, node: ranks.Ranks, scratch: str | None) -> DemData | None:
    """Read every group that a trial of the sweep can select; None if it has a preprocessor with data of its own."""
    if "raw_data" not in spec.constants:
        return None
    file = spec.data_file
    pressures, types = group_choices(spec)
    with staged(file, scratch, node) as copy:
        return read_data(file, pressures, types, node, copy=copy, experiment=experiment_of(spec))
