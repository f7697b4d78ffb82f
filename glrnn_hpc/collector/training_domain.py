"""Training domain of a model: its columns, their ranges in the training, its load steps, its errors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.config import SPLIT_SEED, did_you_mean
from glrnn_hpc.errors import ConfigError, DataError, GlrnnError, ModelError, RecordError
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.experiments.derived_features import given_features, load_array
from glrnn_hpc.experiments.registry import experiment_of
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.load_path import LoadPath, is_one_path, load_paths
from glrnn_hpc.preprocessor.fingerprint import check_fingerprint
from glrnn_hpc.preprocessor.from_file import preprocessor_of_model
from glrnn_hpc.preprocessor.splits import label_scaling, split_ids
from glrnn_hpc.records.provenance import Column, Provenance, read_provenance
from glrnn_hpc.windows import first_predicted_step

logger = logging.getLogger(__name__)

Array = NDArray[Any]
Range = tuple[float, float]

#: Size [bytes] above which a data file is not read for its load steps alone.
_LARGEST_FILE = 2**28

#: Factor beyond the range of the training from which on a value is taken for one in another unit.
_OTHER_UNIT = 10.0


@dataclass(frozen=True)
class TrainingDomain:
    """Columns, ranges, steps and errors that a model was trained with.

    Attributes
    ----------
    folder : Path
        Folder of the model.
    window_size, pad_length, n_steps : int
        Steps; `n_steps` is the length of a sequence without padding, 0 where it is not known.
    n_inputs, n_params, n_labels : int
        Numbers of columns.
    input_names, param_names, label_names : list of str
        Names in the order of the training; empty where the files of the model do not record them.
    input_ranges, param_ranges, label_ranges : dict of str to (float, float)
        Least and greatest value in the training split, by name; a name without a known range is left out.
    grid : dict of str to list of float
        Load features that are the same in every training sequence, by name; empty where the training data are gone.
        Those that the experiment derives are left out, here and in `load_paths`.
    load_paths : dict of str to LoadPath
        Steps and reversals of the load features, by name; empty where neither the data nor the provenance tell them.
    label_errors : dict of str to float
        RMSE on the test split in original units; empty where the provenance of the model does not record it.
    mean, std : list of float
        Mean and standard deviation of the labels; empty where they are not known.
    experiment : Experiment
        Experiment of the training data.
    """

    folder: Path
    window_size: int
    n_inputs: int
    n_params: int
    n_labels: int
    pad_length: int = 0
    n_steps: int = 0
    input_names: list[str] = field(default_factory=list)
    param_names: list[str] = field(default_factory=list)
    label_names: list[str] = field(default_factory=list)
    input_ranges: dict[str, Range] = field(default_factory=dict)
    param_ranges: dict[str, Range] = field(default_factory=dict)
    label_ranges: dict[str, Range] = field(default_factory=dict)
    grid: dict[str, list[float]] = field(default_factory=dict)
    load_paths: dict[str, LoadPath] = field(default_factory=dict)
    label_errors: dict[str, float] = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    experiment: Experiment = TRIAXIAL

    @property
    def first(self) -> int:
        """First step of a load sequence that is predicted: `window_size` less the padding, at least 0."""
        return first_predicted_step(self.window_size, self.pad_length)

    @property
    def given_inputs(self) -> list[str]:
        """Load features that an observation has; the experiment derives the others of `input_names`."""
        return given_features(self.input_names, self.experiment.derived_features())

    def complete_load(self, columns: Mapping[str, Array], names: Sequence[str] | None = None) -> Array:
        """Return the load of the model, with the features that the experiment derives.

        Parameters
        ----------
        columns : mapping of str to ndarray, shape (n_steps,)
            The features that are given.
        names : sequence of str, optional
            Those of the model, if its files do not record `input_names`.

        Returns
        -------
        ndarray, shape (n_steps, n_inputs), float64
        """
        names = self.input_names if names is None else names
        load = np.empty((len(next(iter(columns.values()))), len(names)))
        rows = {name: values[None] for name, values in columns.items()}
        derived = load_array(names, rows, self.experiment.derived_features())[0]
        given = given_features(names, self.experiment.derived_features())
        for k, name in enumerate(names):
            load[:, k] = columns[name] if name in given else derived[:, k]
        return load

    def errors_at(self, names: Sequence[str], observed: Array) -> Array:
        """Return the expected errors of some labels, 0 where the provenance of the model does not record them.

        Parameters
        ----------
        names : sequence of str
            Labels.
        observed : ndarray, shape (n_names, n_steps)
            Values of these labels in an experiment, in their units.

        Returns
        -------
        ndarray, shape (n_names,)
            RMSE on the test split, scaled by the magnitude of the label here over that in the training: stresses
            differ by a factor of a hundred between the experiments of one training, and the errors differ alike.
        """
        if not self.label_names or not self.mean or any(name not in self.label_errors for name in names):
            return np.zeros(len(names))
        columns = self.label_columns(names)
        mean, std = (np.asarray(values, "float64")[columns] for values in (self.mean, self.std))
        magnitude = np.sqrt((np.asarray(observed, "float64") ** 2).mean(axis=1) / (mean**2 + std**2))
        return np.array([self.label_errors[name] for name in names]) * magnitude

    def label_columns(self, names: Sequence[str]) -> list[int]:
        """Return the columns of some labels; a model without label names has the given ones in the given order.

        Raises
        ------
        ConfigError
            If the model has no such label.
        """
        known = self.label_names
        if not known and len(names) == self.n_labels:
            return list(range(self.n_labels))
        if not known:
            raise ConfigError(
                f"{self.folder}: does not tell the names of its {self.n_labels} labels; name all of them, in their "
                f"order ({len(names)} are named: {', '.join(names)})."
            )
        for name in names:
            if name not in known:
                raise ConfigError(f"{name}: the model has no such label; it has {', '.join(known)}.")
        return [known.index(name) for name in names]

    def parameter_order(self, sought: Sequence[str], given: Mapping[str, float]) -> list[str]:
        """Return the names of the model's parameters in its order, each of them sought or given.

        Raises
        ------
        ConfigError
            If a name is unknown or given twice, or one of the model's parameters is neither sought nor given.
        """
        known = self.param_names or [*sought, *given]
        for name in (*sought, *given):
            if name not in known:
                hint = did_you_mean(name, known, "", f"it has {', '.join(known)}.")
                raise ConfigError(f"{name}: the model has no such parameter; {hint}")
        twice = [name for name in sought if name in given]
        if twice:
            raise ConfigError(f"{', '.join(twice)}: is both sought and given as known; choose one of them.")
        missing = [name for name in known if name not in sought and name not in given]
        if missing:
            option = ""
            if "experiment_type" in missing:
                types = " or ".join(self.experiment.type_codes)
                option = f"; --experiment-type {types} gives experiment_type"
            raise ConfigError(
                f"{', '.join(missing)}: the model was trained with {', '.join(known)}; of these "
                f"{', '.join([*sought, *given]) or 'none'} are given. A range is needed for what is sought "
                "(--param NAME=MIN:MAX), a value for what is known (--known NAME=VALUE)"
                f"{option}."
            )
        if len(known) != self.n_params:
            raise ConfigError(
                f"{self.folder}: does not tell the names of its {self.n_params} parameters; name all of them, in "
                f"their order, what is sought first ({len(known)} are named: {', '.join(known)})."
            )
        return known

    def usual_range(self, label: str) -> Range | None:
        """Return the range of a label; where it is not known, four standard deviations around the mean of the label."""
        if label in self.label_ranges or label not in self.label_names or not self.mean:
            return self.label_ranges.get(label)
        column = self.label_names.index(label)
        return self.mean[column] - 4 * self.std[column], self.mean[column] + 4 * self.std[column]


def read_training_domain(folder: Path, stats: Mapping[str, Any], config: Mapping[str, Any]) -> TrainingDomain:
    """Return the training domain of a model, from its statistics, its provenance, and its data if these are there.

    Parameters
    ----------
    folder : Path
        Folder of the model.
    stats, config : mapping
        `train_stats` and configuration of the model.

    Raises
    ------
    ModelError
        If `provenance.json` is broken.
    """
    n_inputs, n_params, n_labels = (int(stats[name]) for name in ("num_input_features", "num_params", "num_labels"))
    pad_length = int(config.get("pad_length", 0))
    experiment = experiment_of(config)
    provenance = _provenance(layout.RunFolder(folder).provenance)
    scaling = label_scaling(stats)
    mean, std = ([], []) if scaling is None else (scaling.mean.tolist(), scaling.std.tolist())
    domain = TrainingDomain(
        folder,
        window_size=int(config["window_size"]),
        pad_length=pad_length,
        n_steps=max(0, int(stats.get("sequence_length", 0)) - pad_length),
        n_inputs=n_inputs,
        n_params=n_params,
        n_labels=n_labels,
        input_names=list(stats.get("input_names", [experiment.control] if n_inputs == 1 else [])),
        param_names=list(stats.get("param_names", [])),
        label_names=list(stats.get("label_names", [])),
        input_ranges=_ranges_of(provenance.load_features),
        param_ranges=_ranges_of(provenance.parameters),
        label_ranges=_ranges_of(provenance.labels),
        load_paths={
            column.name: LoadPath(column.start, column.step, column.reverses)
            for column in provenance.load_features
            if column.reverses is not None
        },
        label_errors={name: error.rmse for name, error in provenance.errors.get("test", {}).items()},
        mean=mean,
        std=std,
        experiment=experiment,
    )
    inputs_params_labels = _training_arrays(domain, stats, config)
    return domain if inputs_params_labels is None else _with_ranges_of(domain, *inputs_params_labels)


def list_extrapolations(ranges: Mapping[str, Range], training: Mapping[str, Range]) -> list[str]:
    """Return a line for each range that leaves the range of the training; a name without one is left out."""
    return [
        f"{name} in {low:.5g}..{high:.5g}, trained in {training[name][0]:.5g}..{training[name][1]:.5g}"
        for name, (low, high) in ranges.items()
        if name in training and _leaves(low, high, training[name])
    ]


def check_unit(where: str, name: str, values: Iterable[float], training: Range | None, unit: str) -> None:
    """Refuse values so far from the range of the training that they must be in another unit.

    Parameters
    ----------
    where : str
        File or option, for the message.
    name : str
        Name of the values.
    values : iterable of float
        Values.
    training : (float, float) or None
        Least and greatest value in the training; None if it is not known, and nothing is checked.
    unit : str
        Unit of the training; empty for none.

    Raises
    ------
    DataError
        If their median is ten times beyond the range of the training.
    """
    if training is None:
        return
    typical, (low, high) = float(np.median(np.abs(np.asarray(list(values))))), training
    largest, smallest = max(abs(low), abs(high)), min(abs(low), abs(high)) if low * high > 0 else 0.0
    if typical > _OTHER_UNIT * largest or typical < smallest / _OTHER_UNIT:
        usual = f"{low:.3g}..{high:.3g} {unit}".rstrip()
        needed = f"; {name} is needed in {unit}" if unit else ""
        raise DataError(
            f"{where}: {name} is about {typical:.3g}, but the model was trained with {name} in {usual}: it must be in "
            f"another unit{needed}."
        )


def _leaves(low: float, high: float, training: Range) -> bool:
    # A range that is rounded at its ends, such as the one of the sampling behind the data, is the same range.
    margin = 0.01 * (training[1] - training[0])
    return low < training[0] - margin or high > training[1] + margin


def _provenance(path: Path) -> Provenance:
    try:
        return read_provenance(path)
    except FileNotFoundError:
        return Provenance()
    except RecordError as error:
        raise ModelError(str(error)) from error


def _ranges_of(columns: Iterable[Column]) -> dict[str, Range]:
    """Return the known ranges by the names of the columns."""
    return {column.name: column.range for column in columns if column.range is not None}


def _training_arrays(
    domain: TrainingDomain, stats: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[Array, Array, Array] | None:
    """Return inputs, params and labels of the training split; None where the data are gone, changed or too large."""
    path = Path(str(config["raw_data"]))
    if "fingerprint" not in stats or not path.is_file():
        return None
    if path.stat().st_size > _LARGEST_FILE:
        logger.info("%s: is too large to be read for the steps of its load.", path)
        return None
    try:
        preprocessor = preprocessor_of_model(config)
        check_fingerprint(path, preprocessor.fingerprint(), stats["fingerprint"])
        sequences = preprocessor.all_sequences()
        seed = stats.get("split_seed", SPLIT_SEED)
        ids = split_ids(len(sequences), config["train_frac"], config["val_frac"], seed)
        return sequences.take(ids["train"]).arrays()
    except GlrnnError as error:
        logger.warning("%s: its training data are not used: %s", domain.folder, error)
        return None


def _with_ranges_of(domain: TrainingDomain, inputs: Array, params: Array, labels: Array) -> TrainingDomain:
    """Return a training domain with the ranges and load steps of the training split."""
    unpadded = inputs[:, domain.pad_length :]
    given, paths = domain.given_inputs, load_paths([unpadded])
    grid = {
        name: unpadded[0, :, column].tolist()
        for column, name in enumerate(domain.input_names)
        if name in given and is_one_path(unpadded[:, :, column])
    }
    return replace(
        domain,
        input_ranges=_ranges_by_name(domain.input_names, inputs),
        param_ranges=_ranges_by_name(domain.param_names, params),
        label_ranges=_ranges_by_name(domain.label_names, labels),
        grid=grid,
        load_paths={name: path for name, path in zip(domain.input_names, paths, strict=False) if name in given},
    )


def _ranges_by_name(names: Sequence[str], values: Array) -> dict[str, Range]:
    """Return the least and the greatest value of each column of the last axis."""
    columns = values.reshape(-1, values.shape[-1])
    extremes = zip(columns.min(axis=0).tolist(), columns.max(axis=0).tolist(), strict=True)
    return dict(zip(names, extremes, strict=True))
