"""The program of a worker: every rank pulls trials until the sweep has none left."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import traceback
from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.data import ranks
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.errors import GlrnnError, LaunchError
from glrnn_hpc.search import workers
from glrnn_hpc.search.leases import Owner
from glrnn_hpc.search.study import SweepStudy
from glrnn_hpc.search.sweep import SweepSpec
from glrnn_hpc.search.workers import Timing
from glrnn_hpc.worker import devices
from glrnn_hpc.worker.pull import pull
from glrnn_hpc.worker.timeline import Timeline

logger = logging.getLogger(__name__)


def run(root: Path, job: str | None = None, n_ranks: int | None = None) -> None:
    """Work on the sweep in `root` until every trial is final, or it is cancelled. Collective on the world.

    Parameters
    ----------
    root : Path
        Folder of the sweep.
    job : str, optional
        Name of this worker, the launcher's choice; by default host and pid.
    n_ranks : int, optional
        Number of ranks that the launcher asked for.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep.
    LaunchError
        If the number of ranks is another one than asked for.
    """
    world = ranks.world()
    try:
        _work(world, root, job, n_ranks)
        # The shared arrays must not be mapped away under a batch that is still being prepared.
        gc.collect()
        world.free()
    except BaseException as error:
        if world.size == 1:
            raise
        if isinstance(error, GlrnnError) and error.is_agreed:
            # Every rank is here: one speaks for all.
            if world.rank == 0:
                raise
            sys.exit(2)
        # The other ranks would wait for this one in MPI_Finalize for ever.
        text = str(error) if isinstance(error, GlrnnError) else traceback.format_exc()
        sys.stderr.write(f"rank {world.rank}: {text}\n")
        sys.stderr.flush()
        world.abort(2 if isinstance(error, GlrnnError) else 1)


def _work(world: ranks.Ranks, root: Path, job: str | None, n_ranks: int | None) -> None:
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
    _register(world, folder)
    timeline = Timeline(folder.utilisation, world.rank)
    timeline.begin("import")
    if world.rank == 0:
        heart = workers.Heart(folder, timing.heartbeat)
        heart.beat()
        heart.start()
        workers.clean_up(study.folder)
    watchdog = workers.Watchdog(timing.hang_timeout)
    watchdog.start()
    node = world.on_node()
    group = node.in_groups(study.spec.ranks_per_trial)
    # Only now: importing TensorFlow takes seconds, and a worker is to be seen at once.
    n_threads = devices.threads_per_rank(node.size * state["workers_per_node"])
    timeline.devices = devices.prepare(n_threads, node.rank)
    from glrnn_hpc.worker.trial import Trainer

    timeline.begin("read")
    data = world.agreed(lambda: _read(study.spec, node))
    trainer = Trainer(study, data, group, watchdog, timeline)
    if group.rank == 0:
        pull(study, Owner(name, world.rank, workers.this_process()), timing, trainer, watchdog, timeline.begin)
        trainer.dismiss()
    else:
        trainer.follow()
    timeline.write()


def _register(world: ranks.Ranks, folder: layout.WorkerFolder) -> None:
    members = world.gather((workers.this_process(), workers.mapped_segments()))
    if members is not None:
        folder.root.mkdir(parents=True, exist_ok=True)
        segments = [name for _, names in members for name in names]
        workers.register(folder, [process for process, _ in members], segments)
    # No rank may hold a lease before its worker can be looked up.
    world.barrier()


def _read(spec: SweepSpec, node: ranks.Ranks) -> DemData | None:
    """Read every group that a trial of the sweep can select; None if it has a preprocessor with data of its own."""
    if "raw_data" not in spec.constants:
        return None
    values = {parameter.name: parameter.extremes() for parameter in spec.parameters}
    return read_data(
        values["raw_data"][0],
        _union(values.get("pressure", ["All"])),
        _union(values.get("experiment_type", ["All"])),
        node,
    )


def _union(choices: list[str | float | list[str | float]]) -> str | list[str | float]:
    names: list[str | float] = []
    for choice in choices:
        if choice == "All":
            return "All"
        names.extend(choice if isinstance(choice, list) else [choice])
    return list(dict.fromkeys(names))
