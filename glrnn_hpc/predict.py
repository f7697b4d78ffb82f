"""Prediction of macroscopic responses with a trained surrogate, in original units."""

from __future__ import annotations

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
from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.data.hdf5 import GroupShape, write_file
from glrnn_hpc.data.shared import DemData
from glrnn_hpc.errors import ConfigError, DataError, ModelError
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.preprocessor.base import Preprocessor, sequence_dataset
from glrnn_hpc.preprocessor.fingerprint import check_fingerprint
from glrnn_hpc.preprocessor.from_file import FilePreprocessor, preprocessor_of_model
from glrnn_hpc.preprocessor.splits import label_scaling, split_ids
from glrnn_hpc.records.train_stats import shape_in
from glrnn_hpc.surrogate import artifact, evaluate, legacy, shipped
from glrnn_hpc.surrogate.feed import rename_elements
from glrnn_hpc.surrogate.prediction import check_size, predict_windows
from glrnn_hpc.windows import first_predicted_step, n_predictions_of_padding

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: The Keras model, `train_stats` and `config`; and with the test split in the second place.
PretrainedModel: TypeAlias = tuple[keras.Model, dict[str, Any], dict[str, Any]]
BestWithData: TypeAlias = tuple[keras.Model, tf.data.Dataset | None, dict[str, Any], dict[str, Any]]

#: Units of the responses of triaxial compressions; other experiments tell their own (`Experiment.units`).
LABEL_UNITS = dict(TRIAXIAL.units())


def get_pretrained_model(path: str | Path) -> PretrainedModel:
    """Load a trained model.

    Parameters
    ----------
    path : path
        Folder of a trial, a single run, an export, a W&B run, or of a model that GrainLearning trained; or the name
        of a model that comes with the package.

    Returns
    -------
    tuple
        The Keras model, `train_stats` and `config`, both plain dicts.

    Raises
    ------
    ModelError
        If a file is missing, broken, or the model does not fit its description.
    """
    folder = layout.RunFolder(legacy.run_folder(shipped.folder_of(path)))
    if legacy.is_legacy(folder.root):
        return legacy.load(folder.root)
    return _load(folder)


def _load(folder: layout.RunFolder, *, may_run_own_code: bool = True) -> PretrainedModel:
    config, stats = artifact.load_description(folder)
    path = artifact.find_model(folder.root)
    model = artifact.load_model(path, config, stats, may_run_own_code=may_run_own_code)
    return model, dict(stats), config.as_dict()


@overload
def get_best_run_from_sweep(sweep: str | Path, *, with_data: Literal[True] = ...) -> BestWithData: ...


@overload
def get_best_run_from_sweep(
    sweep: str | Path,
    order: str | None = None,
    preprocessor: Preprocessor | None = None,
    with_data: bool | None = None,
) -> BestWithData | PretrainedModel: ...


def get_best_run_from_sweep(
    sweep: str | Path,
    order: str | None = None,
    preprocessor: Preprocessor | None = None,
    with_data: bool | None = None,
) -> BestWithData | PretrainedModel:
    """Load the best model of a sweep, and the test split that its training never saw.

    GrainLearning's documentation names four values, version 2.0.5 returns three and takes `order` and `preprocessor`:
    with one of these two the test split is left out, unless `with_data` asks for it.

    Parameters
    ----------
    sweep : path or str
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
        If `sweep` is not the folder of a sweep, or no trial has finished yet.
    ModelError
        If files of the best trial are missing or broken, here or on the server.
    TrackingError
        If the server cannot be reached, or there is no key for it.
    """
    best = find_best(sweep, order)
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
    model : keras.Model
        The trained network.
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
    trained = train_stats.get("sequence_length")
    steps = rename_elements(*data.element_spec)[0]["inputs"].shape[0]
    if trained is not None and steps is not None and steps != trained:
        pad_length = config.get("pad_length", 0)
        raise DataError(
            f"the data have sequences of {steps} steps, the model was trained with {trained} (sequence_length of its "
            f"train_stats, with pad_length={pad_length}); prepare the data with the configuration of the model, at the "
            "steps of its training. `glrnn predict` takes sequences of any length."
        )
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


def predict_file(model_dir: str | Path, data_path: str | Path, out: str | Path, split: str = "test") -> dict[str, Any]:
    """Predict the sequences of an HDF5 file and write them in the same structure.

    Parameters
    ----------
    model_dir : path
        Folder of the trained model, or the name of a shipped one.
    data_path : path
        The data; the groups that the model was trained on are selected.
    out : path
        File to write: each group holds `inputs`, `contact_params`, `outputs` (predicted), `simulated`, all from the
        first predicted step on, and `samples`, the positions in the group of the data file.
    split : str
        `test`: the sequences that the training never saw; `all`: every one.

    Returns
    -------
    dict
        `metrics` per label in original units, `units` of the labels that have one, `mse_standardised` in units of
        `mse_scale`: `std` of the labels in the training, 1 where the model does not record it; `n_sequences`, `output`.

    Raises
    ------
    ConfigError
        If `split` is neither `test` nor `all`.
    DataError, ModelError, WindowError
        If the data cannot be read or do not fit the model.
    """
    if split not in ("test", "all"):
        raise ConfigError(f"split: {split!r} is not one of test, all.")
    model_dir = shipped.folder_of(model_dir)
    _check_target(Path(out), model_dir, Path(data_path))
    model, stats, config = get_pretrained_model(model_dir)
    config = {**config, "raw_data": str(data_path)}
    preprocessor = preprocessor_of_model(config)
    _check_names(preprocessor, stats)
    sequences = preprocessor.all_sequences()
    ids = np.arange(len(sequences))
    if split == "test":
        # A preprocessor of the user's own leaves none: which sequences it trained on cannot be known here.
        try:
            check_fingerprint(data_path, preprocessor.fingerprint(), stats.get("fingerprint"))
        except DataError as error:
            raise ModelError(f"{error} Its test split is not known; use --split all.") from error
        seed = stats.get("split_seed", SPLIT_SEED)
        ids = np.sort(split_ids(len(ids), config["train_frac"], config["val_frac"], seed)["test"])
    inputs, params, labels = sequences.take(ids).arrays()
    _warn_of_other_length(data_path, inputs.shape[1], stats)
    window_size, pad_length = int(config["window_size"]), int(config["pad_length"])
    n_left_out = n_predictions_of_padding(window_size, pad_length)
    simulated = labels[:, window_size + n_left_out :]
    predicted = predict_sequences(model, inputs, params, stats, config)[:, n_left_out:]
    if not np.isfinite(predicted).all():
        raise ModelError(f"{model_dir}: the model gives values that are not finite; it is of no use.")
    data = preprocessor.source()
    units = preprocessor.experiment.units()
    # A model of GrainLearning with labels as they are does not record their scale.
    scaling = label_scaling(stats)
    divisor = np.ones(predicted.shape[-1]) if scaling is None else scaling.divisor()
    sums = evaluate.ErrorSums(data.schema.outputs, divisor)
    sums.add(predicted, simulated)
    metrics = sums.metrics()
    first = first_predicted_step(window_size, pad_length)
    _write(Path(out), data, preprocessor.groups(), ids, predicted, simulated, first, units)
    return {
        "metrics": metrics.as_dict(),
        "units": {name: units[name] for name in data.schema.outputs if name in units},
        "mse_standardised": metrics.mse_standardised,
        "mse_scale": "1" if scaling is None else "std",
        "n_sequences": len(ids),
        "output": str(out),
    }


def _check_target(out: Path, model_dir: Path, data_path: Path) -> None:
    """Refuse to write over the data or into the model."""
    target = out.resolve()
    if target == data_path.resolve():
        raise ConfigError(f"{out}: is the file with the simulations; choose another one for the predictions.")
    if target.is_dir() or (target.exists() and target.parent == model_dir.resolve()):
        raise ConfigError(f"{out}: is a folder, or belongs to the model; choose another file for the predictions.")


def _warn_of_other_length(data_path: str | Path, n_steps: int, stats: Mapping[str, Any]) -> None:
    trained = stats.get("sequence_length")
    if trained is not None and n_steps != trained:
        logger.warning(
            "%s: has sequences of %d steps, padding included; the model was trained with %d. A step of another length "
            "is another material to it.",
            data_path,
            n_steps,
            trained,
        )


def _check_names(preprocessor: FilePreprocessor, stats: Mapping[str, Any]) -> None:
    """Refuse data whose columns are not those of the training, in the same order."""
    for kind, given in preprocessor.column_names().items():
        training_names = stats.get(f"{kind}_names")
        if training_names is not None and list(training_names) != given:
            hint = " `glrnn parse --inputs` chooses the columns." if kind == "input" else ""
            raise ModelError(
                f"the model was trained with the {kind} columns {', '.join(training_names)}; "
                f"{preprocessor.config.raw_data} has {', '.join(given)}.{hint}"
            )
    check_size("labels", len(preprocessor.column_names()["label"]), shape_in(stats, "num_labels"))


def _write(
    out: Path,
    data: DemData,
    shapes: Sequence[GroupShape],
    ids: Array,
    predicted: Array,
    simulated: Array,
    first: int,
    units: Mapping[str, str],
) -> None:
    groups, extra, start = {}, {}, 0
    for shape in shapes:
        chosen = np.flatnonzero((ids >= start) & (ids < start + shape.n_samples))
        samples = ids[chosen] - start
        start += shape.n_samples
        if len(samples) == 0:
            continue
        arrays = data.groups[shape.name]
        groups[shape.name] = (arrays.params[samples], arrays.inputs[samples][:, first:], predicted[chosen])
        extra[shape.name] = {"simulated": simulated[chosen], "samples": samples}
    schema = data.schema
    write_file(
        out,
        groups,
        contact_params=schema.contact_params,
        inputs=schema.inputs_of(shapes[0]),
        outputs=schema.outputs,
        units=units,
        extra=extra,
    )
