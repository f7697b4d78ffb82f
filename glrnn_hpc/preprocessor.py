"""From simulations to data sets: merge, extend, pad, split, standardise."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc import windows
from glrnn_hpc.batches import window_dataset
from glrnn_hpc.config import (
    PREPROCESSING_KEYS,
    RUN_KEYS,
    SPLIT_SEED,
    PreprocessingConfig,
    parse,
    say_defaults,
    split_sizes,
    unknown_key,
    without_always,
)
from glrnn_hpc.data.hdf5 import GroupShape, check_same_shapes, select_groups
from glrnn_hpc.data.shared import Block, DemData, Moments, block_of, read_data
from glrnn_hpc.errors import ConfigError, DataError, ModelError
from glrnn_hpc.windows import Scaling, Sequences

Array = NDArray[Any]


@dataclass(frozen=True)
class PreparedData:
    """The splits `train`, `val` and `test`, and the shapes and statistics of the training split.

    Attributes
    ----------
    splits : dict of str to Sequences
        Raw inputs and parameters, labels scaled where the configuration says so.
    train_stats : dict
        What `Preprocessor.prepare_datasets` returns.
    """

    splits: dict[str, Sequences]
    train_stats: dict[str, Any]
    window_size: int
    window_step: int


class Preprocessor(ABC):
    """What `train` needs to know of an experiment; subclass it for another one than triaxial compression.

    Attributes
    ----------
    run_dir : str or None
        Where `train.train` put the files of the last training; `predict.get_pretrained_model` loads them from there.
    """

    run_dir: str | None = None

    @abstractmethod
    def prepare_datasets(self, seed: int = SPLIT_SEED) -> tuple[dict[str, tf.data.Dataset], dict[str, Any]]:
        """Return the data sets `train`, `val` (windows) and `test` (whole sequences), unbatched, and `train_stats`.

        Elements are ``({'inputs', 'params'}, labels)``. `train_stats` holds at least `sequence_length`,
        `num_input_features`, `num_params`, `num_labels`, and `mean` and `std` of standardised labels. Inputs and
        params are raw; with `standardize_inputs` the training scales them by `inputs_mean`, `inputs_std`,
        `params_mean` and `params_std`.
        """

    @abstractmethod
    def prepare_single_dataset(self) -> tf.data.Dataset:
        """Return all whole sequences, unbatched, with labels in original units."""

    @classmethod
    @abstractmethod
    def get_default_config(cls) -> dict[str, Any]:
        """Return the keys of this preprocessor and their defaults."""


class ArrayPreprocessor(Preprocessor):
    """A preprocessor that has its sequences as arrays, so that windows are gathered from them batch by batch."""

    @abstractmethod
    def prepare_arrays(self, seed: int = SPLIT_SEED) -> PreparedData:
        """Return the splits as whole sequences."""

    def prepare_datasets(self, seed: int = SPLIT_SEED) -> tuple[dict[str, tf.data.Dataset], dict[str, Any]]:
        """Return the data sets `train`, `val` (windows) and `test` (whole sequences), unbatched, and `train_stats`."""
        prepared = self.prepare_arrays(seed)
        datasets = {
            name: window_dataset(split, prepared.window_size, prepared.window_step)
            for name, split in prepared.splits.items()
            if name != "test"
        }
        datasets["test"] = sequence_dataset(*prepared.splits["test"].arrays())
        return datasets, prepared.train_stats


def gives_arrays(preprocessor: Preprocessor) -> TypeGuard[ArrayPreprocessor]:
    """Whether the data sets of a preprocessor are those of its arrays, and not made in a way of its own."""
    is_usual = type(preprocessor).prepare_datasets is ArrayPreprocessor.prepare_datasets
    return isinstance(preprocessor, ArrayPreprocessor) and is_usual


class PreprocessorTriaxialCompression(ArrayPreprocessor):
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
            say_defaults(self.config, known, "preprocessor")
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


class PreprocessorLSTM(ArrayPreprocessor):
    """Arrays in memory: one load sequence for all samples, as GrainLearning's calibrations have it.

    Parameters
    ----------
    input_data : ndarray, shape (n_steps,)
        The load sequence.
    param_data : ndarray, shape (n_samples, n_params)
        Parameters.
    output_data : ndarray, shape (n_samples, n_labels, n_steps)
        Responses; time is the last axis.
    train_frac, val_frac : float
        Fractions of the samples; the rest is the test split.
    window_size, window_step : int
        Steps; the sequences are padded by `window_size`, so that every step is predicted.
    standardize_outputs : bool
        Whether to train on labels of zero mean and unit variance.
    """

    def __init__(
        self,
        input_data: Array,
        param_data: Array,
        output_data: Array,
        train_frac: float,
        val_frac: float,
        window_size: int,
        window_step: int = 1,
        standardize_outputs: bool = True,
    ) -> None:
        keys = {"train_frac": train_frac, "val_frac": val_frac, "window_size": window_size, "window_step": window_step}
        keys |= {"pad_length": window_size, "standardize_outputs": standardize_outputs}
        self.config = parse(PreprocessingConfig, {"raw_data": "arrays in memory", **keys}, "preprocessor")
        self._load = np.asarray(input_data, dtype="float32").reshape(-1, 1)
        self._params = np.asarray(param_data, dtype="float32")
        self._outputs = np.swapaxes(np.asarray(output_data, dtype="float32"), 1, 2)
        if len(self._params) != len(self._outputs) or self._outputs.shape[1] != len(self._load):
            raise DataError(
                f"input_data has {len(self._load)} steps and param_data {len(self._params)} samples, "
                f"but output_data has {self._outputs.shape[1]} steps and {len(self._outputs)} samples."
            )

    @classmethod
    def from_dict(cls, keys: Mapping[str, Any]) -> PreprocessorLSTM:
        """Make one from a mapping of the arguments; keys of the training configuration are ignored.

        Raises
        ------
        ConfigError
            If a key is unknown, or one that has no default is missing.
        """
        own, keys = cls.get_default_config(), without_always(keys, "preprocessor")
        for key in keys:
            if key not in own and key not in RUN_KEYS:
                raise unknown_key(str(key), [*own, *RUN_KEYS])
        for key in ("input_data", "param_data", "output_data", "train_frac", "val_frac", "window_size"):
            if key not in keys:
                raise ConfigError(f"{key}: this key is required.")
        return cls(**{key: value for key, value in keys.items() if key in own})

    @classmethod
    def get_default_config(cls) -> dict[str, Any]:
        """Return the arguments and their defaults; the arrays have none."""
        arrays = {"input_data": None, "param_data": None, "output_data": None}
        numbers = {"train_frac": 0.7, "val_frac": 0.15, "window_size": 10, "window_step": 1}
        return {**arrays, **numbers, "standardize_outputs": True}

    def prepare_arrays(self, seed: int = SPLIT_SEED) -> PreparedData:
        """Return the splits as whole sequences."""
        block = self._block()
        return split_and_scale(block, np.arange(len(self._params)), block.params, self.config, {}, seed)

    def prepare_single_dataset(self) -> tf.data.Dataset:
        """Return all whole sequences, unbatched and padded, with labels in original units."""
        block = self._block()
        rows = np.arange(len(self._params))
        sequences = Sequences(block.inputs, block.outputs, rows, block.params, self.config.pad_length)
        return sequence_dataset(*sequences.arrays())

    def prepare_input_data(self, param_data: Array) -> tf.data.Dataset:
        """Return the padded load sequence with other parameters; the place of the labels holds the inputs."""
        params = np.asarray(param_data, dtype="float32")
        load, rows = self._load[None], np.zeros(len(params), int)
        inputs, params, _ = Sequences(load, load, rows, params, self.config.pad_length).arrays()
        return sequence_dataset(inputs, params, inputs)

    def _block(self) -> Block:
        return block_of(np.repeat(self._load[None], len(self._params), axis=0), self._params, self._outputs)


def sequence_dataset(inputs: Array, params: Array, labels: Array) -> tf.data.Dataset:
    """Return whole sequences one by one: elements ``({'inputs', 'params'}, labels)``."""
    return tf.data.Dataset.from_tensor_slices(({"inputs": inputs, "params": params}, labels))


def split_ids(n: int, train_frac: float, val_frac: float, seed: int) -> dict[str, Array]:
    """Split whole sequences as GrainLearning does, so that its models' test sequences stay test sequences.

    Raises
    ------
    DataError
        If a split would be empty.
    """
    # RandomState, not default_rng: it gives the permutation of GrainLearning's seeds.
    order = np.random.RandomState(seed).permutation(n)
    n_train, n_val, _ = split_sizes(n, train_frac, val_frac)
    parts = np.split(order, [n_train, n_train + n_val])
    return dict(zip(("train", "val", "test"), parts, strict=True))


def split_and_scale(
    block: Block, rows: Array, params: Array, config: PreprocessingConfig, names: dict[str, Any], seed: int
) -> PreparedData:
    """Split by whole sequences and take statistics of the training split, without its padding.

    Parameters
    ----------
    block : Block
        The data; nothing of them is copied.
    rows : ndarray, shape (n,)
        Which rows of the block, in the merged order.
    params : ndarray, shape (n, n_params), float32
        Their extended parameters.
    config : PreprocessingConfig
        How to split, pad and scale.
    names : dict
        More entries for `train_stats`.
    seed : int
        Of the split.
    """
    sequences = Sequences(block.inputs, block.outputs, rows, params, config.pad_length)
    windows.n_windows(sequences.n_steps, config.window_size, config.window_step)
    ids = split_ids(len(rows), config.train_frac, config.val_frac, seed)
    stats: dict[str, Any] = {
        "sequence_length": sequences.n_steps,
        "num_input_features": block.inputs.shape[2],
        "num_params": params.shape[1],
        "num_labels": block.outputs.shape[2],
        "split_seed": seed,
        **names,
    }
    train = np.sort(ids["train"])
    stats["mean"], stats["std"] = block.output_moments.merged(rows[train])
    stats["inputs_mean"], stats["inputs_std"] = block.input_moments.merged(rows[train])
    values = params[train].astype("float64")
    stats["params_mean"], stats["params_std"] = Moments(values, np.zeros_like(values), 1).merged(np.arange(len(train)))
    # Beyond them a surrogate extrapolates.
    stats["params_min"], stats["params_max"] = values.min(axis=0), values.max(axis=0)
    if config.standardize_outputs:
        sequences = replace(sequences, label_scaling=scaling_of(stats))
    splits = {name: sequences.take(part) for name, part in ids.items()}
    return PreparedData(splits, stats, config.window_size, config.window_step)


def scaling_of(stats: Mapping[str, Any], prefix: str = "") -> Scaling:
    """Return what standardises the labels (no prefix), `inputs_` or `params_`.

    Raises
    ------
    ModelError
        If `train_stats` does not have their mean and std, as finite numbers.
    """
    mean, std = (_finite(stats, f"{prefix}{name}") for name in ("mean", "std"))
    return Scaling(mean, std)


def _finite(stats: Mapping[str, Any], name: str) -> Any:
    if name not in stats:
        raise ModelError(f"train_stats has no {name}, which the configuration asks for; it has {', '.join(stats)}.")
    try:
        values = np.asarray(stats[name], "float64")
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if not np.isfinite(values).all():
        raise ModelError(f"train_stats: {name} must be finite numbers, it is {stats[name]!r}.")
    return values
