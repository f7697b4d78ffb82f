"""Preprocessors under the names that scripts written for `grainlearning.rnn` import them by."""

from __future__ import annotations

from glrnn_hpc.experiments.arrays import PreprocessorLSTM
from glrnn_hpc.experiments.base import (
    ArrayPreprocessor,
    PreparedData,
    Preprocessor,
    gives_arrays,
    sequence_dataset,
)
from glrnn_hpc.experiments.splits import scaling_of, split_and_scale, split_ids
from glrnn_hpc.experiments.triaxial import PreprocessorTriaxialCompression

__all__ = [
    "ArrayPreprocessor",
    "PreparedData",
    "Preprocessor",
    "PreprocessorLSTM",
    "PreprocessorTriaxialCompression",
    "gives_arrays",
    "scaling_of",
    "sequence_dataset",
    "split_and_scale",
    "split_ids",
]
