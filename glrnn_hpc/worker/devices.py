"""Threads and GPU of a rank: its share of the node, set before TensorFlow starts its own pools."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from glrnn_hpc.keras_import import import_keras
from glrnn_hpc.records.utilisation import Devices

logger = logging.getLogger(__name__)


def cpus() -> frozenset[int]:
    """Return the numbers of the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def n_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(cpus())


def threads_per_rank(
    cpus_of_ranks: Sequence[frozenset[int]],
    local_rank: int,
    n_workers: int = 1,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Return how many threads a rank may keep busy.

    Parameters
    ----------
    cpus_of_ranks : sequence of frozenset of int
        CPUs that each rank of this node may use. Launchers bind ranks to CPUs of their own, to a socket's, or not at
        all: ranks that share a CPU have a part of it each.
    local_rank : int
        Which of them is meant.
    n_workers : int
        Workers on this node that use the same CPUs.
    environment : mapping
        Slurm's `--cpus-per-task` in it is an upper limit: where ranks are not bound, other jobs have the other CPUs;
        ranks that another launcher started within one task of Slurm share it.
    """
    n_users = Counter(cpu for each in cpus_of_ranks for cpu in each)
    # A fraction, as a sum of thirds in floating point may stay below the whole number.
    share = sum((Fraction(1, n_users[cpu]) for cpu in cpus_of_ranks[local_rank]), Fraction()) / n_workers
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    limit = int(given) if given.isdigit() else 0
    return max(1, min(limit, int(share)) if limit else int(share))


def gpu_of(local_rank: int, n_gpus: int) -> int | None:
    """Return which of the node's visible GPUs a rank takes; ranks share them evenly if there are more ranks."""
    return local_rank % n_gpus if n_gpus else None


def prepare(n_threads: int, local_rank: int) -> Devices:
    """Give this rank its threads and its GPU; must come before the first TensorFlow operation.

    Parameters
    ----------
    n_threads : int
        For TensorFlow's pools, and for OpenMP in what is loaded later; NumPy's BLAS has its threads by then.
    local_rank : int
        This rank's number on its node.

    Returns
    -------
    Devices
        Its threads, None if they could not be set any more, and its GPU.
    """
    os.environ["OMP_NUM_THREADS"] = str(n_threads)
    import_keras()  # TensorFlow would import it too, and with it scikit-learn and Matplotlib
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(n_threads)
        tf.config.threading.set_inter_op_parallelism_threads(n_threads)
    except RuntimeError:
        # Only with --cluster debug, in a process that has computed before: pools and devices stay as they are.
        logger.warning("TensorFlow runs in this process already: it keeps its threads and its GPU")
        return Devices(visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
    # Its 10 bits of mantissa would part the losses of a GPU from what the collector computes on another device.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    # Those that CUDA_VISIBLE_DEVICES names; Slurm sets it.
    gpus = tf.config.list_physical_devices("GPU")
    chosen = gpu_of(local_rank, len(gpus))
    if chosen is not None:
        tf.config.set_visible_devices(gpus[chosen], "GPU")
        # Otherwise the first of several ranks on a GPU would take all of its memory.
        tf.config.experimental.set_memory_growth(gpus[chosen], True)
    gpu = None if chosen is None else gpus[chosen].name
    return Devices(threads=n_threads, gpu=gpu, visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
