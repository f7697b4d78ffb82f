"""Base classes of preprocessors: what a training needs from an experiment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc.batches import window_dataset
from glrnn_hpc.config import (
    SPLIT_SEED,
)
from glrnn_hpc.preprocessor.grainlearning_names import GrainLearningNames
from glrnn_hpc.records.train_stats import TrainStats
from glrnn_hpc.sequences import Sequences

Array = NDArray[Any]


@dataclass(frozen=True)
class PreparedData:
    """The splits `train`, `val` and `test`, and the shapes and statistics of the training split.

    Attributes
    ----------
    splits : dict of str to Sequences
        Raw inputs and parameters, labels scaled where the configuration says so.
    train_stats : TrainStats
        What `Preprocessor.prepare_datasets` returns.
    """

    splits: dict[str, Sequences]
    train_stats: TrainStats
    window_size: int
    window_step: int


class Preprocessor(GrainLearningNames, ABC):
    """Data sets of a training; subclass it for data that do not lie in a file of sequences.

    Attributes
    ----------
    run_dir : str or None
        Where `train.train` put the files of the last training; `predict.get_pretrained_model` loads them from there.
    draws_from_global_seeds : bool
        Whether the global seeds are set before the data are prepared; False of classes made with
        ``is_seed_free=True``.
    """

    run_dir: str | None = None
    draws_from_global_seeds: ClassVar[bool] = True

    def __init_subclass__(cls, *, is_seed_free: bool = False, **keywords: Any) -> None:
        # Of the class itself, not inherited: a user's subclass of one of ours may draw where that one does not.
        super().__init_subclass__(**keywords)
        cls.draws_from_global_seeds = not is_seed_free

    @abstractmethod
    def prepare_datasets(self, seed: int = SPLIT_SEED) -> tuple[dict[str, tf.data.Dataset], TrainStats]:
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
    def get_default_config(cls) -> dict[str, Any]:
        """Return the keys of this preprocessor and their defaults; none unless a subclass has some."""
        return {}

    @classmethod
    def from_dict(cls, obj: dict[str, Any]) -> Preprocessor:
        """Make a preprocessor from a mapping of its keys."""
        return cls(**obj)


class ArrayPreprocessor(Preprocessor):
    """A preprocessor that has its sequences as arrays, so that windows are gathered from them batch by batch."""

    @abstractmethod
    def prepare_arrays(self, seed: int = SPLIT_SEED) -> PreparedData:
        """Return the splits as whole sequences."""

    def prepare_datasets(self, seed: int = SPLIT_SEED) -> tuple[dict[str, tf.data.Dataset], TrainStats]:
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


def sequence_dataset(inputs: Array, params: Array, labels: Array) -> tf.data.Dataset:
    """Return whole sequences one by one: elements ``({'inputs', 'params'}, labels)``."""
    return tf.data.Dataset.from_tensor_slices(({"inputs": inputs, "params": params}, labels))
