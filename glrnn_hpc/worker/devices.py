"""Threads and GPU of a rank: its share of what the node has, set before TensorFlow starts its own pools."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def n_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_per_rank(node_size: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return how many threads one of `node_size` ranks on this node may keep busy.

    Slurm says it by `--cpus-per-task`, and may bind each rank to CPUs of its own; elsewhere the ranks share those that
    they all may use.
    """
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    if given.isdigit() and int(given) > 0:
        return min(int(given), n_cpus())
    return max(1, n_cpus() // node_size)


def gpu_of(local_rank: int, n_gpus: int) -> int | None:
    """Return which of the node's visible GPUs a rank takes; ranks share them evenly if there are more ranks."""
    return local_rank % n_gpus if n_gpus else None


def prepare(n_threads: int, local_rank: int) -> dict[str, Any]:
    """Give this rank its threads and its GPU; must come before the first TensorFlow operation.

    Parameters
    ----------
    n_threads : int
        For TensorFlow's pools and BLAS.
    local_rank : int
        This rank's number on its node.

    Returns
    -------
    dict
        `threads`, and the name of the `gpu`, None without one.
    """
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(n_threads)
    tf.config.threading.set_inter_op_parallelism_threads(n_threads)
    # Those that CUDA_VISIBLE_DEVICES names; Slurm sets it.
    gpus = tf.config.list_physical_devices("GPU")
    chosen = gpu_of(local_rank, len(gpus))
    if chosen is not None:
        tf.config.set_visible_devices(gpus[chosen], "GPU")
        # Otherwise the first of several ranks on a GPU would take all of its memory.
        tf.config.experimental.set_memory_growth(gpus[chosen], True)
    return {"threads": n_threads, "gpu": None if chosen is None else gpus[chosen].name}
