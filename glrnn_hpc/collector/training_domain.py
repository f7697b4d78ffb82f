"""What is known of the training of a model: its columns, their ranges, its load steps, its errors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.config import SPLIT_SEED, nearest
from glrnn_hpc.errors import ConfigError, DataError, GlrnnError, ModelError, RecordError
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.splits import split_ids

logger = logging.getLogger(__name__)

Array = NDArray[Any]
Range = tuple[float, float]

#: What the preprocessor appends to the contact parameters.
EXPERIMENT_TYPES = {"drained": 1.0, "undrained": 0.0}

#: The load feature of a model with one, where its files do not name it.
_ONE_INPUT = "e_z"

#: Load sequences that differ by less, in parts of their range, are the same.
_SAME_LOAD = 1e-6

#: Data larger than that [bytes] are not read only to see their load steps.
_LARGEST_FILE = 2**28

#: A value this many times beyond the range of the training is taken for one in another unit.
_OTHER_UNIT = 10.0


@dataclass(frozen=True)
class Trained:
    """What a model was trained with.

    Attributes
    ----------
    folder : Path
        Of the model.
    window_size, pad_length, n_steps : int
        Steps; `n_steps` those of a sequence without padding, 0 where that is not known.
    n_inputs, n_params, n_labels : int
        Columns.
    input_names, param_names, label_names : list of str
        In the order of the training. Empty where the files of the model do not tell them.
    input_ranges, param_ranges, label_ranges : dict of str to (float, float)
        Least and greatest value in the training split, by name; only those that are known.
    grid : dict of str to list of float
        Load features that are the same in every training sequence, by name; only where the training data are there.
    label_errors : dict of str to float
        RMSE on the test split in original units; only where the model's provenance tells it.
    mean, std : list of float
        Of the labels; empty where they are not known.
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
    label_errors: dict[str, float] = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The first step of a load sequence that is answered: `window_size`, or 0 for a padded model."""
        return self.window_size - self.pad_length

    def errors_at(self, names: Sequence[str], observed: Array) -> Array:
        """Return the errors to expect of some labels, 0 where the model's provenance does not tell them.

        Parameters
        ----------
        names : sequence of str
            Of the labels.
        observed : ndarray, shape (n_names, n_steps)
            Their values in an experiment.

        Returns
        -------
        ndarray, shape (n_names,)
            RMSE on the test split, in proportion to the magnitude of the label here and in the training: stresses
            differ by a hundred times between the experiments that a model stands for, and its errors with them.
        """
        if not self.label_names or not self.mean or any(name not in self.label_errors for name in names):
            return np.zeros(len(names))
        columns = self.columns(names)
        mean, std = (np.asarray(values, "float64")[columns] for values in (self.mean, self.std))
        magnitude = np.sqrt((np.asarray(observed, "float64") ** 2).mean(axis=1) / (mean**2 + std**2))
        return np.array([self.label_errors[name] for name in names]) * magnitude

    def columns(self, names: Sequence[str]) -> list[int]:
        """Return the places of some labels; a model that does not tell its labels has those that are asked for.

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

    def order(self, sought: Sequence[str], given: Mapping[str, float]) -> list[str]:
        """Return the names of the model's parameters in its order, each of them sought or given.

        Raises
        ------
        ConfigError
            If a name is unknown or given twice, or one of the model's parameters is neither sought nor given.
        """
        known = self.param_names or [*sought, *given]
        for name in (*sought, *given):
            if name not in known:
                guess = nearest(name, known)
                hint = f"did you mean {guess}?" if guess else f"it has {', '.join(known)}."
                raise ConfigError(f"{name}: the model has no such parameter; {hint}")
        twice = [name for name in sought if name in given]
        if twice:
            raise ConfigError(f"{', '.join(twice)}: is both sought and given as known; choose one of them.")
        missing = [name for name in known if name not in sought and name not in given]
        if missing:
            raise ConfigError(
                f"{', '.join(missing)}: the model was trained with {', '.join(known)}; of these "
                f"{', '.join([*sought, *given]) or 'none'} are given. A range is needed for what is sought "
                "(--param NAME=MIN:MAX), a value for what is known (--known NAME=VALUE)."
            )
        if len(known) != self.n_params:
            raise ConfigError(
                f"{self.folder}: does not tell the names of its {self.n_params} parameters; name all of them, in "
                f"their order, what is sought first ({len(known)} are named: {', '.join(known)})."
            )
        return known

    def usual_range(self, label: str) -> Range | None:
        """Return the range of a label, or where only these are known four standard deviations around its mean."""
        if label in self.label_ranges or label not in self.label_names or not self.mean:
            return self.label_ranges.get(label)
        column = self.label_names.index(label)
        return self.mean[column] - 4 * self.std[column], self.mean[column] + 4 * self.std[column]


def describe(folder: Path, stats: Mapping[str, Any], config: Mapping[str, Any]) -> Trained:
    """Return what is known of a model's training: from its statistics, its provenance, and its data if they are there.

    Raises
    ------
    ModelError
        If `provenance.json` is broken.
    """
    n_inputs, n_params, n_labels = (int(stats[name]) for name in ("num_input_features", "num_params", "num_labels"))
    pad_length = int(config.get("pad_length", 0))
    told = _provenance(layout.RunFolder(folder).provenance)
    mean, std = (np.asarray(stats.get(key, []), "float64").tolist() for key in ("mean", "std"))
    bare = Trained(
        folder,
        window_size=int(config["window_size"]),
        pad_length=pad_length,
        n_steps=max(0, int(stats.get("sequence_length", 0)) - pad_length),
        n_inputs=n_inputs,
        n_params=n_params,
        n_labels=n_labels,
        input_names=list(stats.get("input_names", [_ONE_INPUT] if n_inputs == 1 else [])),
        param_names=list(stats.get("param_names", [])),
        label_names=list(stats.get("label_names", [])),
        mean=mean,
        std=std,
    )
    try:
        bare = replace(bare, label_errors=_test_errors(told))
        ranges = _from_provenance(told)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        path = layout.RunFolder(folder).provenance
        raise ModelError(f"{path}: is broken: {error!r}; `glrnn collect` writes it anew.") from error
    found = {**ranges, **_from_data(bare, stats, config)}
    return replace(
        bare,
        input_ranges=found.get("load_features", {}),
        param_ranges=found.get("parameters", {}),
        label_ranges=found.get("labels", {}),
        grid=found.get("grid", {}),
    )


def outside(ranges: Mapping[str, Range], trained: Mapping[str, Range]) -> list[str]:
    """Say which ranges leave those of the training, which is not known for all names."""
    return [
        f"{name} in {low:.5g}..{high:.5g}, trained in {trained[name][0]:.5g}..{trained[name][1]:.5g}"
        for name, (low, high) in ranges.items()
        if name in trained and (low < trained[name][0] - _margin(trained[name]) or high > _upper(trained[name]))
    ]


def check_unit(where: str, name: str, values: Iterable[float], trained: Range | None, unit: str) -> None:
    """Refuse values so far from those of the training that they must be in another unit.

    Raises
    ------
    DataError
        If their median is ten times beyond the range of the training.
    """
    if trained is None:
        return
    typical, (low, high) = float(np.median(np.abs(np.asarray(list(values))))), trained
    largest, smallest = max(abs(low), abs(high)), min(abs(low), abs(high)) if low * high > 0 else 0.0
    if typical > _OTHER_UNIT * largest or typical < smallest / _OTHER_UNIT:
        usual = f"{low:.3g}..{high:.3g} {unit}".rstrip()
        needed = f"; {name} is needed in {unit}" if unit else ""
        raise DataError(
            f"{where}: {name} is about {typical:.3g}, but the model was trained with {name} in {usual}: it must be in "
            f"another unit{needed}."
        )


def _margin(trained: Range) -> float:
    # A range that is rounded at its ends, as that of the sampling which made the data, is no other range.
    return 0.01 * (trained[1] - trained[0])


def _upper(trained: Range) -> float:
    return trained[1] + _margin(trained)


def _provenance(path: Path) -> dict[str, Any]:
    try:
        return layout.read_record(path)
    except FileNotFoundError:
        return {}
    except RecordError as error:
        raise ModelError(str(error)) from error


def _from_provenance(told: Mapping[str, Any]) -> dict[str, dict[str, Range]]:
    """Return the ranges of the training, where an export tells them."""
    return {
        kind: {
            row["name"]: (float(row["min"]), float(row["max"]))
            for row in told.get(kind, [])
            if row.get("min") is not None and row.get("max") is not None
        }
        for kind in ("parameters", "load_features", "labels")
    }


def _test_errors(told: Mapping[str, Any]) -> dict[str, float]:
    """Return the RMSE of each label on the test split, where an export tells it."""
    return {name: float(row["rmse"]) for name, row in told.get("errors", {}).get("test", {}).items()}


def _from_data(trained: Trained, stats: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return ranges and load steps of the data that a model was trained on, where they are there and still the same."""
    path = Path(str(config["raw_data"]))
    if "fingerprint" not in stats or not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST_FILE:
        logger.info("%s: is too large to be read for the steps of its load.", path)
        return {}
    try:
        preprocessor = PreprocessorTriaxialCompression(**config)
        if preprocessor.fingerprint() != stats["fingerprint"]:
            raise DataError(f"{path}: holds other sequences than the model was trained on.")
        sequences = preprocessor.all_sequences()
        seed = stats.get("split_seed", SPLIT_SEED)
        fractions = config["train_frac"], config["val_frac"]
        sequences = sequences.take(split_ids(len(sequences), *fractions, seed)["train"])
    except GlrnnError as error:
        logger.warning("%s: its training data tell nothing: %s", trained.folder, error)
        return {}
    inputs, params, labels = sequences.arrays()
    found: dict[str, Any] = {
        kind: dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
        for kind, names, values in (
            ("parameters", trained.param_names, params),
            ("load_features", trained.input_names, inputs),
            ("labels", trained.label_names, labels),
        )
        for flat in [values.reshape(-1, values.shape[-1])]
        for low, high in [(flat.min(axis=0), flat.max(axis=0))]
    }
    is_same = np.ptp(inputs, axis=0).max(axis=0) <= _SAME_LOAD * np.ptp(inputs, axis=(0, 1))
    found["grid"] = {
        name: inputs[0, trained.pad_length :, column].tolist()
        for column, name in enumerate(trained.input_names)
        if is_same[column]
    }
    return found
