from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from glrnn_hpc.worker import devices

ALL = frozenset(range(6))


@pytest.mark.parametrize(
    ("cpus_of_ranks", "n_workers", "given", "threads"),
    [
        ([ALL], 1, {}, [6]),
        ([ALL] * 4, 1, {}, [1] * 4),
        ([ALL] * 3, 1, {}, [2] * 3),
        ([ALL] * 9, 1, {}, [1] * 9),
        ([ALL], 2, {}, [3]),
        # Bound to CPUs of their own, to two sockets, and one of them to a part of what the other has.
        ([frozenset({0, 1, 2}), frozenset({3, 4, 5})], 1, {}, [3, 3]),
        ([frozenset({0, 1, 2, 3})] * 2 + [frozenset({4, 5})] * 2, 1, {}, [2, 2, 1, 1]),
        ([ALL, frozenset({0, 1})], 1, {}, [5, 1]),
        # Not bound: the other CPUs may be another job's. More ranks than tasks: they share what their task has.
        ([ALL] * 2, 1, {"SLURM_CPUS_PER_TASK": "2"}, [2, 2]),
        ([ALL] * 3, 1, {"SLURM_CPUS_PER_TASK": "6"}, [2] * 3),
        ([frozenset({0, 1})], 1, {"SLURM_CPUS_PER_TASK": "8"}, [2]),
        ([ALL], 1, {"SLURM_CPUS_PER_TASK": ""}, [6]),
    ],
)
def test_the_ranks_of_a_node_share_its_cpus(
    cpus_of_ranks: list[frozenset[int]], n_workers: int, given: dict[str, str], threads: list[int]
):
    found = [devices.threads_per_rank(cpus_of_ranks, rank, n_workers, given) for rank in range(len(cpus_of_ranks))]
    assert found == threads


def test_ranks_are_spread_over_the_gpus():
    assert [devices.gpu_of(rank, 2) for rank in range(5)] == [0, 1, 0, 1, 0]
    assert devices.gpu_of(3, 0) is None


def test_tensorflow_keeps_to_the_threads_of_its_rank_and_to_whole_float32():
    program = (
        "import json, os; from glrnn_hpc.worker import devices; found = vars(devices.prepare(1, 0));"
        "import tensorflow as tf;"
        "pools = [tf.config.threading.get_intra_op_parallelism_threads(),"
        " tf.config.threading.get_inter_op_parallelism_threads(), os.environ['OMP_NUM_THREADS']];"
        "exact = not tf.config.experimental.tensor_float_32_execution_enabled();"
        "print(json.dumps([found, pools, exact]))"
    )
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)
    assert json.loads(done.stdout) == [{"threads": 1, "gpu": None, "visible": ""}, [1, 1, "1"], True]
