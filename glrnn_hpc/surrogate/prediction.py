"""Prediction of whole sequences: the network runs over all their windows, and the labels come back in their units."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from glrnn_hpc import windows
from glrnn_hpc.errors import DataError, ModelError, WindowError
from glrnn_hpc.gather import take_windows
from glrnn_hpc.preprocessor.splits import scaling_of
from glrnn_hpc.records.train_stats import shape_in
from glrnn_hpc.targets import targets_of

#: Windows that the network sees at once; bounds the memory of a prediction.
_WINDOWS_PER_CALL = 8192


def predict_windows(
    model: keras.Model, inputs: Mapping[str, Any], stats: Mapping[str, Any], config: Mapping[str, Any]
) -> tf.Tensor:
    """Predict the response over all windows of whole sequences, in original units.

    Parameters
    ----------
    model : keras.Model
        The trained network.
    inputs : mapping
        `inputs` (n, T, x) and `params` (n, c), raw and padded as in training.
    stats, config : mapping
        `train_stats` and configuration of the trained model.

    Returns
    -------
    tf.Tensor, shape (n, T - window_size, n_labels), float32
        Element ``k`` is the response at step ``window_size + k``.

    Raises
    ------
    ModelError
        If the data have another number of features or parameters than the model was trained with.
    WindowError
        If the sequences are not longer than a window.
    """
    sequences, params = tf.cast(inputs["inputs"], tf.float32), tf.cast(inputs["params"], tf.float32)
    check_size("features of the load sequence", sequences.shape[-1], shape_in(stats, "num_input_features"))
    check_size("parameters", params.shape[-1], shape_in(stats, "num_params"))
    window_size, n_steps = int(config["window_size"]), int(sequences.shape[1])
    if n_steps <= window_size:
        raise WindowError(
            f"sequences of {n_steps} steps are too short for a model with window_size={window_size}; "
            f"at least {window_size + 1} steps are needed."
        )
    raw_steps, raw_params = sequences[:, window_size:], params
    if config.get("standardize_inputs", False):
        sequences = tf.constant(scaling_of(stats, "inputs_")(sequences.numpy()))
        params = tf.constant(scaling_of(stats, "params_")(params.numpy()))
    predicted = all_windows(model, sequences, params, window_size)
    return labels_of_outputs(predicted, raw_steps, raw_params, stats, config)


def labels_of_outputs(
    outputs: tf.Tensor, inputs: Any, params: Any, stats: Mapping[str, Any], config: Mapping[str, Any]
) -> tf.Tensor:
    """Return the labels in original units of what a network gives.

    Parameters
    ----------
    outputs : tf.Tensor, shape (n, T, n_outputs)
        Of the network.
    inputs : array, shape (n, T, n_inputs) or (T, n_inputs)
        Raw load features at the same steps.
    params : array, shape (n, n_params)
        Raw parameters.
    stats, config : mapping
        `train_stats` and configuration of the trained model.

    Returns
    -------
    tf.Tensor, shape (n, T, n_labels), float32

    Raises
    ------
    ModelError
        If the statistics do not hold what the configuration asks for.
    """
    targets = targets_of(stats, config)
    if targets is not None:
        raw = (np.asarray(values, "float64") for values in (outputs, inputs, params))
        values, load, of_sequences = raw
        return tf.constant(targets.to_labels(values, load, of_sequences[:, None]).astype("float32"))
    if config.get("standardize_outputs", True):
        labels = scaling_of(stats)
        outputs = outputs * labels.divisor().astype("float32") + labels.mean.astype("float32")
    return outputs


def all_windows(model: keras.Model, sequences: Any, params: Any, window_size: int) -> Any:
    """Run the network over the windows that end at steps window_size .. T-1, some thousand per compiled call."""
    n, n_steps = int(sequences.shape[0]), int(sequences.shape[1])
    index = windows.prediction_index(n, n_steps, window_size)
    call = _compiled(model, window_size, int(sequences.shape[2]), int(params.shape[1]))
    parts = [
        call(sequences, params, index[at : at + _WINDOWS_PER_CALL]) for at in range(0, len(index), _WINDOWS_PER_CALL)
    ]
    return tf.reshape(tf.concat(parts, axis=0), (n, n_steps - window_size, -1))


# As many as the members of a large ensemble, which take their turns.
@functools.lru_cache(maxsize=32)
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


def check_length(what: str, n_steps: int | None, stats: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse sequences of another length than those of the training; both with their padding.

    Raises
    ------
    DataError
        If `n_steps` is known and is not the `sequence_length` of the training.
    """
    trained = stats.get("sequence_length")
    if None in (trained, n_steps) or n_steps == trained:
        return
    raise DataError(
        f"{what} have sequences of {n_steps} steps, the model was trained with {trained} (sequence_length of its "
        f"train_stats; the padding of pad_length={config.get('pad_length', 0)} is counted in both): a step of another "
        "length is another material to it. Prepare the data with the configuration of the model, at the steps of its "
        "training; `glrnn predict --any-length` and predict.predict_sequences predict them as they are."
    )


def check_size(what: str, given: int, expected: int) -> None:
    """Refuse data with another number of columns than the model was trained with."""
    if given != expected:
        raise ModelError(f"the data have {given} {what}, the model was trained with {expected}.")
