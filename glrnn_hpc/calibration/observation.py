"""Observation of a calibration: an experiment at the load steps of a model, with its complete load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.calibration.observation_table import column_of, read_table, with_names
from glrnn_hpc.calibration.resampling import resample
from glrnn_hpc.collector.training_domain import Range, TrainingDomain, check_unit
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.base import UnderivableInputs

Array = NDArray[Any]

#: Values that differ by less, in parts of the largest one, are the same.
_VALUE_TOLERANCE = 1e-6

#: Negative values up to this part of the largest one of the observation are noise around 0.
_NEGATIVE_NOISE = 0.1

#: A larger strain cannot be one without a unit; it is in percent.
_LARGEST_STRAIN = 2.0


@dataclass(frozen=True)
class Observation:
    """An experiment at the load steps of a model.

    Attributes
    ----------
    path : Path
        The file.
    control : str
        Name of the load feature that the steps follow.
    steps : ndarray, shape (T,)
        Values of the control.
    load : ndarray, shape (T, n_inputs)
        The whole load sequence, in the order of the model's inputs.
    load_names : tuple of str
        Names of its columns.
    labels : tuple of str
        Names of the compared labels.
    values : ndarray, shape (T, n_labels)
        Measured values of these labels, in the model's units.
    first_values : dict of str to float
        Values at the first step, of the labels and of the experiment's state, such as the void ratio.
    spans : dict of str to float
        Greatest minus least value of each of these.
    resampling : str
        How the rows of the file became the steps of the model.
    notes : tuple of str
        Sentences about what was derived, assumed or left out.
    """

    path: Path
    control: str
    steps: Array
    load: Array
    load_names: tuple[str, ...]
    labels: tuple[str, ...]
    values: Array
    first_values: dict[str, float]
    spans: dict[str, float]
    resampling: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Labels:
    """Labels of the observation: those that are compared, and those that are the same in every row."""

    compared: list[str]
    constant: list[str]
    notes: list[str]


def read_observation(
    path: Path,
    domain: TrainingDomain,
    labels: Sequence[str] | None = None,
    control: str | None = None,
    type_code: float | None = None,
) -> Observation:
    """Read an observation and bring it to the load steps that a model was trained with.

    Parameters
    ----------
    path : Path
        A table as `read_table` takes it: the controlled strain and labels of the model, in its units.
    domain : TrainingDomain
        Columns, ranges and load steps of the model's training.
    labels : sequence of str, optional
        The labels to compare; all that the table has by default. ``NAME=COLUMN`` where the column has another name.
    control : str, optional
        The load feature that the steps follow; by default that of the experiment, such as ``e_z``. ``NAME=COLUMN``
        where its column has another name.
    type_code : float, optional
        Number of the experiment type, such as 1 for drained. It decides how the experiment derives load features that
        the table does not have.

    Returns
    -------
    Observation

    Raises
    ------
    ConfigError
        If `labels` or `control` does not name columns of the table and of the model.
    DataError
        If the table has too few rows, values in other units, or not the load features of the model.
    """
    columns_of_file = dict(column_of(text, "--observe") for text in labels or ())
    names = None if labels is None else list(columns_of_file)
    if control is not None:
        control, column = column_of(control, "--ctrl")
        columns_of_file[control] = column
    table = with_names(path, read_table(path), columns_of_file)
    n_rows = len(next(iter(table.values())))
    if n_rows <= domain.first:
        raise DataError(
            f"{path}: has {n_rows} rows, fewer than the model looks at once: more than "
            f"{domain.first} are needed (window_size={domain.window_size})."
        )
    usual_control = domain.experiment.control
    inputs = domain.given_inputs or [control or usual_control]
    control = control or (usual_control if usual_control in inputs else inputs[-1])
    chosen = _choose_labels(path, table, domain, names, control)
    # They are checked even if they are not compared: parameters and load features are derived from them.
    state = domain.experiment.state_outputs
    _check_units(path, table, [*chosen.compared, *chosen.constant, *state], domain)
    _check_strains(path, table, control, domain)
    columns = {name: table[name] for name in table if name in (control, *inputs, *chosen.compared, *state)}
    resampled = resample(path, columns, control, domain)
    columns = resampled.columns
    load, load_notes = _complete_load(path, columns, inputs, control, domain, type_code)
    if len(load) <= domain.first:
        raise DataError(
            f"{path}: reaches {control}={columns[control][-1]:.4g}, which are {len(load)} steps of the model, fewer "
            f"than it looks at once: more than {domain.first} are needed (window_size={domain.window_size})."
        )
    measured = {name: values for name, values in columns.items() if name in (*chosen.compared, *state)}
    return Observation(
        path=path,
        control=control,
        steps=columns[control],
        load=load,
        load_names=tuple(inputs),
        labels=tuple(chosen.compared),
        values=np.column_stack([columns[name] for name in chosen.compared]),
        first_values={name: float(values[0]) for name, values in measured.items()},
        spans={name: float(np.ptp(values)) for name, values in measured.items()},
        resampling=resampled.method,
        notes=(*chosen.notes, *resampled.notes, *load_notes, *_derivation_notes(domain)),
    )


def _derivation_notes(domain: TrainingDomain) -> list[str]:
    """Return a sentence for each group of load features that the experiment derives from others."""
    return [
        f"The load features {features.name} of the model are derived from {', '.join(features.needs)} at these steps."
        for features in domain.experiment.derived_features()
        if set(features.names()) & set(domain.input_names)
    ]


def _choose_labels(
    path: Path, table: Mapping[str, Array], domain: TrainingDomain, labels: Sequence[str] | None, control: str
) -> _Labels:
    if control not in table:
        raise DataError(
            f"{path}: has no column {control}, the strain that the steps follow; it has {', '.join(table)}. "
            f"Name another one, or the column that it is: --ctrl {control}=COLUMN."
        )
    if domain.input_names and control not in domain.given_inputs:
        raise ConfigError(
            f"{control}: is no load feature of the model, whose steps could follow it (--ctrl); it has "
            f"{', '.join(domain.given_inputs)}."
        )
    known = domain.label_names or [name for name in table if name != control]
    names = [name for name in known if name in table] if labels is None else list(dict.fromkeys(labels))
    if not names:
        raise DataError(f"{path}: has none of the model's labels {', '.join(known)}; it has {', '.join(table)}.")
    absent = [name for name in names if name not in table]
    if absent:
        raise DataError(f"{path}: has no column {', '.join(absent)}; it has {', '.join(table)}.")
    domain.label_columns(names)  # refuses a name that is no label of the model
    constant = [name for name in names if np.ptp(table[name]) <= _VALUE_TOLERANCE * np.abs(table[name]).max()]
    if constant and (labels is not None or len(constant) == len(names)):
        raise ConfigError(
            f"{path}: {', '.join(constant)} is the same in every row and tells nothing; leave it out (--observe)."
        )
    notes = [f"{', '.join(constant)} is the same in every row and is not compared."] if constant else []
    return _Labels([name for name in names if name not in constant], constant, notes)


def _check_units(path: Path, table: Mapping[str, Array], labels: Sequence[str], domain: TrainingDomain) -> None:
    for name in (name for name in dict.fromkeys(labels) if name in table):
        usual = domain.usual_range(name)
        check_unit(str(path), name, table[name], usual, domain.experiment.units().get(name, "[-]"))
        _check_sign(path, name, table[name], usual)


def _check_sign(path: Path, name: str, values: Array, usual: Range | None) -> None:
    """Refuse negative values of a label that had none in the training: tension was counted positive."""
    if usual is None or usual[0] < -_VALUE_TOLERANCE * usual[1]:
        return
    if (least := float(values.min())) < -_NEGATIVE_NOISE * float(np.abs(values).max()):
        raise DataError(
            f"{path}: {name} goes down to {least:.4g}, but the model was trained with {name} in "
            f"{usual[0]:.4g}..{usual[1]:.4g}; compression is counted positive: change the sign, or leave it out "
            "(--observe)."
        )


def _check_strains(path: Path, table: Mapping[str, Array], control: str, domain: TrainingDomain) -> None:
    """Refuse load features in percent."""
    for name in (name for name in dict.fromkeys((control, *domain.given_inputs)) if name in table):
        usual = domain.input_ranges.get(name)
        limit = _LARGEST_STRAIN if usual is None else 10 * max(abs(value) for value in usual)
        largest = float(np.abs(table[name]).max())
        if largest > limit:
            training = "" if usual is None else f"but the model was trained in {usual[0]:.4g}..{usual[1]:.4g}: "
            raise DataError(
                f"{path}: {name} reaches {largest:.4g}, {training}strains are needed without a unit, 0.05 for 5 %."
            )


def _complete_load(
    path: Path,
    columns: dict[str, Array],
    inputs: Sequence[str],
    control: str,
    domain: TrainingDomain,
    type_code: float | None,
) -> tuple[Array, list[str]]:
    """Return the load features of the model, derived by the experiment where they are missing; and notes."""
    missing = [name for name in inputs if name not in columns]
    if not missing:
        return domain.complete_load(columns, domain.input_names or inputs), []
    try:
        derived = domain.experiment.derive_inputs(columns, missing, control, type_code)
    except UnderivableInputs as reason:
        raise DataError(
            f"{path}: the model needs the load features {', '.join(inputs)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: {reason}. The columns are {', '.join(columns)}."
        ) from reason
    complete = {**columns, **derived.columns}
    return domain.complete_load(complete, domain.input_names or inputs), [derived.note]
