"""Threads of a rank: its share of the node's CPUs, set before TensorFlow starts its own pools."""

from __future__ import annotations

import os


def n_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_per_rank(node_size: int) -> int:
    """Return how many threads one of `node_size` ranks on this node may keep busy."""
    return max(1, n_cpus() // node_size)


def limit_threads(n_threads: int) -> None:
    """Keep TensorFlow's and BLAS' pools to `n_threads`; must come before the first TensorFlow operation."""
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(n_threads)
    tf.config.threading.set_inter_op_parallelism_threads(n_threads)
