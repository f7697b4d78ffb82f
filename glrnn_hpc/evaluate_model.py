"""Figures of a model's predictions beside whole sequences, under the names that GrainLearning gave their functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glrnn_hpc.predict import predict_batch
from glrnn_hpc.preprocessor.base import sequence_dataset
from glrnn_hpc.surrogate.window_datasets import extract_tensors

Array = NDArray[Any]

#: Sequences that are drawn at most.
_LINES = 6


def plot_predictions(
    model: keras.Model,
    data: tf.data.Dataset,
    train_stats: Mapping[str, Any],
    config: Mapping[str, Any],
    batch_size: int = 256,
) -> Figure:
    """Draw each label of some sequences against the steps, as it is and as the model predicts it.

    Parameters
    ----------
    model : keras.Model
        The trained network.
    data : tf.data.Dataset
        Whole sequences, with labels in original units (`standardize_outputs` false, or `prepare_single_dataset`).
    train_stats, config : mapping
        Of the trained model.
    batch_size : int
        The sequences are taken from the first so many: one for each combination of pressure and experiment type where
        the model has these as parameters, else the first ones.

    Returns
    -------
    matplotlib.figure.Figure
    """
    inputs, params, labels = extract_tensors(data.take(batch_size))
    chosen = _representatives(params, train_stats)
    parts = sequence_dataset(inputs[chosen], params[chosen], labels[chosen])
    predicted = predict_batch(model, parts, train_stats, config).numpy()
    steps = np.arange(int(config["window_size"]), labels.shape[1])
    names = train_stats.get("label_names") or [f"label {k}" for k in range(labels.shape[2])]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5 * columns, 4 * rows), squeeze=False, layout="constrained")
    for column, (ax, name) in enumerate(zip(axes.flat, names, strict=False)):
        for line, row in enumerate(chosen):
            simulated = labels[row, steps, column]
            response = predicted[line, :, column]
            fill_ax(ax, steps, simulated, steps, response, x_label="step", y_label=name, color=f"C{line}")
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    axes.flat[0].plot([], [], color="black", label="simulated")
    axes.flat[0].plot([], [], color="black", linestyle="dashed", label="predicted")
    axes.flat[0].legend()
    return figure


def plot_metric_distribution(data: tf.data.Dataset, predictions: tf.Tensor, config: Mapping[str, Any]) -> Figure:
    """Draw the histogram of the mean absolute errors of sequences, over all labels and predicted steps.

    Parameters
    ----------
    data : tf.data.Dataset
        Whole sequences, with labels in the units of the predictions.
    predictions : tf.Tensor, shape (n, T - window_size, n_labels)
        What `predict_batch` returned for all of them.
    config : mapping
        Of the trained model.
    """
    labels = extract_tensors(data)[2][:, int(config["window_size"]) :]
    errors = np.abs(np.asarray(predictions) - labels).mean(axis=(1, 2))
    figure, ax = pyplot.subplots()
    ax.hist(errors)
    ax.set_xlabel("Mean absolute error")
    ax.set_ylabel("Sequences")
    return figure


def fill_ax(
    ax: Axes,
    x_labels: Array,
    y_labels: Array,
    x_preds: Array,
    y_preds: Array,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    color: str = "blue",
    ylim: tuple[float, float] | None = None,
    add_legend: bool = False,
    p_label: str = "",
    e_label: str = "",
) -> None:
    """Draw one sequence: the simulated response as a line, the predicted one dashed in the same colour."""
    truth = " ".join(part for part in ("simulated", p_label, e_label) if part)
    ax.plot(x_labels, y_labels, label=truth, color=color)
    ax.plot(x_preds, y_preds, label="predicted", linestyle="dashed", color=color)
    for text, put in ((title, ax.set_title), (x_label, ax.set_xlabel), (y_label, ax.set_ylabel)):
        if text:
            put(text)
    if ylim is not None:
        ax.set_ylim(ylim)
    if add_legend:
        ax.legend()


def _representatives(params: Array, train_stats: Mapping[str, Any]) -> Array:
    """Return the first sequence of each combination of pressure and type, by the names of the columns."""
    names = list(train_stats.get("param_names") or ())
    columns = [names.index(name) for name in ("pressure", "experiment_type") if name in names]
    if not columns:
        return np.arange(min(_LINES, len(params)))
    first = np.unique(params[:, columns], axis=0, return_index=True)[1]
    return np.sort(first)[:_LINES]
