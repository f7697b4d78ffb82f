"""Prediction of macroscopic responses with a trained surrogate, in original units."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.best_run import find_best, unseen_data
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.models import rnn_model as rnn_model
from glrnn_hpc.preprocessor.base import Preprocessor, sequence_dataset
from glrnn_hpc.surrogate import artifact, evaluate, legacy, shipped
from glrnn_hpc.surrogate.ensemble import Ensemble, describe_whole, is_ensemble, load_ensemble
from glrnn_hpc.surrogate.feed import rename_elements
from glrnn_hpc.surrogate.prediction import check_length, predict_windows
from glrnn_hpc.surrogate.window_datasets import predict_over_windows as predict_over_windows

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: The Keras model, or an `Ensemble`, `train_stats` and `config`; and with the test split in the second place.
PretrainedModel: TypeAlias = tuple[keras.Model, dict[str, Any], dict[str, Any]]
BestWithData: TypeAlias = tuple[keras.Model, tf.data.Dataset | None, dict[str, Any], dict[str, Any]]

#: Units of the responses of triaxial compressions; other experiments tell their own (`Experiment.units`).
LABEL_UNITS = dict(TRIAXIAL.units())


#: Names of the files here, under those that GrainLearning gave them.
NAME_MODEL_H5 = layout.MODEL_WHOLE
NAME_TRAIN_STATS = layout.RunFolder(Path()).train_stats.name

#: What GrainLearning's scripts import from here, too.
_FIGURES = ("plot_metric_distribution", "plot_predictions")


def __getattr__(name: str) -> Any:
    # Late: these modules are built on this one.
    if name == "predict_file":
        return importlib.import_module("glrnn_hpc.file_prediction").predict_file
    if name not in (*_FIGURES, "evaluate_model"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module("glrnn_hpc.evaluate_model")
    return module if name == "evaluate_model" else getattr(module, name)


def load_config(path_to_model: str | Path) -> dict[str, Any]:
    """Return the configuration of a trained model, with defaults where it has no value; see `get_pretrained_model`."""
    return get_pretrained_model(path_to_model)[2]


def load_model(
    path_to_model: str | Path, train_stats: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None
) -> keras.Model:
    """Return the network of a trained model, or an ensemble; see `get_pretrained_model`.

    `train_stats` and `config` are those of its folder: what GrainLearning's function is given has no effect.
    """
    return get_pretrained_model(path_to_model)[0]


def get_pretrained_model(path_to_model: str | Path) -> PretrainedModel:
    """Load a trained model.

    Parameters
    ----------
    path_to_model : path
        Folder of a trial, a single run, an export, a W&B run, or of a model that GrainLearning trained; or the name
        of a model that comes with the package.

    Returns
    -------
    tuple
        The Keras model, `train_stats` and `config`, both plain dicts. Of an ensemble (`glrnn collect --ensemble`), a
        `surrogate.ensemble.Ensemble`, which all functions here take in place of a model, and the description of the
        whole: its `window_size` is the first step that all members predict.

    Raises
    ------
    ModelError
        If a file is missing, broken, or the model does not fit its description.
    """
    folder = layout.RunFolder(legacy.run_folder(shipped.folder_of(path_to_model)))
    if legacy.is_legacy(folder.root):
        return legacy.load(folder.root)
    return _load(folder)


def _load(folder: layout.RunFolder, *, may_run_own_code: bool = True) -> PretrainedModel:
    if is_ensemble(folder.root):
        ensemble = load_ensemble(folder.root, may_run_own_code=may_run_own_code)
        return ensemble, *describe_whole(ensemble)
    config, stats = artifact.load_description(folder)
    path = artifact.find_model(folder.root)
    model = artifact.load_model(path, config, stats, may_run_own_code=may_run_own_code)
    return model, dict(stats), {**config.as_dict(), **artifact.load_arrays(folder)}


@overload
def get_best_run_from_sweep(entity_project_sweep_id: str | Path, *, with_data: Literal[True] = ...) -> BestWithData: ...


@overload
def get_best_run_from_sweep(
    entity_project_sweep_id: str | Path,
    order: str | None = None,
    preprocessor: Preprocessor | None = None,
    with_data: bool | None = None,
) -> BestWithData | PretrainedModel: ...


def get_best_run_from_sweep(
    entity_project_sweep_id: str | Path,
    order: str | None = None,
    preprocessor: Preprocessor | None = None,
    with_data: bool | None = None,
) -> BestWithData | PretrainedModel:
    """Load the best model of a sweep, and the test split that its training never saw.

    GrainLearning's documentation names four values, version 2.0.5 returns three and takes `order` and `preprocessor`:
    with one of these two the test split is left out, unless `with_data` asks for it.

    Parameters
    ----------
    entity_project_sweep_id : path or str
        Folder of the sweep; it may still be running. Or entity/project/id of a sweep on W&B's server: all files of
        its best run are downloaded to wandb/downloads/entity/project/run, in WANDB_DIR or the current folder.
    order : str, optional
        Metric that ranks the runs, as W&B's client writes it: ``+val_loss`` takes the lowest, ``-val_loss`` the
        highest; by default the metric and the goal of the sweep.
    preprocessor : Preprocessor, optional
        Prepares the test split; by default the one that the sweep recorded.
    with_data : bool, optional
        Whether the test split is among the values; by default it is unless `order` or `preprocessor` is given.

    Returns
    -------
    tuple
        `model`, `data`, `train_stats`, `config`, or these without `data`: the Keras model; whole sequences as
        `prepare_datasets` gives them under `test`, None with a warning where the recorded data are not there or have
        changed; `train_stats` and `config`, both plain dicts.

    Raises
    ------
    ConfigError
        If `order` names no metric of the runs.
    SweepError
        If `entity_project_sweep_id` is not the folder of a sweep, or no trial has finished yet.
    ModelError
        If files of the best trial are missing or broken, here or on the server.
    TrackingError
        If the server cannot be reached, or there is no key for it.
    """
    best = find_best(entity_project_sweep_id, order)
    model, stats, config = _load(best.folder, may_run_own_code=best.trial is not None)
    if with_data is None:
        with_data = order is None and preprocessor is None
    if not with_data:
        return model, stats, config
    return model, unseen_data(best, stats, config, preprocessor), stats, config


def predict_macroscopics(
    model: keras.Model,
    data: tf.data.Dataset,
    train_stats: Mapping[str, Any],
    config: Mapping[str, Any],
    batch_size: int = 256,
    single_batch: bool = False,
) -> tf.Tensor:
    """Predict the response over all windows of whole sequences.

    Parameters
    ----------
    model : keras.Model or Ensemble
        The trained network, or an ensemble, of which the mean is returned.
    data : tf.data.Dataset
        Unbatched whole sequences, ``({'inputs': (T, x), 'params': (c,)}, labels)``, raw and padded as in training.
    train_stats, config : mapping
        Of the trained model.
    batch_size : int
        Sequences that are prepared at once.
    single_batch : bool
        Whether to predict the first batch only.

    Returns
    -------
    tf.Tensor, shape (n, T - window_size, n_labels), float32
        In original units; element ``k`` is the response at step ``window_size + k``.

    Raises
    ------
    ModelError
        If the data have another number of features or parameters than the model was trained with.
    DataError
        If the sequences have another length than those of the training, padding included.
    WindowError
        If the sequences are not longer than a window.
    """
    check_length("the data", rename_elements(*data.element_spec)[0]["inputs"].shape[0], train_stats, config)
    return _predict(model, data, train_stats, config, batch_size, single_batch=single_batch)


def _predict(
    model: keras.Model,
    data: tf.data.Dataset,
    train_stats: Mapping[str, Any],
    config: Mapping[str, Any],
    batch_size: int = 256,
    *,
    single_batch: bool = False,
) -> tf.Tensor:
    batches = data.map(rename_elements).batch(batch_size)
    parts = []
    for inputs, _ in batches.take(1) if single_batch else batches:
        if isinstance(model, Ensemble):
            sequences = inputs["inputs"].numpy()[:, int(config["pad_length"]) :]
            parts.append(tf.constant(model.mean_of(model.predict_members(sequences, inputs["params"].numpy()))))
        else:
            parts.append(predict_windows(model, inputs, train_stats, config))
    if not parts:
        raise DataError("there is no sequence to predict.")
    return tf.concat(parts, axis=0)


def predict_batch(
    model: keras.Model,
    data: tf.data.Dataset,
    train_stats: Mapping[str, Any],
    config: Mapping[str, Any],
    batch_size: int = 256,
) -> tf.Tensor:
    """Predict the first batch of whole sequences, as GrainLearning's function of this name does.

    The same as `predict_macroscopics` with `single_batch`.
    """
    return predict_macroscopics(model, data, train_stats, config, batch_size, single_batch=True)


def predict_sequences(
    model: keras.Model, inputs: Array, params: Array, train_stats: Mapping[str, Any], config: Mapping[str, Any]
) -> Array:
    """Predict from arrays (n, T, x) and (n, c), like `predict_macroscopics`, and with sequences of any length."""
    data = sequence_dataset(inputs, params, inputs)
    predicted: Array = _predict(model, data, train_stats, config).numpy()
    return predicted


def metrics_per_label(predicted: Array, simulated: Array, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return MAE, RMSE (units of the label) and R² (coefficient of determination) of each label.

    Parameters
    ----------
    predicted, simulated : ndarray, shape (n, n_steps, n_labels)
        Over all sequences and steps.
    names : sequence of str
        Of the labels.

    Returns
    -------
    dict
        ``{name: {'mae', 'rmse', 'r2'}}``. R² of a constant label is 1 if it is met exactly, else 0.
    """
    sums = evaluate.ErrorSums(names, np.ones(len(names)))
    sums.add(predicted, simulated)
    return sums.metrics().as_dict()
