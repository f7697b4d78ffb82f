"""Preprocessors under the names that scripts written for `grainlearning.rnn` import them by."""

from __future__ import annotations

from glrnn_hpc.preprocessor.base import (
    ArrayPreprocessor,
    PreparedData,
    Preprocessor,
    gives_arrays,
    sequence_dataset,
)
from glrnn_hpc.preprocessor.from_arrays import PreprocessorLSTM
from glrnn_hpc.preprocessor.from_file import FilePreprocessor, PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.splits import scaling_of, split_and_scale, split_ids

__all__ = [
    "ArrayPreprocessor",
    "FilePreprocessor",
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
