from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from glrnn_hpc.worker import devices


@pytest.mark.parametrize(
    ("given", "node_size", "threads"), [({}, 1, 6), ({}, 4, 1), ({"SLURM_CPUS_PER_TASK": "3"}, 4, 3), ({}, 9, 1)]
)
def test_the_ranks_of_a_node_share_its_cpus(given: dict[str, str], node_size: int, threads: int, monkeypatch):
    monkeypatch.setattr(devices, "n_cpus", lambda: 6)
    assert devices.threads_per_rank(node_size, given) == threads


def test_a_rank_never_takes_more_threads_than_it_is_bound_to(monkeypatch):
    monkeypatch.setattr(devices, "n_cpus", lambda: 2)
    assert devices.threads_per_rank(1, {"SLURM_CPUS_PER_TASK": "8"}) == 2


def test_ranks_are_spread_over_the_gpus():
    assert [devices.gpu_of(rank, 2) for rank in range(5)] == [0, 1, 0, 1, 0]
    assert devices.gpu_of(3, 0) is None


def test_tensorflow_keeps_to_the_threads_of_its_rank():
    program = (
        "import json, os; from glrnn_hpc.worker import devices; found = devices.prepare(1, 0); import tensorflow as tf;"
        "pools = [tf.config.threading.get_intra_op_parallelism_threads(),"
        " tf.config.threading.get_inter_op_parallelism_threads(), os.environ['OMP_NUM_THREADS']];"
        "print(json.dumps([found, pools]))"
    )
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)
    assert json.loads(done.stdout) == [{"threads": 1, "gpu": None}, [1, 1, "1"]]
