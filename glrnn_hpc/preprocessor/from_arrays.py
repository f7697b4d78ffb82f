"""Arrays in memory under one load sequence, as GrainLearning's calibrations have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc.config import (
    RUN_KEYS,
    SPLIT_SEED,
    PreprocessingConfig,
    parse,
    warn_of_unknown_key,
    without_always,
)
from glrnn_hpc.data.shared import StackedGroups, stack_arrays
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.arrays import ArraysInMemory
from glrnn_hpc.models.registry import KEY as NETWORK
from glrnn_hpc.models.registry import is_built_in
from glrnn_hpc.preprocessor.base import PreparedData, sequence_dataset
from glrnn_hpc.preprocessor.configured import ConfiguredPreprocessor
from glrnn_hpc.preprocessor.splits import split_and_scale
from glrnn_hpc.sequences import Sequences

Array = NDArray[Any]


class PreprocessorLSTM(ConfiguredPreprocessor, is_seed_free=True):
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
    standardize_inputs : bool, optional
        Whether to train on loads and parameters of zero mean and unit variance; by default the configuration of the
        training says it.
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
        standardize_inputs: bool | None = None,
    ) -> None:
        keys = {"train_frac": train_frac, "val_frac": val_frac, "window_size": window_size, "window_step": window_step}
        keys |= {"pad_length": window_size, "standardize_outputs": standardize_outputs}
        keys |= {} if standardize_inputs is None else {"standardize_inputs": standardize_inputs}
        named = {"raw_data": "arrays in memory", "experiment": ArraysInMemory.name}
        self.config = parse(PreprocessingConfig, {**named, **keys}, "preprocessor")
        self._load = _numbers("input_data", input_data, None).reshape(-1, 1)
        self._params = _numbers("param_data", param_data, "(n_samples, n_params)")
        self._outputs = np.swapaxes(_numbers("output_data", output_data, "(n_samples, n_labels, n_steps)"), 1, 2)
        if len(self._params) != len(self._outputs) or self._outputs.shape[1] != len(self._load):
            raise DataError(
                f"input_data has {len(self._load)} steps and param_data {len(self._params)} samples, "
                f"but output_data has {self._outputs.shape[1]} steps and {len(self._outputs)} samples."
            )

    @property
    def input_data(self) -> Array:
        """The load sequence, (n_steps, 1); not padded, whatever was prepared."""
        return self._load

    @property
    def param_data(self) -> Array:
        """The parameters, (n_samples, n_params)."""
        return self._params

    @property
    def output_data(self) -> Array:
        """The responses, (n_samples, n_steps, n_labels); not padded, whatever was prepared."""
        return self._outputs

    def given_arrays(self) -> dict[str, Array]:
        """Return the arrays that it was made with, by their keys."""
        return {
            "input_data": self._load[:, 0],
            "param_data": self._params,
            "output_data": np.swapaxes(self._outputs, 1, 2),
        }

    @classmethod
    def from_dict(cls, obj: Mapping[str, Any]) -> PreprocessorLSTM:
        """Make one from a mapping of the arguments; keys of the training configuration are ignored.

        Raises
        ------
        ConfigError
            If a key that has no default is missing.
        """
        own, keys = cls.get_default_config(), without_always(obj, "preprocessor")
        for key in keys:
            if key not in own and key not in RUN_KEYS and is_built_in(keys.get(NETWORK)):
                warn_of_unknown_key(str(key), RUN_KEYS | own.keys())
        for key in ("input_data", "param_data", "output_data", "train_frac", "val_frac", "window_size"):
            if key not in keys:
                raise ConfigError(f"{key}: this key is required.")
        return cls(**{key: value for key, value in keys.items() if key in own})

    @classmethod
    def get_default_config(cls) -> dict[str, Any]:
        """Return the arguments and their defaults; the arrays have none."""
        arrays = {"input_data": None, "param_data": None, "output_data": None}
        shared = ("train_frac", "val_frac", "window_size", "window_step", "standardize_outputs", "standardize_inputs")
        return {**arrays, **{key: PreprocessingConfig.model_fields[key].default for key in shared}}

    def prepare_arrays(self, seed: int = SPLIT_SEED) -> PreparedData:
        """Return the splits as whole sequences."""
        stack = self._stack()
        return split_and_scale(stack, np.arange(len(self._params)), stack.params, self.config, {}, seed)

    def prepare_single_dataset(self) -> tf.data.Dataset:
        """Return all whole sequences, unbatched and padded, with labels in original units."""
        stack = self._stack()
        rows = np.arange(len(self._params))
        sequences = Sequences(stack.inputs, stack.outputs, rows, stack.params, self.config.pad_length)
        return sequence_dataset(*sequences.arrays())

    def prepare_input_data(self, param_data: Array) -> tf.data.Dataset:
        """Return the padded load sequence with other parameters; the place of the labels holds the inputs."""
        params = np.asarray(param_data, dtype="float32")
        load, rows = self._load[None], np.zeros(len(params), int)
        inputs, params, _ = Sequences(load, load, rows, params, self.config.pad_length).arrays()
        return sequence_dataset(inputs, params, inputs)

    def _stack(self) -> StackedGroups:
        return stack_arrays(np.repeat(self._load[None], len(self._params), axis=0), self._params, self._outputs)


def _numbers(key: str, values: Any, shape: str | None) -> Array:
    """Return the values of a key as an array of float32.

    Raises
    ------
    DataError
        If there are none, they are no numbers, or the array has another number of axes than `shape`.
    """
    wanted = "a load sequence of numbers (n_steps,)" if shape is None else f"an array of numbers {shape}"
    if values is None:
        raise DataError(f"{key}: None was given; {wanted} is needed. Fill it in before the preprocessor is made.")
    try:
        array = np.asarray(values, dtype="float32")
    except (TypeError, ValueError) as error:
        raise DataError(f"{key}: {wanted} is needed; {error}.") from error
    if shape is not None and array.ndim != shape.count(",") + 1:
        raise DataError(f"{key}: {wanted} is needed, one of the shape {array.shape} was given.")
    return array
