"""The experiment to calibrate against: read its table, bring it to the steps of the model, complete its load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.collector.training_domain import TrainingDomain, check_unit
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.base import Experiment, UnderivableInputs
from glrnn_hpc.experiments.triaxial import TRIAXIAL

Array = NDArray[Any]

#: Beyond the steps of the model by this part of one, the last step of an observation still counts as reached.
_ROUNDING = 1e-3

#: What differs by less, in parts of the largest value, is the same.
_SAME = 1e-6

#: Negative values up to this part of the largest one of the observation are noise around 0.
_NOT_NEGATIVE = 0.1

#: A strain that no compression reaches is one in percent.
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
        Its values.
    load : ndarray, shape (T, n_inputs)
        The whole load sequence, in the order of the model's inputs.
    names : tuple of str
        The labels that are compared.
    values : ndarray, shape (T, n_names)
        What was measured, in the model's units.
    e0 : float or None
        The void ratio at the first step, where it was measured.
    e_range : float or None
        Greatest minus least void ratio, where it was measured: 0 if no water can drain.
    resampling : str
        How the rows of the file became the steps of the model.
    notes : tuple of str
        What was derived or left out, in sentences.
    experiment : Experiment
        Of the model: units and words for figures.
    """

    path: Path
    control: str
    steps: Array
    load: Array
    names: tuple[str, ...]
    values: Array
    e0: float | None
    e_range: float | None
    resampling: str
    notes: tuple[str, ...]
    experiment: Experiment = TRIAXIAL


def read_table(path: Path) -> dict[str, Array]:
    """Read a table of numbers whose first line names the columns.

    Names and numbers are separated by white space, commas or semicolons; a ``#`` may precede the names, as in the
    files of GrainLearning, and begins a comment elsewhere.

    Raises
    ------
    DataError
        If the file cannot be read, names no columns or one twice, has rows of other lengths, or holds something that
        is no finite number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the observation cannot be read as text: {error}") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip(" \t\r#,;")]
    if not lines:
        raise DataError(f"{path}: is empty; a table with the names of its columns in the first line is needed.")
    names = _words(lines[0][1].lstrip("# \t"))
    if all(_is_number(name) for name in names):
        raise DataError(
            f"{path}: the first line must name the columns, such as `# e_z e p q`; it is `{lines[0][1][:60]}`."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: has more than one column {', '.join(twice)}.")
    rows = [
        (number, _words(line.partition("#")[0], len(names))) for number, line in lines[1:] if not line.startswith("#")
    ]
    table = np.full((len(rows), len(names)), np.nan)
    for row, (number, words) in enumerate(rows):
        if len(words) != len(names):
            raise DataError(
                f"{path}: line {number} has {len(words)} values, the first line names {len(names)} columns "
                f"({', '.join(names)})."
            )
        for column, word in enumerate(words):
            if not _is_number(word) or not np.isfinite(float(word)):
                hint = "write decimal points" if "," in word else "complete the row or leave it out"
                raise DataError(
                    f"{path}: line {number}, column {names[column]}: {word or 'an empty field'} is not a finite "
                    f"number; {hint}."
                )
            table[row, column] = float(word)
    return {name: table[:, column] for column, name in enumerate(names)}


def observe(
    path: Path,
    trained: TrainingDomain,
    observed: Sequence[str] | None = None,
    control: str | None = None,
    experiment_type: float | None = None,
) -> Observation:
    """Read an observation and bring it to the load steps that a model was trained with.

    Parameters
    ----------
    path : Path
        A table as `read_table` takes it: the controlled strain and labels of the model, in its units.
    trained : TrainingDomain
        Of the model.
    observed : sequence of str, optional
        The labels to compare; all that the table has by default.
    control : str, optional
        The column with the strain that the steps follow; ``e_z`` by default, or the model's only load feature.
    experiment_type : float, optional
        1 drained, 0 undrained: how lateral strains that the table does not have can be derived.

    Returns
    -------
    Observation

    Raises
    ------
    ConfigError
        If `observed` or `control` is not one of the columns or of the model's.
    DataError
        If the table has too few rows, values in other units, or not the load features of the model.
    """
    table = read_table(path)
    n_rows = len(next(iter(table.values())))
    if n_rows <= trained.first:
        raise DataError(
            f"{path}: has {n_rows} rows, fewer than the model looks at once: more than "
            f"{trained.first} are needed (window_size={trained.window_size})."
        )
    usual_control = trained.experiment.control
    inputs = trained.input_names or [control or usual_control]
    control = control or (usual_control if usual_control in inputs else inputs[-1])
    notes: list[str] = []
    names, constant = _observed(path, table, trained, observed, control, notes)
    # The void ratio tells e0 and lateral strains, whether it is compared or not.
    _check_units(path, table, [*names, *constant, "e"], control, trained)
    columns = {name: table[name] for name in table if name in (control, *inputs, *names, "e")}
    columns, resampling = _resampled(path, columns, control, trained, notes)
    load = _complete_load(path, columns, inputs, control, trained.experiment, experiment_type, notes)
    if len(load) <= trained.first:
        raise DataError(
            f"{path}: reaches {control}={columns[control][-1]:.4g}, which are {len(load)} steps of the model, fewer "
            f"than it looks at once: more than {trained.first} are needed (window_size={trained.window_size})."
        )
    values = np.column_stack([columns[name] for name in names])
    void_ratio = columns.get("e")
    e0, e_range = (None, None) if void_ratio is None else (float(void_ratio[0]), float(np.ptp(void_ratio)))
    return Observation(
        path,
        control,
        columns[control],
        load,
        tuple(names),
        values,
        e0,
        e_range,
        resampling,
        tuple(notes),
        trained.experiment,
    )


def _words(line: str, n: int = 0) -> list[str]:
    """Split at semicolons or commas where there are any, else at white space; `n` columns are expected."""
    for delimiter in (";", ","):
        if delimiter in line:
            # Some programs write names in quotes.
            words = [word.strip(' \t"') for word in line.split(delimiter)]
            while len(words) > n and not words[-1]:  # a delimiter at the end of a line
                words.pop()
            return words
    return [word.strip('"') for word in line.split()]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _observed(
    path: Path,
    table: Mapping[str, Array],
    trained: TrainingDomain,
    observed: Sequence[str] | None,
    control: str,
    notes: list[str],
) -> tuple[list[str], list[str]]:
    """Return the labels that are compared, and those that tell nothing because they are the same in every row."""
    if control not in table:
        raise DataError(
            f"{path}: has no column {control}, the strain that the steps follow; it has {', '.join(table)}. "
            "Name another one (--ctrl)."
        )
    if trained.input_names and control not in trained.input_names:
        raise ConfigError(
            f"{control}: is no load feature of the model, whose steps could follow it (--ctrl); it has "
            f"{', '.join(trained.input_names)}."
        )
    known = trained.label_names or [name for name in table if name != control]
    names = [name for name in known if name in table] if observed is None else list(dict.fromkeys(observed))
    if not names:
        raise DataError(f"{path}: has none of the model's labels {', '.join(known)}; it has {', '.join(table)}.")
    absent = [name for name in names if name not in table]
    if absent:
        raise DataError(f"{path}: has no column {', '.join(absent)}; it has {', '.join(table)}.")
    trained.label_columns(names)
    constant = [name for name in names if np.ptp(table[name]) <= _SAME * np.abs(table[name]).max()]
    if constant and (observed is not None or len(constant) == len(names)):
        raise ConfigError(
            f"{path}: {', '.join(constant)} is the same in every row and tells nothing; leave it out (--observe)."
        )
    if constant:
        notes.append(f"{', '.join(constant)} is the same in every row and is not compared.")
    return [name for name in names if name not in constant], constant


def _check_units(
    path: Path, table: Mapping[str, Array], names: Sequence[str], control: str, trained: TrainingDomain
) -> None:
    for name in (name for name in dict.fromkeys(names) if name in table):
        usual = trained.usual_range(name)
        check_unit(str(path), name, table[name], usual, trained.experiment.units().get(name, "[-]"))
        _check_sign(path, name, table[name], usual)
    for name in dict.fromkeys((control, *trained.input_names)):
        usual = trained.input_ranges.get(name)
        largest = _LARGEST_STRAIN if usual is None else 10 * max(abs(value) for value in usual)
        found = float(np.abs(table[name]).max()) if name in table else 0.0
        if found > largest:
            beside = "" if usual is None else f"but the model was trained in {usual[0]:.4g}..{usual[1]:.4g}: "
            raise DataError(
                f"{path}: {name} reaches {found:.4g}, {beside}strains are needed without a unit, 0.05 for 5 %."
            )


def _check_sign(path: Path, name: str, values: Array, usual: tuple[float, float] | None) -> None:
    """Refuse negative values of a label that never is: tension counted positive, or a mistake."""
    if usual is None or usual[0] < -_SAME * usual[1]:
        return
    if (least := float(values.min())) < -_NOT_NEGATIVE * float(np.abs(values).max()):
        raise DataError(
            f"{path}: {name} goes down to {least:.4g}, but the model was trained with {name} in "
            f"{usual[0]:.4g}..{usual[1]:.4g}; compression is counted positive: change the sign, or leave it out "
            "(--observe)."
        )


def _resampled(
    path: Path, columns: dict[str, Array], control: str, trained: TrainingDomain, notes: list[str]
) -> tuple[dict[str, Array], str]:
    """Bring all columns to the steps of the training along the controlled strain."""
    given = columns[control]
    grid = _grid(trained, control, notes)
    if grid is None:
        notes.append(f"The load steps of the training are not known: those of the observation are taken for {control}.")
        return columns, "none: the observation's own steps"
    step = np.abs(np.diff(grid)).max()
    if len(given) <= len(grid) and np.abs(given - grid[: len(given)]).max() <= _ROUNDING * step:
        return columns, "none: the observation has the steps of the training"
    for name, values in (("the observation", given), ("the training", grid)):
        falling = np.flatnonzero(np.diff(values) <= 0)
        if len(falling):
            raise DataError(
                f"{path}: must be resampled to the steps of the training ({len(grid)} to {control}={grid[-1]:.4g}), "
                f"but {control} of {name} does not increase after row {falling[0] + 1}; give an observation at the "
                "very steps of the training."
            )
    if given[0] > grid[0] + step:
        raise DataError(
            f"{path}: begins at {control}={given[0]:.4g}; the model needs the load from {grid[0]:.4g} on. Is the "
            "first part of the experiment missing?"
        )
    if given[0] > grid[0] + _ROUNDING * step:
        notes.append(f"The first row, at {control}={given[0]:.4g}, stands for the beginning at {grid[0]:.4g}.")
    kept = grid[grid <= given[-1] + _ROUNDING * step]
    if len(kept) < len(grid):
        notes.append(
            f"The observation ends at {control}={given[-1]:.4g}: {len(kept)} of the training's {len(grid)} steps."
        )
    elif given[-1] > grid[-1] + step:
        notes.append(f"What was observed beyond {control}={grid[-1]:.4g}, where the training ends, is left out.")
    resampled = {name: np.interp(kept, given, values) for name, values in columns.items()}
    resampled[control] = kept
    how = f"linear interpolation along {control}, from {len(given)} rows to {len(kept)} steps of the training"
    return resampled, how


def _grid(trained: TrainingDomain, control: str, notes: list[str]) -> Array | None:
    """Return the steps of the training; even ones between their ends where only these are known."""
    if control in trained.grid:
        return np.asarray(trained.grid[control], "float64")
    n_steps = trained.n_steps
    if control not in trained.input_ranges or n_steps < 2 or trained.n_inputs != len(trained.input_names):
        return None
    low, high = trained.input_ranges[control]
    notes.append(
        f"The steps of the training are taken to be even: {n_steps} from {control}={low + 0:.4g} to {high:.4g}."
    )
    return np.linspace(low, high, n_steps)


def _complete_load(
    path: Path,
    columns: dict[str, Array],
    inputs: Sequence[str],
    control: str,
    experiment: Experiment,
    experiment_type: float | None,
    notes: list[str],
) -> Array:
    """Return the load features of the model; lateral strains are derived where that is possible."""
    missing = [name for name in inputs if name not in columns]
    if not missing:
        return np.column_stack([columns[name] for name in inputs])
    try:
        derived = experiment.derive_inputs(columns, missing, control, experiment_type)
    except UnderivableInputs as reason:
        raise DataError(
            f"{path}: the model needs the load features {', '.join(inputs)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing: {reason}. The columns are {', '.join(columns)}."
        ) from reason
    notes.append(derived.note)
    complete = {**columns, **derived.columns}
    return np.column_stack([complete[name] for name in inputs])
