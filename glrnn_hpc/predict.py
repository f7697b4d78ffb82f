"""Prediction of macroscopic responses with a trained surrogate, in original units."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc import layout, windows
from glrnn_hpc.best_run import find_best, unseen_data
from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.data.hdf5 import GroupShape, write_file
from glrnn_hpc.data.shared import DemData
from glrnn_hpc.errors import ConfigError, DataError, ModelError, WindowError
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.gather import take_windows
from glrnn_hpc.preprocessor.base import sequence_dataset
from glrnn_hpc.preprocessor.fingerprint import check_fingerprint
from glrnn_hpc.preprocessor.from_file import FilePreprocessor, preprocessor_of_file
from glrnn_hpc.preprocessor.splits import scaling_of, split_ids
from glrnn_hpc.records.train_stats import shape_in
from glrnn_hpc.surrogate import artifact, evaluate, legacy, shipped
from glrnn_hpc.surrogate.feed import rename_elements

Array = NDArray[Any]

#: Units of the responses of triaxial compressions; other experiments tell their own (`Experiment.units`).
LABEL_UNITS = dict(TRIAXIAL.units())

#: Windows that the network sees at once; bounds the memory of a prediction.
_WINDOWS_PER_CALL = 8192


def get_pretrained_model(path: str | Path) -> tuple[keras.Model, dict[str, Any], dict[str, Any]]:
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


def _load(
    folder: layout.RunFolder, *, may_run_own_code: bool = True
) -> tuple[keras.Model, dict[str, Any], dict[str, Any]]:
    config, stats = artifact.load_description(folder)
    path = artifact.find_model(folder.root)
    model = artifact.load_model(path, config, stats, may_run_own_code=may_run_own_code)
    return model, dict(stats), config.as_dict()


def get_best_run_from_sweep(
    sweep: str | Path,
) -> tuple[keras.Model, tf.data.Dataset | None, dict[str, Any], dict[str, Any]]:
    """Load the best model of a sweep, and the test split that its training never saw.

    Parameters
    ----------
    sweep : path or str
        Folder of the sweep; it may still be running. Or entity/project/id of a sweep on W&B's server: all files of
        its best run are downloaded to wandb/downloads/entity/project/run, in WANDB_DIR or the current folder.

    Returns
    -------
    tuple
        The Keras model; whole sequences as `prepare_datasets` gives them under `test`, None with a warning where the
        recorded data are not there or have changed; `train_stats` and `config`, both plain dicts.

    Raises
    ------
    SweepError
        If `sweep` is not the folder of a sweep, or no trial has finished yet.
    ModelError
        If files of the best trial are missing or broken, here or on the server.
    TrackingError
        If the server cannot be reached, or there is no key for it.
    """
    best = find_best(sweep)
    model, stats, config = _load(best.folder, may_run_own_code=best.trial is not None)
    return model, unseen_data(best, stats, config), stats, config


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
    WindowError
        If the sequences are not longer than a window.
    """
    batches = data.map(rename_elements).batch(batch_size)
    parts = []
    for inputs, _ in batches.take(1) if single_batch else batches:
        parts.append(_predict_batch(model, inputs, train_stats, config))
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
    """Predict from arrays (n, T, x) and (n, c), like `predict_macroscopics`."""
    data = sequence_dataset(inputs, params, inputs)
    predicted: Array = predict_macroscopics(model, data, train_stats, config).numpy()
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
        `metrics` per label in original units, `units` of the labels that have one, `mse_standardised` (in the units
        of standardised labels), `n_sequences`, `output`.

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
    preprocessor = preprocessor_of_file(config)
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
    simulated = labels[:, config["window_size"] :]
    predicted = predict_sequences(model, inputs, params, stats, config)
    if not np.isfinite(predicted).all():
        raise ModelError(f"{model_dir}: the model gives values that are not finite; it is of no use.")
    data = preprocessor.source()
    units = preprocessor.experiment.units()
    _write(Path(out), data, preprocessor.groups(), ids, predicted, simulated, config, units)
    sums = evaluate.ErrorSums(data.schema.outputs, scaling_of(stats).divisor())
    sums.add(predicted, simulated)
    metrics = sums.metrics()
    return {
        "metrics": metrics.as_dict(),
        "units": {name: units[name] for name in data.schema.outputs if name in units},
        "mse_standardised": metrics.mse_standardised,
        "n_sequences": len(ids),
        "output": str(out),
    }


def _predict_batch(
    model: keras.Model, inputs: Mapping[str, Any], stats: Mapping[str, Any], config: Mapping[str, Any]
) -> tf.Tensor:
    sequences, params = tf.cast(inputs["inputs"], tf.float32), tf.cast(inputs["params"], tf.float32)
    _check_size("features of the load sequence", sequences.shape[-1], shape_in(stats, "num_input_features"))
    _check_size("parameters", params.shape[-1], shape_in(stats, "num_params"))
    window_size, n_steps = int(config["window_size"]), int(sequences.shape[1])
    if n_steps <= window_size:
        raise WindowError(
            f"sequences of {n_steps} steps are too short for a model with window_size={window_size}; "
            f"at least {window_size + 1} steps are needed."
        )
    if config.get("standardize_inputs", False):
        sequences = tf.constant(scaling_of(stats, "inputs_")(sequences.numpy()))
        params = tf.constant(scaling_of(stats, "params_")(params.numpy()))
    predicted = _all_windows(model, sequences, params, window_size)
    if config.get("standardize_outputs", True):
        labels = scaling_of(stats)
        predicted = predicted * labels.divisor().astype("float32") + labels.mean.astype("float32")
    return predicted


def _all_windows(model: keras.Model, sequences: Any, params: Any, window_size: int) -> Any:
    """Run the network over the windows that end at steps window_size .. T-1, some thousand per compiled call."""
    n, n_steps = int(sequences.shape[0]), int(sequences.shape[1])
    index = windows.prediction_index(n, n_steps, window_size)
    call = _compiled(model, window_size, int(sequences.shape[2]), int(params.shape[1]))
    parts = [
        call(sequences, params, index[at : at + _WINDOWS_PER_CALL]) for at in range(0, len(index), _WINDOWS_PER_CALL)
    ]
    return tf.reshape(tf.concat(parts, axis=0), (n, n_steps - window_size, -1))


@functools.lru_cache(maxsize=4)
def _compiled(model: keras.Model, window_size: int, n_inputs: int, n_params: int) -> Any:
    """Return the compiled call of a model; kept, because tracing costs more than a prediction."""
    # One trace for any number and length of sequences.
    signature = [
        tf.TensorSpec((None, None, n_inputs), tf.float32),
        tf.TensorSpec((None, n_params), tf.float32),
        tf.TensorSpec((None, 2), tf.int32),
    ]

    def call(sequences: Any, params: Any, index: Any) -> Any:
        sequence, last = index[:, 0], index[:, 1]
        windows_of_call = take_windows(sequences, sequence, last, window_size)
        return model({"inputs": windows_of_call, "params": tf.gather(params, sequence)}, training=False)

    return tf.function(call, input_signature=signature, autograph=False)


def _check_target(out: Path, model_dir: Path, data_path: Path) -> None:
    """Refuse to write over the data or into the model."""
    target = out.resolve()
    if target == data_path.resolve():
        raise ConfigError(f"{out}: is the file with the simulations; choose another one for the predictions.")
    if target.is_dir() or (target.exists() and target.parent == model_dir.resolve()):
        raise ConfigError(f"{out}: is a folder, or belongs to the model; choose another file for the predictions.")


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
    _check_size("labels", len(preprocessor.column_names()["label"]), shape_in(stats, "num_labels"))


def _check_size(what: str, given: int, expected: int) -> None:
    if given != expected:
        raise ModelError(f"the data have {given} {what}, the model was trained with {expected}.")


def _write(
    out: Path,
    data: DemData,
    shapes: Sequence[GroupShape],
    ids: Array,
    predicted: Array,
    simulated: Array,
    config: Mapping[str, Any],
    units: Mapping[str, str],
) -> None:
    first = int(config["window_size"]) - int(config["pad_length"])
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
