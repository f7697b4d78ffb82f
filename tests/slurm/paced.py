"""A preprocessor whose epochs last a second on any machine, for trials that must outlast their jobs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf

from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression

#: Seconds of an epoch.
EPOCH = 1.0


def _wait() -> np.int64:
    time.sleep(EPOCH)
    return np.int64(0)


class Paced(PreprocessorTriaxialCompression):
    """Waits whenever the validation windows are gone through: once per epoch.

    The training windows must not wait: a trial that goes on passes over those of its earlier epochs.
    """

    def prepare_datasets(self, seed: int = SPLIT_SEED) -> tuple[dict[str, tf.data.Dataset], dict[str, Any]]:
        datasets, stats = super().prepare_datasets(seed)
        val = datasets["val"]
        waited = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(_wait, [], tf.int64))
        datasets["val"] = waited.flat_map(lambda _: val)
        return datasets, stats
