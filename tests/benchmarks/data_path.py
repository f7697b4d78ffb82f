"""Programs of the benchmark of the data path; each prints one line of JSON.

usage: python -m tests.benchmarks.data_path ours|peer FILE.hdf5
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

WINDOW = 20
REPEATS = 5


def added_memory() -> int:
    """Return the bytes of this process, its part of what it shares with others."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("smaps_rollup has no Pss")


def ours(path: str) -> None:
    """Open, read, prepare, take the first batch: on all ranks of mpiexec."""
    import tensorflow as tf

    from glrnn_hpc import batches
    from glrnn_hpc.data import ranks
    from glrnn_hpc.data.shared import read_data
    from glrnn_hpc.gather import Gather
    from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression

    world = ranks.world()
    tf.constant(1.0)
    n_values = Path(path).stat().st_size // 8
    world.barrier()
    before = added_memory()
    filled, batch, plain = [], [], []
    for repeat in range(REPEATS):
        if world.rank == 0:
            start = time.perf_counter()
            np.fromfile(path, count=n_values)
            plain.append(time.perf_counter() - start)
        node = world.on_node()
        world.barrier()
        start = time.perf_counter()
        data = read_data(path, node=node)
        filled.append(time.perf_counter() - start)
        preprocessor = PreprocessorTriaxialCompression(data, raw_data=path, window_size=WINDOW)
        train = preprocessor.prepare_arrays().splits["train"]
        made = batches.shuffled_batches(Gather(train, WINDOW), 256, epochs=range(1), seed=42)
        inputs, _ = next(iter(made))
        world.barrier()
        batch.append(time.perf_counter() - start)
        assert inputs["inputs"].shape == (256, WINDOW, 3)
        if repeat == 0:
            memory = sum(world.allgather(added_memory() - before))
        del data, preprocessor, train, made, inputs
        node.free()
    if world.rank == 0:
        found = {"filled": statistics.median(filled), "batch": statistics.median(batch), "first": batch[0]}
        print(json.dumps({**found, "fromfile": statistics.median(plain), "memory": memory, "ranks": world.size}))


def peer(path: str) -> None:
    """Prepare the same data with GrainLearning's preprocessor."""
    import grainlearning.rnn.preprocessor as its
    import tensorflow as tf

    tf.constant(1.0)
    config = {"raw_data": path, "pressure": "All", "experiment_type": "All", "add_e0": False, "add_pressure": True}
    config |= {"add_experiment_type": True, "train_frac": 0.7, "val_frac": 0.15, "window_size": WINDOW}
    config |= {"window_step": 1, "pad_length": 0, "standardize_outputs": True}
    before = added_memory()
    start = time.perf_counter()
    preprocessor = its.PreprocessorTriaxialCompression(**config)
    datasets, _ = preprocessor.prepare_datasets()
    next(iter(datasets["train"].batch(256)))
    taken = time.perf_counter() - start
    print(json.dumps({"batch": taken, "memory": added_memory() - before}))


if __name__ == "__main__":
    {"ours": ours, "peer": peer}[sys.argv[1]](sys.argv[2])
