"""Verification of a trial by its files: losses computed again from its model must equal the logged ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.config import RUN_KEYS, SPLIT_SEED, RunConfig
from glrnn_hpc.data.shared import DemData
from glrnn_hpc.errors import DataError, GlrnnError, ModelError, RecordError
from glrnn_hpc.models.registry import recorded_config
from glrnn_hpc.predict import predict_sequences
from glrnn_hpc.preprocessor.base import PreparedData, Preprocessor
from glrnn_hpc.preprocessor.fingerprint import check_fingerprint
from glrnn_hpc.preprocessor.from_file import FilePreprocessor, preprocessor_of_file
from glrnn_hpc.preprocessor.splits import label_scaling
from glrnn_hpc.records.json_types import Point
from glrnn_hpc.records.train_stats import TrainStats, label_names_of
from glrnn_hpc.records.trial_result import TrialResult, read_trial_result
from glrnn_hpc.scaling import Scaling
from glrnn_hpc.search.sweep import build_preprocessor, preprocessor_of
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.study.slots import Slot
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.surrogate import artifact, evaluate
from glrnn_hpc.surrogate.feed import FitData
from glrnn_hpc.windows import n_predictions_of_padding

Array = NDArray[Any]

#: Largest relative difference between a logged and a recomputed number.
TOLERANCE = 1e-5

#: Largest difference of a loss that is zero, by rounding alone.
_ROUNDING = 1e-12

#: Number of sequences that are predicted at once, which bounds the memory.
_PART = 2048


class Disagreement(ModelError):
    """Files of a trial that can be evaluated, and give other numbers than the logged ones."""


@dataclass(frozen=True)
class Verified:
    """Trial whose files give the logged metrics.

    Attributes
    ----------
    folder : TrialFolder
        Files of the trial.
    result : TrialResult
        Published result.
    metrics : dict
        Logged losses.
    model : keras.Model
        Model as loaded from its file.
    config : RunConfig
        Configuration of the training.
    stats : dict
        `train_stats`.
    data : PreparedData or FitData
        Data of the training: arrays, or the batches of a preprocessor of the user's own.
    recomputed : dict
        `val_loss`, `val_mae`, `test_loss`, `test_mae`; `val_loss_raw` and `test_loss_raw` of a network that learns
        targets.
    """

    folder: layout.TrialFolder
    result: TrialResult
    metrics: dict[str, float]
    model: keras.Model
    config: RunConfig
    stats: TrainStats
    data: PreparedData | FitData
    recomputed: dict[str, float]

    def label_names(self) -> list[str]:
        """Return the names of the labels, `label_<k>` where the preprocessor does not name them."""
        return label_names_of(self.stats)


def verify(study: SweepStudy, slot: Slot, source: DemData | None) -> Verified:
    """Load the model of a finished or pruned trial and evaluate it on the validation and the test split.

    Parameters
    ----------
    study : SweepStudy
        The sweep.
    slot : Slot
        Trial as the study has it; its value ranks it. The study keeps no value of a pruned trial.
    source : DemData, optional
        The sweep's data in memory; None if its preprocessor has data of its own.

    Raises
    ------
    GlrnnError
        If a file is missing or broken, or does not fit the study, the others or the data; `Disagreement` if the numbers
        differ.
    """
    folder = study.folder.trial(slot.number)
    result = _read_result(folder)
    metrics = _logged_metrics(folder, result)
    value = result.value if slot.state == "pruned" else slot.value
    _check_study(folder, replace(slot, value=value), result, metrics.get(study.spec.metric), study.spec.metric)
    if not folder.metrics.exists():
        raise ModelError(f"{folder.metrics}: is missing.")
    config, stats = artifact.load_description(folder)
    _check_config(folder, config, slot.params)
    model = artifact.load_model(artifact.find_model(folder.root), config, stats)
    _check_outputs(folder, model, stats)
    data = _prepare(study, result.point, config, stats, source)
    _check_statistics(folder, stats, data.train_stats)
    recomputed = evaluate.split_losses(model, data, config)
    _compare_metrics(metrics, recomputed)
    return Verified(folder, result, metrics, model, config, stats, data, recomputed)


def split_metrics(verified: Verified) -> dict[str, evaluate.PredictionMetrics]:
    """Return the errors of a verified model on the splits `val` and `test`.

    Where the data are arrays, whole sequences are compared from step `window_size` on, as in `glrnn predict`; else the
    windows that the preprocessor gives, scaled back by the mean and std of its `train_stats`.
    """
    stats = verified.stats
    n_labels = stats["num_labels"]
    unscaled = Scaling(np.zeros(n_labels), np.ones(n_labels))
    scaling = label_scaling(stats) or unscaled
    n_left_out = n_predictions_of_padding(verified.config.window_size, verified.config.pad_length)
    metrics = {}
    for split in ("val", "test"):
        sums = evaluate.ErrorSums(verified.label_names(), scaling.divisor())
        if isinstance(verified.data, FitData):
            back = scaling if verified.config.standardize_outputs else unscaled
            for inputs, labels in getattr(verified.data, split):
                predicted = verified.model.predict_on_batch(inputs)
                sums.add(*(values * back.divisor() + back.mean for values in (predicted, labels.numpy())))
        else:
            for inputs, params, labels in raw_parts(verified.data.splits[split]):
                predicted = predict_sequences(verified.model, inputs, params, stats, verified.config.as_dict())
                simulated = labels[:, verified.config.window_size :]
                sums.add(predicted[:, n_left_out:], simulated[:, n_left_out:])
        metrics[split] = sums.metrics()
    return metrics


def raw_parts(sequences: Sequences) -> Iterator[tuple[Array, Array, Array]]:
    """Give inputs, parameters and labels of whole sequences part by part, padded as in training, in original units."""
    raw = sequences.with_raw_labels()
    for start in range(0, len(raw), _PART):
        yield raw.take(np.arange(start, min(start + _PART, len(raw)))).arrays()


def _read_result(folder: layout.TrialFolder) -> TrialResult:
    try:
        return read_trial_result(folder)
    except OSError as error:
        raise ModelError(f"{folder.result}: cannot be read: {error.strerror}.") from error
    except RecordError as error:
        raise ModelError(str(error)) from error


def _logged_metrics(folder: layout.TrialFolder, result: TrialResult) -> dict[str, float]:
    """Return the logged metrics of a finished trial."""
    known = {"metrics": result.metrics, "epochs": result.epochs, "best_epoch": result.best_epoch}
    if result.metrics is None or None in known.values():
        lacking = ", ".join(name for name, value in known.items() if value is None)
        raise ModelError(f"{folder.result}: is broken: it has no {lacking}; restore it from a copy.")
    return result.metrics


def _check_study(
    folder: layout.TrialFolder, slot: Slot, result: TrialResult, logged: float | None, metric: str
) -> None:
    """Refuse files of another trial: they agree with each other, but not with the value that ranks this trial."""
    recorded = {"number": result.number, "state": result.state, "point": result.point, metric: logged}
    expected = {"number": slot.number, "state": slot.state, "point": slot.params, metric: slot.value}
    for name, value in recorded.items():
        if value != expected[name]:
            raise ModelError(f"{folder.result.name} has {name} {value}, the study {expected[name]}")


def _check_config(folder: layout.TrialFolder, config: RunConfig, point: Point) -> None:
    """Refuse a configuration that was changed after the training; not every key changes the losses."""
    swept = {key: value for key, value in point.items() if key in RUN_KEYS | config.as_dict().keys()}
    of_study = recorded_config({**config.as_dict(), **swept}, str(folder.config)).as_dict()
    for key, value in config.as_dict().items():
        if value != of_study[key]:
            raise ModelError(f"{folder.config.name} has {key} {value}, the study {of_study[key]}")


def _check_outputs(folder: layout.TrialFolder, model: keras.Model, stats: TrainStats) -> None:
    size, expected = model.outputs[0].shape[-1], stats.get("num_targets", stats["num_labels"])
    if size not in (None, expected):
        raise ModelError(f"{folder.root}: the model gives {size} labels, its train_stats.json has {expected}.")


def _prepare(
    study: SweepStudy, point: Point, config: RunConfig, stats: TrainStats, source: DemData | None
) -> PreparedData | FitData:
    seed = stats.get("split_seed", SPLIT_SEED)
    if not isinstance(seed, int):
        raise ModelError(f"train_stats.json: is broken: split_seed must be a whole number, it is {seed!r}.")
    if preprocessor_of(study.spec) is None:
        preprocessor: Preprocessor = preprocessor_of_file(config.as_dict(), source)
        _check_data(preprocessor, stats)
        return evaluate.prepared_for(preprocessor, config, seed)
    try:
        preprocessor = build_preprocessor(study.spec, point, source)
        _check_data(preprocessor, stats)
        return evaluate.prepared_for(preprocessor, config, seed)
    except GlrnnError:
        raise
    except Exception as error:  # the user's own code can raise anything
        raise DataError(f"the sweep's own preprocessor failed: {type(error).__name__}: {error}") from error


def _check_data(preprocessor: Preprocessor, stats: TrainStats) -> None:
    """Refuse changed data before a model is evaluated on them in vain."""
    if isinstance(preprocessor, FilePreprocessor) and "fingerprint" in stats:
        check_fingerprint(preprocessor.config.raw_data, preprocessor.fingerprint(), stats["fingerprint"])


def _check_statistics(folder: layout.TrialFolder, kept: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse data of another scale or order; standardised by their own mean and std they give the logged losses."""
    for name in ("input_names", "param_names", "label_names"):
        if name in kept and name in given and list(kept[name]) != list(given[name]):
            raise Disagreement(f"{folder.train_stats.name} has {name} {kept[name]}, the data give {given[name]}")
    kept, given = ({**each, **_with_prefix("targets_", each.get("targets", {}))} for each in (kept, given))
    for name in ("targets_transforms", "targets_exact"):
        if kept.get(name) != given.get(name):
            raise Disagreement(
                f"{folder.train_stats.name} has {name} {kept.get(name)}, the data give {given.get(name)}"
            )
    for prefix in ("", "labels_", "inputs_", "params_", "targets_"):
        names = (f"{prefix}mean", f"{prefix}std")
        if not all(name in stats for name in names for stats in (kept, given)):
            continue
        for name in names:
            if not _has_shape_of(kept[name], given[name]):
                raise ModelError(
                    f"{folder.train_stats}: is broken: {name} must be numbers of shape {np.shape(given[name])}."
                )
        scale = TOLERANCE * (np.abs(kept[names[0]]) + np.abs(kept[names[1]]))
        for name in names:
            if not np.all(np.abs(np.subtract(kept[name], given[name])) <= scale):
                raise Disagreement(
                    f"{folder.train_stats.name} has {name} {np.round(kept[name], 6).tolist()}, "
                    f"the data give {np.round(given[name], 6).tolist()}"
                )


def _with_prefix(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def _has_shape_of(values: Any, others: Any) -> bool:
    """Whether values are numbers of the same shape as others."""
    try:
        return np.asarray(values, "float64").shape == np.shape(others)
    except (TypeError, ValueError):
        return False


def _compare_metrics(logged: dict[str, float], recomputed: dict[str, float]) -> None:
    differing = []
    for name in recomputed:
        if name not in logged:
            raise ModelError(f"{name} was not logged, its files give {recomputed[name]:.8g}")
        # Written so that NaN is refused, too. Two losses of an exactly met constant differ by rounding alone.
        if not abs(recomputed[name] - logged[name]) <= max(TOLERANCE * abs(logged[name]), _ROUNDING):
            differing.append(f"{name} was logged as {logged[name]:.8g}, its files give {recomputed[name]:.8g}")
    if differing:
        raise Disagreement("; ".join(differing))
