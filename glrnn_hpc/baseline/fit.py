"""Gaussian-process baseline of prepared data: fitted to the training split, its errors on the test split."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.linalg import LinAlgError

from glrnn_hpc.baseline.emulator import Emulator, fit_emulator
from glrnn_hpc.baseline.gaussian_process import Array, import_scikit_learn, on_one_thread
from glrnn_hpc.config import SPLIT_SEED, PreprocessingConfig
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.base import TYPE_PARAMETER, Experiment
from glrnn_hpc.experiments.labels import LabelTransform
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.preprocessor.splits import label_scaling
from glrnn_hpc.records.baseline import BaselineFit, BaselineKey
from glrnn_hpc.records.train_stats import TrainStats
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.surrogate.evaluate import ErrorSums
from glrnn_hpc.targets import Targets, choose_targets
from glrnn_hpc.windows import first_predicted_step

#: Version of the emulator: a change of its numbers makes recorded baselines void.
EMULATOR = 1

#: Sequences that the baseline is fitted to at most: the time grows with their cube.
MOST_FITTED = 3000

#: Products of fitted and predicted sequences, and values of the fitted curves, that fit into time and memory.
_MOST_PAIRS, _MOST_VALUES = 2**26, 2**26

#: Training sequences below which there is no baseline.
LEAST_SEQUENCES = 10

#: Processor time [s] for the fit on one thread, on an idle core the time that it takes; predictions and the rest take
#: less than ten seconds more. On a busy machine a limit on the time of day would make the baseline worse than it is.
SECONDS = 40.0

#: Loads that differ by less than this part of their range are the same.
_SAME_LOAD = 1e-3

#: Test sequences that are predicted at once.
_PART = 1000


class NoBaseline(DataError):
    """The emulator does not apply to these data; the text says why, without a full stop."""


def baseline_key(stats: TrainStats, config: PreprocessingConfig, first_step: int | None = None) -> BaselineKey:
    """Return what the baseline of a training's data depends on.

    Parameters
    ----------
    stats : TrainStats
        Of the training.
    config : PreprocessingConfig
        Of the training.
    first_step : int, optional
        First step that is compared, without padding; by default the first that the network predicts.

    Raises
    ------
    NoBaseline
        If the statistics do not name the columns and the data.
    """
    known = ("fingerprint", "input_names", "param_names", "label_names", "sequence_length")
    if lacking := [name for name in known if name not in stats]:
        raise NoBaseline(f"the data of the preprocessor do not tell {', '.join(lacking)}")
    scaling = label_scaling(stats)
    if scaling is None:
        raise NoBaseline("the data of the preprocessor do not tell mean and deviation of the labels")
    return BaselineKey(
        emulator=EMULATOR,
        fingerprint=stats["fingerprint"],
        split_seed=stats.get("split_seed", SPLIT_SEED),
        train_frac=config.train_frac,
        val_frac=config.val_frac,
        first_step=first_predicted_step(config.window_size, config.pad_length) if first_step is None else first_step,
        n_steps=stats["sequence_length"] - config.pad_length,
        inputs=list(stats["input_names"]),
        params=list(stats["param_names"]),
        labels=list(stats["label_names"]),
        labels_mean=_rounded(scaling.mean),
        labels_std=_rounded(scaling.std),
    )


def _rounded(values: Array) -> list[float]:
    """Return values whose last digits do not depend on the order of a sum."""
    return [float(f"{value:.6g}") for value in values]


def fit_baseline(
    data: PreparedData,
    config: PreprocessingConfig,
    experiment: Experiment,
    key: BaselineKey,
    seconds: float = SECONDS,
) -> BaselineFit:
    """Fit the emulator to the training split, and compare it with the test split.

    It learns the transformed labels of the experiment and takes its exact relations, whatever the networks do. Its
    random subset, where there are too many sequences, is the first part of the split, which is in random order.

    Parameters
    ----------
    data : PreparedData
        Splits of a training.
    config : PreprocessingConfig
        Of the training.
    experiment : Experiment
        Declares transforms, relations and the load feature that the steps follow.
    key : BaselineKey
        Of these data.
    seconds : float
        For the fit.

    Raises
    ------
    NoBaseline
        If the load paths differ between sequences, there are too few sequences, or values are not finite.
    ConfigError
        If scikit-learn is not installed.
    """
    began = time.process_time()
    train, test = (data.splits[name].with_raw_labels() for name in ("train", "test"))
    if len(train) < LEAST_SEQUENCES:
        raise NoBaseline(f"there are {len(train)} training sequences, and it needs at least {LEAST_SEQUENCES}")
    n_steps = key.n_steps - key.first_step
    bounds = (MOST_FITTED, _MOST_PAIRS // len(test), _MOST_VALUES // (n_steps * len(key.labels)))
    part = train.take(np.arange(min(len(train), max(LEAST_SEQUENCES, min(bounds)))))
    inputs, params, labels = _compared(part, key)
    load_columns = _differing_columns(inputs, test, key, experiment.control)
    if not load_columns and not np.ptp(params, axis=0).any():
        raise NoBaseline("neither the parameters nor the loads of the training sequences differ")
    if not all(np.isfinite(values).all() for values in (inputs, params, labels)):
        raise NoBaseline("the training split holds values that are not finite")
    targets = _targets(config, experiment, key, params, labels)
    import_scikit_learn()
    try:
        with on_one_thread():
            emulator = fit_emulator(inputs, params, labels, targets, load_columns, began + seconds)
            rmse = _errors(emulator, test, key)
    except LinAlgError as error:
        raise NoBaseline(f"its covariance is singular ({error})") from error
    if not np.isfinite(list(rmse.values())).all():
        raise NoBaseline("its predictions are not finite")
    return BaselineFit(
        key=key,
        n_train=len(train),
        n_fitted=emulator.n_fitted,
        n_test=len(test),
        n_components=len(emulator.scales),
        seconds=time.process_time() - began,
        rmse=rmse,
    )


def _compared(sequences: Sequences, key: BaselineKey) -> tuple[Array, Array, Array]:
    """Return inputs, params and labels in their units, from the first step that is compared."""
    inputs, params, labels = sequences.arrays()
    steps = slice(sequences.pad_length + key.first_step, None)
    return inputs[:, steps], params, labels[:, steps]


def _parts(sequences: Sequences, key: BaselineKey) -> Iterator[tuple[Array, Array, Array]]:
    for start in range(0, len(sequences), _PART):
        yield _compared(sequences.take(np.arange(start, min(start + _PART, len(sequences)))), key)


def _differing_columns(inputs: Array, test: Sequences, key: BaselineKey, control: str) -> list[int]:
    """Return the load features that differ between sequences; the one that the steps follow must not."""
    if control not in key.inputs:
        raise NoBaseline(f"the load feature that the steps follow, {control}, is not among {', '.join(key.inputs)}")
    path = key.inputs.index(control)
    values = inputs[..., path]
    widest = np.ptp(values, axis=0).max()
    for others, _, _ in _parts(test, key):
        widest = max(widest, np.abs(others[..., path] - values[0]).max())
    # Written so that NaN counts as a difference.
    if not widest <= _SAME_LOAD * np.ptp(values):
        raise NoBaseline(f"the path of {control} differs between the sequences, and it knows no steps")
    spans = np.ptp(inputs, axis=0).max(axis=0)
    differs = spans > _SAME_LOAD * np.maximum(np.ptp(inputs, axis=(0, 1)), np.finfo("float32").tiny)
    return [column for column in range(len(key.inputs)) if column != path and differs[column]]


def _targets(
    config: PreprocessingConfig, experiment: Experiment, key: BaselineKey, params: Array, labels: Array
) -> Targets:
    """Return what is emulated: transformed labels and exact relations, as far as the experiment declares them."""
    names = {"input": key.inputs, "param": key.params, "label": key.labels}
    types = _types(config, experiment, key, params)
    as_they_are = tuple(LabelTransform(name) for name in key.labels)
    targets = Targets(tuple(key.inputs), tuple(key.params), tuple(key.labels), as_they_are)
    for scaling, exact in (("physical", True), ("physical", False), ("raw", True)):
        try:
            chosen = choose_targets(
                experiment, config.model_copy(update={"label_scaling": scaling, "exact": exact}), names, types
            )
        except ConfigError:
            continue
        targets = chosen or targets
        break
    return _transformable(targets, params, labels)


def _transformable(targets: Targets, params: Array, labels: Array) -> Targets:
    """Return the same targets with labels as they are where a value cannot be transformed."""
    with np.errstate(all="ignore"):
        values = targets.of_labels(labels.astype("float64"), params[:, None].astype("float64"))
    finite = np.isfinite(values).all(axis=(0, 1))
    transforms = tuple(
        each if is_finite else LabelTransform(each.label)
        for each, is_finite in zip(targets.transforms, finite, strict=True)
    )
    return replace(targets, transforms=transforms)


def _types(config: PreprocessingConfig, experiment: Experiment, key: BaselineKey, params: Array) -> set[str]:
    """Return the experiment types of the sequences; all of them where the data do not tell."""
    codes = experiment.type_codes
    if TYPE_PARAMETER in key.params:
        values = params[:, key.params.index(TYPE_PARAMETER)]
        found = {name for name, code in codes.items() if np.isclose(values, code, atol=1e-3).any()}
        return found or set(codes)
    chosen = config.experiment_type
    return {name for name in ([chosen] if isinstance(chosen, str) else chosen) if name in codes} or set(codes)


def _errors(emulator: Emulator, test: Sequences, key: BaselineKey) -> dict[str, float]:
    """Return the root mean square error of each label over the test split."""
    sums = ErrorSums(key.labels, np.ones(len(key.labels)))
    for inputs, params, labels in _parts(test, key):
        sums.add(emulator.predict(inputs, params), labels)
    return {name: errors.rmse for name, errors in sums.metrics().labels.items()}
