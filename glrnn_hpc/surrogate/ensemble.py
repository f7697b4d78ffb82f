"""Ensemble of trained models as one surrogate: the weighted mean of its members, and an interval around it.

Members may differ in all that a training decides: windows, padding, load features, scaling, network. Each one predicts
labels in their units, from its own first step on; steps are matched by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.config import PREPROCESSING_KEYS
from glrnn_hpc.errors import ModelError, WindowError
from glrnn_hpc.preprocessor.splits import label_scaling
from glrnn_hpc.records.ensemble import EnsembleRecord, read_ensemble
from glrnn_hpc.records.train_stats import input_names_of, label_names_of, param_names_of
from glrnn_hpc.surrogate import artifact
from glrnn_hpc.surrogate.intervals import Intervals, intervals_of_record
from glrnn_hpc.surrogate.one_load import OneLoadModel
from glrnn_hpc.surrogate.prediction import check_size, predict_windows
from glrnn_hpc.windows import first_predicted_step, n_predictions_of_padding

Array = NDArray[Any]

#: Sequences that are predicted at once; bounds the memory of a prediction.
_PART = 256


@dataclass(frozen=True)
class EnsemblePrediction:
    """Prediction of an ensemble in the units of the labels; its arrays have the shape (n, T - first_step, n_labels).

    Attributes
    ----------
    first_step : int
        Step of the first prediction, counted without padding.
    mean : ndarray, float32
        Weighted mean of the members.
    std : ndarray, float32
        Standard deviation of a normal error whose 90 % interval is as wide as the one that is given.
    lower, upper : ndarray, float32
        Bounds of the 90 % interval.
    """

    first_step: int
    mean: Array
    std: Array
    lower: Array
    upper: Array


class Member:
    """One trained model of an ensemble.

    Parameters
    ----------
    model : keras.Model
        The network.
    stats, config : mapping
        `train_stats` and configuration of its training.
    input_names : sequence of str
        Load features that it is given; it takes its own ones by their names.
    """

    def __init__(
        self, model: keras.Model, stats: Mapping[str, Any], config: Mapping[str, Any], input_names: Sequence[str]
    ) -> None:
        self.model, self.stats, self.config = model, stats, config
        self._columns = [list(input_names).index(name) for name in input_names_of(stats)]
        self._window_size, self._pad_length = int(config["window_size"]), int(config.get("pad_length", 0))
        self.first_step = first_predicted_step(self._window_size, self._pad_length)

    def predict(self, inputs: Array, params: Array) -> Array:
        """Return the predictions, (n, T - first_step, n_labels), for whole sequences (n, T, x), not padded."""
        chosen = inputs[..., self._columns]
        padded = np.concatenate([np.repeat(chosen[:, :1], self._pad_length, axis=1), chosen], axis=1)
        predicted = predict_windows(self.model, {"inputs": padded, "params": params}, self.stats, self.config)
        return np.asarray(predicted)[:, n_predictions_of_padding(self._window_size, self._pad_length) :]

    def respond(self, load: Array, params: Array) -> Array:
        """Return the predictions, (n, T - first_step, n_labels), for many sets of parameters under one load (T, x)."""
        return self._one_load.respond(load[:, self._columns], params)

    @property
    def is_fast(self) -> bool:
        """Whether the network has a fast kernel for many sets of parameters under one load."""
        return self._one_load.is_fast

    @cached_property
    def _one_load(self) -> OneLoadModel:
        return OneLoadModel(self.model, self.stats, self.config)


class Ensemble:
    """Trained models as one surrogate.

    Parameters
    ----------
    members : sequence of Member
        Models, each with the load features of the whole.
    record : EnsembleRecord
        Weights, columns and intervals.

    Attributes
    ----------
    members : tuple of Member
        Models.
    weights : ndarray, shape (n_members,)
        Their weights; the sum is 1.
    record : EnsembleRecord
        What the export says.
    intervals : Intervals
        What makes intervals of the members' predictions.
    first_step : int
        First step that is predicted, counted without padding.
    """

    def __init__(self, members: Sequence[Member], record: EnsembleRecord) -> None:
        self.members, self.record = tuple(members), record
        counts = np.array([each.weight for each in record.members], "float64")
        self.weights: Array = counts / counts.sum()
        self.intervals: Intervals = intervals_of_record(record.intervals, record.param_names)
        self.first_step = record.first_step

    def predict(self, inputs: Array, params: Array) -> EnsemblePrediction:
        """Predict whole sequences.

        Parameters
        ----------
        inputs : ndarray, shape (n, T, n_inputs)
            Raw load sequences, not padded; columns in the order of `record.input_names`.
        params : ndarray, shape (n, n_params)
            Raw; columns in the order of `record.param_names`.

        Raises
        ------
        ModelError
            If the numbers of columns are not those of the ensemble.
        WindowError
            If the sequences are not longer than `first_step`.
        """
        parts = [
            self.combine(
                self.predict_members(inputs[start : start + _PART], params[start : start + _PART]),
                params[start : start + _PART],
            )
            for start in range(0, len(inputs), _PART)
        ]
        names = ("mean", "std", "lower", "upper")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return EnsemblePrediction(self.first_step, **arrays)

    def predict_members(self, inputs: Array, params: Array) -> Array:
        """Predict whole sequences by each member, (n_members, n, T - first_step, n_labels); see `predict`."""
        inputs, params = np.asarray(inputs), np.asarray(params)
        self._check(inputs.shape[-1], params.shape[-1], inputs.shape[1])
        return self._aligned((member, member.predict(inputs, params)) for member in self.members)

    def respond_members(self, load: Array, params: Array) -> Array:
        """Predict the responses to one load by each member, in one call for all sets of parameters.

        Parameters
        ----------
        load : ndarray, shape (T, n_inputs)
            Not padded.
        params : ndarray, shape (n, n_params)
            Raw.

        Returns
        -------
        ndarray, shape (n_members, n, T - first_step, n_labels), float32
        """
        load, params = np.asarray(load), np.asarray(params)
        self._check(load.shape[-1], params.shape[-1], len(load))
        return self._aligned((member, member.respond(load, params)) for member in self.members)

    def mean_of(self, members: Array) -> Array:
        """Return the weighted mean, (n, n_steps, n_labels), float32, of predictions (n_members, n, ...)."""
        mean: Array = np.tensordot(self.weights, np.asarray(members, "float64"), axes=1).astype("float32")
        return mean

    def combine(self, members: Array, params: Array) -> EnsemblePrediction:
        """Return mean, standard deviation and interval of what `predict_members` or `respond_members` returned."""
        band = self.intervals.around(members, self.weights, np.asarray(params))
        return EnsemblePrediction(self.first_step, self.mean_of(members), band.std, band.lower, band.upper)

    def count_params(self) -> int:
        """Return the number of weights of all members."""
        return sum(int(member.model.count_params()) for member in self.members)

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ModelError(
            "an ensemble takes whole sequences and no windows, which its members cut in different lengths; use "
            "predict.predict_sequences, predict.predict_macroscopics, or predict() of the ensemble."
        )

    def _aligned(self, predictions: Iterable[tuple[Member, Array]]) -> Array:
        """Return predictions of the members from the first step on that all of them predict."""
        return np.stack([values[:, self.first_step - member.first_step :] for member, values in predictions])

    def _check(self, n_inputs: int, n_params: int, n_steps: int) -> None:
        check_size("features of the load sequence", n_inputs, len(self.record.input_names))
        check_size("parameters", n_params, len(self.record.param_names))
        if n_steps <= self.first_step:
            raise WindowError(
                f"sequences of {n_steps} steps are too short for an ensemble whose first prediction is for step "
                f"{self.first_step}; at least {self.first_step + 1} steps are needed."
            )


def is_ensemble(folder: Path) -> bool:
    """Return whether a folder holds an ensemble."""
    return layout.RunFolder(folder).ensemble.exists()


def load_ensemble(folder: str | Path, *, may_run_own_code: bool = True) -> Ensemble:
    """Load an ensemble that `glrnn collect --ensemble` exported.

    Parameters
    ----------
    folder : path
        Folder of the export.
    may_run_own_code : bool
        Whether the files are the user's own, so that they may name code to be imported.

    Raises
    ------
    ModelError
        If a file is missing or broken, or the members do not fit together.
    """
    root = layout.RunFolder(Path(folder))
    record = read_ensemble(root.ensemble)
    members = []
    for entry in record.members:
        files = root.member(entry.folder)
        config, stats = artifact.load_description(files)
        _check_member(files, record, stats)
        path = artifact.find_model(files.root)
        model = artifact.load_model(path, config, stats, may_run_own_code=may_run_own_code)
        members.append(Member(model, dict(stats), config.as_dict(), record.input_names))
        if members[-1].first_step > record.first_step:
            raise ModelError(
                f"{files.root}: predicts from step {members[-1].first_step} on, {root.ensemble.name} says that all "
                f"members do from step {record.first_step} on; `glrnn collect --ensemble` writes it anew."
            )
    return Ensemble(members, record)


def describe_whole(ensemble: Ensemble) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return `train_stats` and `config` of an ensemble, as those of a model that takes all load features unscaled.

    Its `window_size` is the first step that all members predict, without padding. Where that is step 0, it is 1 behind
    a padding of 1, as no window is shorter. Labels are not standardised; keys of networks and trainings are left out.
    """
    record, first = ensemble.record, ensemble.members[0]
    window_size, pad_length = (record.first_step, 0) if record.first_step else (1, 1)
    config = {key: value for key, value in first.config.items() if key in PREPROCESSING_KEYS}
    config |= {"window_size": window_size, "pad_length": pad_length}
    config |= {"standardize_inputs": False, "standardize_outputs": False, "label_scaling": "raw", "exact": False}
    if "input_names" in first.stats:
        config |= {"inputs": list(record.input_names), "inputs_drained": None, "inputs_undrained": None}
    kept = ("split_seed", "fingerprint", "params_mean", "params_std", "params_min", "params_max", "version")
    stats = {key: first.stats[key] for key in kept if key in first.stats}
    stats |= {
        "num_input_features": len(record.input_names),
        "num_params": len(record.param_names),
        "num_labels": len(record.label_names),
        "input_names": list(record.input_names),
        "param_names": list(record.param_names),
        "label_names": list(record.label_names),
    }
    if "sequence_length" in first.stats:
        stats["sequence_length"] = int(first.stats["sequence_length"]) - int(first.config["pad_length"]) + pad_length
    scaling = label_scaling(first.stats)
    if scaling is not None:
        stats |= {"labels_mean": scaling.mean, "labels_std": scaling.std}
    return stats, config


def _check_member(files: layout.RunFolder, record: EnsembleRecord, stats: Mapping[str, Any]) -> None:
    for kind, given, expected in (
        ("labels", label_names_of(stats), record.label_names),
        ("parameters", param_names_of(stats), record.param_names),
    ):
        if given != expected:
            raise ModelError(
                f"{files.root}: has the {kind} {', '.join(given)}, the ensemble {', '.join(expected)}; members of an "
                "ensemble must agree in them. `glrnn collect --ensemble` writes it anew."
            )
    if lacking := [name for name in input_names_of(stats) if name not in record.input_names]:
        raise ModelError(
            f"{files.root}: takes the load features {', '.join(lacking)}, which the ensemble does not have; it has "
            f"{', '.join(record.input_names)}. `glrnn collect --ensemble` writes it anew."
        )
