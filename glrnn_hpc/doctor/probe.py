"""Probe of a rank: the program that `glrnn doctor` starts on this machine, or as a job of Slurm.

Each rank writes a record of the host where it runs, and of four steps: MPI, file system, HDF5 and TensorFlow.
"""

from __future__ import annotations

import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict, TypeVar, cast

from glrnn_hpc import layout, logs
from glrnn_hpc.data import ranks
from glrnn_hpc.worker import devices

#: Ranks that the probe has on each node.
RANKS_PER_NODE = 2

#: Repetitions of what must work among many ranks: enough to meet the others, and a second on a slow file server.
N_LINKS, N_REPLACES, N_LOCKS = 20, 40, 20

_SIZE = 4096


Step = TypeVar("Step", "MpiStep", "FilesStep", "Hdf5Step", "TensorflowStep")


class MpiStep(TypedDict, total=False):
    """Result of the step MPI: number of the rank, sizes, hosts of all ranks, and the library; or its error."""

    error: str
    rank: int
    size: int
    hosts: list[str]
    on_node: int
    version: str
    file: str


class FilesStep(TypedDict, total=False):
    """Result of the step files: links won, torn reads, seconds for the lock, fault of scratch; or its error."""

    error: str
    won: int
    torn: int
    lock_seconds: float
    scratch: str | None


class Hdf5Step(TypedDict, total=False):
    """Result of the step HDF5: whether h5py reads by MPI-IO; or its error."""

    error: str
    mpio: bool


class TensorflowStep(TypedDict, total=False):
    """Result of the step TensorFlow: version, seconds to import it, GPUs and threads of the rank; or its error."""

    error: str
    version: str
    seconds: float
    gpus: list[str]
    threads: int | None
    gpu: str | None
    visible: str | None


class RankRecord(TypedDict, total=False):
    """Record of one rank, as its file and `glrnn doctor --json` have it; steps that it did not reach are missing.

    `doing` is the step that it is at, None at its end; `visible` is CUDA_VISIBLE_DEVICES; `gpus` are UUIDs.
    """

    host: str
    task: int
    python: str
    cpus: list[int]
    visible: str | None
    gpus: list[str]
    MPI: MpiStep
    files: FilesStep
    HDF5: Hdf5Step
    TensorFlow: TensorflowStep
    doing: str | None
    ended: float


def probe_rank(root: str, scratch: str | None = None) -> None:
    """Write the record of this rank into a file in `root`, anew after each step. Collective on the world.

    The record of a rank that dies or hangs in a step names this step. What a step raises is its result.

    Parameters
    ----------
    root : str
        Folder that all ranks and the doctor see.
    scratch : str, optional
        Folder on the node's own disk, like `scratch` of a profile.
    """
    logs.to_stderr()
    folder = Path(root)
    host = socket.gethostname()
    file = folder / f"{host}-{os.getpid()}.rank.json"
    record: RankRecord = {
        "host": host,
        "task": int(os.environ.get("SLURM_PROCID", 0)),
        "python": f"{platform.python_version()} ({sys.executable})",
        "cpus": sorted(devices.cpus()),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "gpus": nvidia_gpus("uuid"),
    }
    world = ranks.Ranks()
    node = ranks.Ranks()

    def join_world() -> MpiStep:
        nonlocal world, node
        world = ranks.world()
        hosts = world.allgather(host)
        node = world.on_node()
        library = ranks.library() if world.comm is not None else {}
        return cast(MpiStep, {"rank": world.rank, "size": world.size, "hosts": hosts, "on_node": node.rank, **library})

    def begin(step: str) -> None:
        layout.write_json(file, {**record, "doing": step})

    begin("MPI")
    record["MPI"] = _result_of(join_world)
    begin("files")
    record["files"] = _result_of(lambda: _probe_files(folder, world, scratch))
    begin("HDF5")
    record["HDF5"] = _result_of(_probe_hdf5)
    begin("TensorFlow")
    record["TensorFlow"] = _result_of(lambda: _probe_tensorflow(node))
    world.free()
    layout.write_json(file, {**record, "doing": None, "ended": time.time()})


def _result_of(step: Callable[[], Step]) -> Step:
    try:
        return step()
    except Exception as error:
        return cast(Step, {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})


def prepare_folder(folder: Path) -> None:
    """Make the files that the ranks need in their folder, before they are started."""
    # Before they look: on a network file system a node may go on to believe that there is no such file.
    _counter(folder).write_text("0", encoding="utf-8")


def read_records(folder: Path) -> list[RankRecord]:
    """Return the records that the ranks have written so far."""
    return [layout.read_json(path) for path in sorted(folder.glob("*.rank.json"))]


def read_counter(folder: Path) -> int | None:
    """Return the number to which the ranks counted together; None if it cannot be read."""
    try:
        return int(_counter(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def nvidia_gpus(field: str) -> list[str]:
    """Return a field of nvidia-smi for each GPU that this process can reach; nothing where there is none.

    Where Slurm hides the GPUs of other ranks, each rank's own is number 0: only their UUIDs tell them apart.
    """
    try:
        command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _counter(folder: Path) -> Path:
    return folder / "count"


def _probe_files(folder: Path, world: ranks.Ranks, scratch: str | None) -> FilesStep:
    """Do what a sweep needs of a file system, at the same time as the other ranks."""
    world.barrier()
    me = secrets.token_hex(8)
    # Of all ranks exactly one may win each name.
    won = sum(layout.publish_once(folder / f"link-{number}.json", {"winner": me}) for number in range(N_LINKS))
    torn = 0
    for _ in range(N_REPLACES):
        layout.write_text(folder / "replaced", me[0] * _SIZE)
        text = (folder / "replaced").read_text(encoding="utf-8")
        torn += len(text) != _SIZE or len(set(text)) != 1
    return {"won": won, "torn": torn, "lock_seconds": _count_up(folder), "scratch": _scratch_fault(scratch)}


def _count_up(folder: Path) -> float:
    """Count a number in a file up under the journal's lock; return the seconds that each count took.

    A lock that two hold at the same time loses counts.
    """
    from glrnn_hpc.study.storage import TailLock

    counter = _counter(folder)
    lock = TailLock(str(counter.resolve()))
    began = time.monotonic()
    for _ in range(N_LOCKS):
        lock.acquire()
        try:
            counter.write_text(str(int(counter.read_text(encoding="utf-8")) + 1), encoding="utf-8")
        finally:
            lock.release()
    return (time.monotonic() - began) / N_LOCKS


def _scratch_fault(scratch: str | None) -> str | None:
    """Return why data cannot be copied to a node's own disk; None if they can, or need not be."""
    if scratch is None:
        return None
    place = Path(os.path.expandvars(scratch))
    if "$" in str(place):
        return f"the node has no variable {scratch}"
    if not (place.is_dir() and os.access(place, os.W_OK)):
        return f"{place} is no folder on the node that can be written to"
    return None


def _probe_hdf5() -> Hdf5Step:
    # Here: an h5py that reads by MPI-IO starts MPI when it is imported.
    from glrnn_hpc.data import hdf5_access

    return {"mpio": hdf5_access.has_mpio()}


def _probe_tensorflow(node: ranks.Ranks) -> TensorflowStep:
    began = time.monotonic()
    import tensorflow as tf

    seconds = time.monotonic() - began
    n_threads = devices.threads_per_rank(node.allgather(devices.cpus()), node.rank)
    prepared = devices.prepare(n_threads, node.rank)
    gpus = [gpu.name for gpu in tf.config.list_physical_devices("GPU")]
    step = {"version": tf.__version__, "seconds": round(seconds, 2), "gpus": gpus, **asdict(prepared)}
    return cast(TensorflowStep, step)


if __name__ == "__main__":
    probe_rank(sys.argv[1])
