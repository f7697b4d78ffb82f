"""What a rank finds where it runs: the program that `glrnn doctor` starts here, or as a job of Slurm."""

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
from typing import Any

from glrnn_hpc import layout, logs
from glrnn_hpc.data import ranks
from glrnn_hpc.worker import devices

#: Ranks that look, on each node.
RANKS_PER_NODE = 2

#: How often each rank does what must work among many; enough to meet the others, and a second on a slow file server.
N_LINKS, N_REPLACES, N_LOCKS = 20, 40, 20

_SIZE = 4096


def look(root: str, scratch: str | None = None) -> None:
    """Write what this rank finds into a file in `root`, anew after each step. Collective on the world.

    A rank that dies or hangs in a step has told what it was doing. What a step raises is part of what it finds.

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
    found: dict[str, Any] = {
        "host": host,
        "task": int(os.environ.get("SLURM_PROCID", 0)),
        "python": f"{platform.python_version()} ({sys.executable})",
        "cpus": sorted(devices.cpus()),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "gpus": nvidia_gpus("uuid"),
    }
    world = ranks.Ranks()
    node = ranks.Ranks()

    def meet() -> dict[str, Any]:
        nonlocal world, node
        world = ranks.world()
        hosts = world.allgather(host)
        node = world.on_node()
        return {
            "rank": world.rank,
            "size": world.size,
            "hosts": hosts,
            "on_node": node.rank,
            **(ranks.library() if world.comm is not None else {}),
        }

    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "MPI": meet,
        "files": lambda: _try_files(folder, world, scratch),
        "HDF5": _try_hdf5,
        "TensorFlow": lambda: _try_tensorflow(node),
    }
    for name, step in steps.items():
        layout.write_json(file, {**found, "doing": name})
        try:
            found[name] = step()
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    world.free()
    layout.write_json(file, {**found, "doing": None, "ended": time.time()})


def prepare(folder: Path) -> None:
    """Make what the ranks find in their folder, before they are started."""
    # Before they look: on a network file system a node may go on to believe that there is no such file.
    _count(folder).write_text("0", encoding="utf-8")


def found_in(folder: Path) -> list[dict[str, Any]]:
    """Return what the ranks that looked have written so far."""
    return [layout.read_json(path) for path in sorted(folder.glob("*.rank.json"))]


def count_in(folder: Path) -> int | None:
    """Return the number that they counted up together."""
    try:
        return int(_count(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def nvidia_gpus(field: str) -> list[str]:
    """Return what nvidia-smi tells of each GPU that this process can reach; nothing where there is none.

    Where Slurm hides the GPUs of other ranks, each rank's own is number 0: only their UUIDs tell them apart.
    """
    try:
        command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def _count(folder: Path) -> Path:
    return folder / "count"


def _try_files(folder: Path, world: ranks.Ranks, scratch: str | None) -> dict[str, Any]:
    """Do what a sweep asks of a file system, at the same time as the other ranks."""
    world.barrier()
    me = secrets.token_hex(8)
    # Of all ranks exactly one may win each name.
    won = sum(layout.publish_once(folder / f"link-{number}.json", {"winner": me}) for number in range(N_LINKS))
    torn = 0
    for _ in range(N_REPLACES):
        layout.write_text(folder / "replaced", me[0] * _SIZE)
        text = (folder / "replaced").read_text(encoding="utf-8")
        torn += len(text) != _SIZE or len(set(text)) != 1
    return {"won": won, "torn": torn, "lock_seconds": _count_up(folder), "scratch": _try_scratch(scratch)}


def _count_up(folder: Path) -> float:
    """Count a number in a file up under the journal's lock; return the seconds that each time took.

    A lock that two hold at the same time loses counts.
    """
    from glrnn_hpc.study.storage import TailLock

    count = _count(folder)
    lock = TailLock(str(count.resolve()))
    began = time.monotonic()
    for _ in range(N_LOCKS):
        lock.acquire()
        try:
            count.write_text(str(int(count.read_text(encoding="utf-8")) + 1), encoding="utf-8")
        finally:
            lock.release()
    return (time.monotonic() - began) / N_LOCKS


def _try_scratch(scratch: str | None) -> str | None:
    """Return why data cannot be copied to a node's own disk; None if they can, or need not be."""
    if scratch is None:
        return None
    place = Path(os.path.expandvars(scratch))
    if "$" in str(place):
        return f"the node has no variable {scratch}"
    if not (place.is_dir() and os.access(place, os.W_OK)):
        return f"{place} is no folder on the node that can be written to"
    return None


def _try_hdf5() -> dict[str, Any]:
    # Here: an h5py that reads by MPI-IO starts MPI when it is imported.
    from glrnn_hpc.data import hdf5

    return {"mpio": hdf5.has_mpio()}


def _try_tensorflow(node: ranks.Ranks) -> dict[str, Any]:
    began = time.monotonic()
    import tensorflow as tf

    seconds = time.monotonic() - began
    n_threads = devices.threads_per_rank(node.allgather(devices.cpus()), node.rank)
    prepared = devices.prepare(n_threads, node.rank)
    gpus = [gpu.name for gpu in tf.config.list_physical_devices("GPU")]
    return {"version": tf.__version__, "seconds": round(seconds, 2), "gpus": gpus, **asdict(prepared)}


if __name__ == "__main__":
    look(sys.argv[1])
