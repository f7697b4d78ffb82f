"""Methods of GrainLearning's preprocessors on tuples of arrays: splits, padding, scaling and dimensions.

The trainings of this package do not need them; they are here for preprocessors and scripts that were written for
`grainlearning.rnn`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc.config import split_sizes
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.scaling import Scaling

Array = NDArray[Any]

#: ``({'inputs': (n, T, x), 'params': (n, c)}, labels (n, T, y))``
Arrays = tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]


class GrainLearningNames:
    """Mixin of the methods that every preprocessor of GrainLearning has."""

    @classmethod
    def warning_config_field(
        cls, key: str, config: dict[str, Any], default: Any, add_default_to_config: bool = False
    ) -> dict[str, Any]:
        """Warn of a key that is not in `config`, and return `config`, with the default if that is asked for."""
        if key not in config:
            if add_default_to_config:
                config[key] = default
            warnings.warn(f"config.{key}: is missing; its default {default!r} is used.", UserWarning, stacklevel=2)
        return config

    @classmethod
    def make_splits(cls, dataset: Arrays, train_frac: float, val_frac: float, seed: int) -> dict[str, Arrays]:
        """Split whole sequences into `train`, `val` and `test`, as the trainings of this package do.

        Parameters
        ----------
        dataset : tuple
            ``({'inputs', 'params'}, labels)``, arrays whose first axis is that of the sequences.
        train_frac, val_frac : float
            Fractions of the sequences; the rest is the test split.
        seed : int
            Of the split.

        Raises
        ------
        ConfigError
            If the fractions are more than all sequences.
        DataError
            If a split would be empty.
        """
        if train_frac + val_frac > 1:
            raise ConfigError(
                f"train_frac={train_frac} and val_frac={val_frac} are more than all sequences; "
                "their sum must be below 1."
            )
        n = len(dataset[1])
        n_train, n_val, _ = split_sizes(n, train_frac, val_frac)
        order = np.random.RandomState(seed).permutation(n)
        parts = np.split(order, [n_train, n_train + n_val])
        return {name: cls.get_split(dataset, ids) for name, ids in zip(("train", "val", "test"), parts, strict=True)}

    @classmethod
    def get_split(cls, dataset: Arrays, ids: Array) -> Arrays:
        """Return the sequences `ids` of a data set, as tensors."""
        inputs, labels = dataset
        return {name: tf.gather(values, ids) for name, values in inputs.items()}, tf.gather(labels, ids)

    @classmethod
    def pad_initial(cls, array: Any, pad_length: int, axis: int = 1) -> tf.Tensor:
        """Repeat the first step of sequences (n, T, x) `pad_length` times in front."""
        array = tf.convert_to_tensor(array)
        first = tf.gather(array, [0], axis=axis)
        return tf.concat([tf.repeat(first, pad_length, axis=axis), array], axis)

    @classmethod
    def standardize_outputs(cls, split_data: Mapping[str, Arrays]) -> tuple[dict[str, Arrays], dict[str, Array]]:
        """Scale the labels of all splits by mean and std of the training split, over its sequences and steps.

        Returns
        -------
        tuple
            The splits, and ``{'mean', 'std'}``. A constant label is divided by 1.
        """
        labels = np.asarray(split_data["train"][1])
        stats = {"mean": labels.mean(axis=(0, 1)), "std": labels.std(axis=(0, 1))}
        divisor = Scaling(stats["mean"], stats["std"]).divisor().astype(labels.dtype)
        return {
            name: (inputs, (values - stats["mean"]) / divisor) for name, (inputs, values) in split_data.items()
        }, stats

    @classmethod
    def get_dimensions(cls, data: tf.data.Dataset) -> dict[str, int]:
        """Return `sequence_length`, `num_input_features`, `num_params` and `num_labels` of whole sequences."""
        for inputs, labels in data.take(1):
            sequence_length, num_input_features = inputs["inputs"].shape
            return {
                "sequence_length": sequence_length,
                "num_input_features": num_input_features,
                "num_params": inputs["params"].shape[0],
                "num_labels": labels.shape[-1],
            }
        raise DataError("the data set has no sequence.")
