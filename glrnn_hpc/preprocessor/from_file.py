"""Preprocessor of an experiment whose sequences lie in an HDF5 file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
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
    warn_of_unknown_key,
    without_always,
)
from glrnn_hpc.data.column_checks import check_names
from glrnn_hpc.data.hdf5 import GroupShape, Schema, select_groups
from glrnn_hpc.data.merged_groups import MergedGroups, chosen_features, merge_groups
from glrnn_hpc.data.shared import DemData, GroupArrays, read_data
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.base import Group
from glrnn_hpc.experiments.registry import experiment_named, experiment_of
from glrnn_hpc.experiments.triaxial import TRIAXIAL, VOID_RATIO
from glrnn_hpc.models.registry import KEY as NETWORK
from glrnn_hpc.models.registry import is_built_in
from glrnn_hpc.preprocessor.base import PreparedData, sequence_dataset
from glrnn_hpc.preprocessor.configured import ConfiguredPreprocessor
from glrnn_hpc.preprocessor.splits import UntransformableLabel, split_and_scale
from glrnn_hpc.references import import_reference
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.targets import choose_targets

logger = logging.getLogger(__name__)

Array = NDArray[Any]


class FilePreprocessor(ConfiguredPreprocessor, is_seed_free=True):
    """Preprocessor of the sequences in an HDF5 file.

    Parameters
    ----------
    source : DemData, optional
        The file's data where they are in memory already; `raw_data` is then a name only.
    **config
        Keys of `config.PreprocessingConfig`; those of the training are accepted and ignored. `experiment` tells what
        the file holds.

    Attributes
    ----------
    experiment : Experiment
        Of the file.
    takes_first_output_for_e0 : bool
        Whether `add_e0` appends the first output where none is called e, as GrainLearning does, or refuses the file.

    Raises
    ------
    ConfigError
        If a key is unknown or a value not allowed.
    """

    takes_first_output_for_e0: bool = False

    def __init__(self, source: DemData | None = None, **config: Any) -> None:
        config = without_always(config, "preprocessor")
        for key in config:
            if key not in RUN_KEYS and is_built_in(config.get(NETWORK)):  # the network may have keys of its own
                self._take_unknown_key(key)
        known = {key: value for key, value in config.items() if key in PREPROCESSING_KEYS}
        self._source = source
        self.configure(parse(PreprocessingConfig, known, "preprocessor"))
        if source is None:
            log_defaults(self.config, known, "preprocessor")

    def configure(self, config: PreprocessingConfig) -> None:
        """Take a configuration; data that were read for another file or other groups are read again."""
        earlier = getattr(self, "config", None)
        chosen = ("raw_data", "pressure", "experiment_type", "experiment")
        if earlier is not None and any(getattr(earlier, key) != getattr(config, key) for key in chosen):
            self._source = None
        self.config = config
        self.experiment = experiment_named(config.experiment, "preprocessor.experiment")
        self._appended = self.experiment.appended_parameters(config)

    def _take_unknown_key(self, key: str) -> None:
        """Refuse a key that is no key of a configuration."""
        raise unknown_key(key, RUN_KEYS)

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
        merged = self._merged()
        columns = self.column_names()
        targets = choose_targets(
            self.experiment, self.config, columns, {shape.experiment_type for shape in self.groups()}
        )
        names: dict[str, list[str] | str] = {f"{kind}_names": names for kind, names in columns.items()}
        names["fingerprint"] = self.fingerprint()
        try:
            return split_and_scale(
                merged.stack,
                merged.rows,
                merged.params,
                self.config,
                names,
                seed,
                columns=merged.columns,
                targets=targets,
            )
        except UntransformableLabel as error:
            raise DataError(self._located(error)) from error

    def prepare_single_dataset(self) -> tf.data.Dataset:
        """Return all whole sequences, unbatched, padded as in training, with labels in original units."""
        return sequence_dataset(*self.all_sequences().arrays())

    def all_sequences(self) -> Sequences:
        """Return all whole sequences, padded as in training, with labels in original units."""
        merged = self._merged()
        stack = merged.stack
        return Sequences(
            stack.inputs, stack.outputs, merged.rows, merged.params, self.config.pad_length, columns=merged.columns
        )

    def groups(self) -> tuple[GroupShape, ...]:
        """Return the merged groups in their order."""
        return select_groups(self.source().schema, self.config.pressure, self.config.experiment_type)

    def fingerprint(self) -> str:
        """Return a hash of the chosen groups and their parameters: other sequences, or another order, have another."""
        digest = hashlib.sha256()
        for shape in self.groups():
            digest.update(f"{shape.name} {shape.n_samples} ".encode())
            digest.update(np.ascontiguousarray(self.source().groups[shape.name].params).tobytes())
        return digest.hexdigest()

    def source(self) -> DemData:
        """Return the data that were given, or read them once."""
        if self._source is None:
            config = self.config
            self._source = read_data(
                config.raw_data, config.pressure, config.experiment_type, experiment=self.experiment
            )
        return self._source

    def column_names(self) -> dict[str, list[str]]:
        """Return the names of the columns of `input`, `param` (those that are appended too) and `label`."""
        schema = self.source().schema
        params = [*schema.contact_params, *(parameter.name for parameter in self._appended)]
        check_names(schema.path, "contact_params with what the experiment appends (add_... switches it off)", params)
        features = chosen_features(schema, self.groups(), self.config, self.experiment.derived_features())
        return {"input": list(features), "param": params, "label": list(schema.outputs)}

    def _merged(self) -> MergedGroups:
        """Return the chosen groups, one after the other, with their extended parameters."""
        data, shapes = self.source(), self.groups()
        params = np.concatenate([self._extended(data.groups[shape.name], data.schema) for shape in shapes])
        derived = self.experiment.derived_features()
        return merge_groups(data, shapes, params.astype("float32"), self.config, derived)

    def _located(self, error: UntransformableLabel) -> str:
        """Return the text of an error with the group and the sequence in it that a place in the merged order means."""
        sequence = error.sequence
        for shape in self.groups():
            if sequence < shape.n_samples:
                return f"{self.source().schema.path}: {shape.name}, sequence {sequence}, step {error.step}: {error}"
            sequence -= shape.n_samples
        return str(error)

    def _extended(self, arrays: GroupArrays, schema: Schema) -> Array:
        """Return the parameters of a group, (n_samples, n_params), with those that are appended."""
        shape = arrays.shape
        group = Group(schema.path, shape.pressure, shape.experiment_type, self._output_names(schema), arrays.outputs)
        columns = [arrays.params]
        for parameter in self._appended:
            values = np.asarray(parameter.values(group))
            if values.shape not in ((), (shape.n_samples,)):
                raise DataError(
                    f"{schema.path}: {shape.name}: the experiment {self.experiment.name} gives {parameter.name} of "
                    f"shape {values.shape}; one number, or one for each of the {shape.n_samples} samples, is needed."
                )
            columns.append(np.broadcast_to(values, (shape.n_samples,))[:, None])
        return np.concatenate(columns, axis=1)

    def _output_names(self, schema: Schema) -> tuple[str, ...]:
        """Return the names of the outputs that parameters are computed from."""
        names = schema.outputs
        if not (self.takes_first_output_for_e0 and self.config.add_e0 and names) or VOID_RATIO in names:
            return names
        if self.experiment.name == TRIAXIAL.name:
            logger.warning(
                "%s: add_e0 takes the first step of the first output, %s, for the initial void ratio, because no "
                "output is called %s; name the outputs in the attributes of the file if it is another one.",
                schema.path,
                names[0],
                VOID_RATIO,
            )
            return (VOID_RATIO, *names[1:])
        return names


class PreprocessorTriaxialCompression(FilePreprocessor, is_seed_free=True):
    """Preprocessor of triaxial compressions under the name that GrainLearning gave it; see `FilePreprocessor`."""

    takes_first_output_for_e0 = True

    def _take_unknown_key(self, key: str) -> None:
        warn_of_unknown_key(key, RUN_KEYS)

    @classmethod
    def check_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of this preprocessor in a configuration, with a warning of each default that is taken.

        Raises
        ------
        ConfigError
            If `raw_data` is missing.
        """
        if "raw_data" not in config:
            raise ConfigError("config.raw_data: this key is required; give the path of the HDF5 file.")
        defaults = {key: value for key, value in cls.get_default_config().items() if key != "window_step"}
        checked = dict(config)
        for key, default in defaults.items():
            checked = cls.warning_config_field(key, checked, default, add_default_to_config=True)
        return {key: value for key, value in checked.items() if key in PREPROCESSING_KEYS}

    def merge_datasets(self, datafile: Any) -> tuple[Array, Array, Array]:
        """Return inputs, outputs and parameters of the chosen groups of an open file (`h5py.File`), merged.

        Parameters are those of the file, and the pressure and the experiment type where the configuration appends them;
        nothing is padded or scaled.
        """
        changes = {"raw_data": datafile.filename, "pad_length": 0, "add_e0": False}
        merged = type(self)(**{**self.config.as_dict(), **changes})
        inputs, params, outputs = merged.all_sequences().arrays()
        return inputs, outputs, params

    #: Name of the method in GrainLearning.
    _merge_datasets = merge_datasets


def preprocessor_of_file(config: Mapping[str, Any], source: DemData | None = None) -> FilePreprocessor:
    """Return the preprocessor of the experiment that a configuration names.

    Parameters
    ----------
    config : mapping
        Keys of `config.RunConfig`.
    source : DemData, optional
        The file's data where they are in memory already.

    Raises
    ------
    ConfigError
        If a key is unknown, a value is not allowed, or the experiment has no preprocessor for files.
    """
    experiment = experiment_of(config)
    own = import_reference(experiment.preprocessor, f"experiment {experiment.name}: preprocessor")
    if not (isinstance(own, type) and issubclass(own, FilePreprocessor)):
        raise ConfigError(
            f"experiment: {experiment.name} has the preprocessor {experiment.preprocessor}, which reads no file; "
            "give it arrays in Python, or choose another experiment."
        )
    return own(source, **config)


def preprocessor_of_model(config: Mapping[str, Any]) -> FilePreprocessor:
    """Return the preprocessor of the data of a trained model; it prepares them as GrainLearning's would, too."""
    preprocessor = preprocessor_of_file(config)
    preprocessor.takes_first_output_for_e0 = True
    return preprocessor
