"""Triaxial compressions from an HDF5 file."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc.config import (
    PREPROCESSING_KEYS,
    RUN_KEYS,
    SPLIT_SEED,
    PreprocessingConfig,
    log_defaults,
    parse,
    unknown_key,
    without_always,
)
from glrnn_hpc.data.hdf5 import GroupShape, check_same_shapes, select_groups
from glrnn_hpc.data.shared import Block, DemData, read_data
from glrnn_hpc.errors import DataError
from glrnn_hpc.preprocessor.base import ArrayPreprocessor, PreparedData, sequence_dataset
from glrnn_hpc.preprocessor.splits import split_and_scale
from glrnn_hpc.sequences import Sequences

Array = NDArray[Any]


class PreprocessorTriaxialCompression(ArrayPreprocessor, is_seed_free=True):
    """Triaxial compressions from an HDF5 file.

    Parameters
    ----------
    source : DemData, optional
        The file's data where they are in memory already; `raw_data` is then a name only.
    **config
        Keys of `config.PreprocessingConfig`; those of the training are accepted and ignored.

    Raises
    ------
    ConfigError
        If a key is unknown or a value not allowed.
    """

    def __init__(self, source: DemData | None = None, **config: Any) -> None:
        config = without_always(config, "preprocessor")
        for key in config:
            if key not in RUN_KEYS:
                raise unknown_key(key, RUN_KEYS)
        known = {key: value for key, value in config.items() if key in PREPROCESSING_KEYS}
        self.config = parse(PreprocessingConfig, known, "preprocessor")
        if source is None:
            log_defaults(self.config, known, "preprocessor")
        self._source = source

    @classmethod
    def get_default_config(cls) -> dict[str, Any]:
        """Return the keys of this preprocessor and their defaults; `raw_data` has none and must be given."""
        return PreprocessingConfig(raw_data="data/sequences.hdf5").as_dict()

    def prepare_arrays(self, seed: int = SPLIT_SEED) -> PreparedData:
        """Return the splits as whole sequences.

        Raises
        ------
        DataError
            If the file cannot be read, its groups do not fit together, or a split would be empty.
        WindowError
            If a window is not shorter than the sequences.
        """
        block, rows, params = self._merged()
        names: dict[str, Any] = {f"{kind}_names": names for kind, names in self.column_names().items()}
        names["fingerprint"] = self.fingerprint()
        return split_and_scale(block, rows, params, self.config, names, seed)

    def prepare_single_dataset(self) -> tf.data.Dataset:
        """Return all whole sequences, unbatched, padded as in training, with labels in original units."""
        return sequence_dataset(*self.all_sequences().arrays())

    def all_sequences(self) -> Sequences:
        """Return all whole sequences, padded as in training, with labels in original units."""
        block, rows, params = self._merged()
        return Sequences(block.inputs, block.outputs, rows, params, self.config.pad_length)

    def groups(self) -> tuple[GroupShape, ...]:
        """Return the merged groups in their order."""
        return select_groups(self.source().schema, self.config.pressure, self.config.experiment_type)

    def fingerprint(self) -> str:
        """Return what tells the chosen sequences and their order from others: a hash of groups and parameters."""
        digest = hashlib.sha256()
        for shape in self.groups():
            digest.update(f"{shape.name} {shape.n_samples} ".encode())
            digest.update(np.ascontiguousarray(self.source().groups[shape.name].params).tobytes())
        return digest.hexdigest()

    def source(self) -> DemData:
        """Return the data that were given, or read them once."""
        if self._source is None:
            self._source = read_data(self.config.raw_data, self.config.pressure, self.config.experiment_type)
        return self._source

    def _merged(self) -> tuple[Block, Array, Array]:
        """Return the block of the chosen groups, their rows in the merged order, and their extended parameters."""
        data = self.source()
        shapes = self.groups()
        check_same_shapes(data.schema, shapes)
        block, rows = data.rows([shape.name for shape in shapes])
        params = np.concatenate([self._extended(data.groups[shape.name].params, shape, data) for shape in shapes])
        if self.config.add_e0:
            params = np.concatenate([params, block.outputs[rows, 0, self._e0_column(data), None]], axis=1)
        return block, rows, params.astype("float32")

    def _extended(self, params: Array, shape: GroupShape, data: DemData) -> Array:
        columns = [params]
        if self.config.add_pressure:
            try:
                pressure = float(shape.pressure) / 1e6
            except ValueError as error:
                raise DataError(
                    f"{data.schema.path}: group {shape.pressure!r} is no pressure in Pa; set add_pressure to False."
                ) from error
            columns.append(np.full((len(params), 1), pressure))
        if self.config.add_experiment_type:
            if shape.experiment_type not in ("drained", "undrained"):
                raise DataError(
                    f"{data.schema.path}: {shape.name} is neither drained nor undrained; "
                    "set add_experiment_type to False."
                )
            columns.append(np.full((len(params), 1), float(shape.experiment_type == "drained")))
        return np.concatenate(columns, axis=1)

    def column_names(self) -> dict[str, list[str]]:
        """Return the names of the columns of `input`, `param` (those that are appended too) and `label`."""
        config, schema = self.config, self.source().schema
        extra = {"pressure": config.add_pressure, "experiment_type": config.add_experiment_type, "e0": config.add_e0}
        params = [*schema.contact_params, *(name for name, is_added in extra.items() if is_added)]
        return {"input": list(schema.inputs_of(self.groups()[0])), "param": params, "label": list(schema.outputs)}

    def _e0_column(self, data: DemData) -> int:
        if "e" not in data.schema.outputs:
            raise DataError(
                f"{data.schema.path}: add_e0 needs an output named e; there are {', '.join(data.schema.outputs)}."
            )
        return data.schema.outputs.index("e")
