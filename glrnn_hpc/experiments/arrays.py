"""Arrays in memory: parameters and responses under one load sequence, as GrainLearning's calibrations have them."""

from __future__ import annotations

from glrnn_hpc.experiments.triaxial import TriaxialCompression


class ArraysInMemory(TriaxialCompression):
    """Experiment of `PreprocessorLSTM`: its arrays come from Python, so that no file has its data.

    Units, types and the name of the load are those of triaxial compressions, from which GrainLearning's calibrations
    take their arrays.
    """

    name = "arrays"
    preprocessor = "glrnn_hpc.preprocessor:PreprocessorLSTM"
