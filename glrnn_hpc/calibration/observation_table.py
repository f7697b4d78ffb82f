"""Table of an experiment: columns of numbers in a text file, named in its first line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.errors import ConfigError, DataError

Array = NDArray[Any]


def read_table(path: Path) -> dict[str, Array]:
    """Read a table of numbers whose first line names the columns.

    Names and numbers are separated by white space, commas or semicolons; a ``#`` may precede the names, as in the
    files of GrainLearning, and begins a comment elsewhere.

    Returns
    -------
    dict of str to ndarray, shape (n_rows,)
        The columns by name, in the order of the file.

    Raises
    ------
    DataError
        If the file cannot be read, the first line names no columns or one of them twice, a row has another number of
        values, or a value is not a finite number.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the observation cannot be read as text: {error}") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip(" \t\r#,;")]
    if not lines:
        raise DataError(f"{path}: is empty; a table with the names of its columns in the first line is needed.")
    names = _fields(lines[0][1].lstrip("# \t"))
    if all(_is_number(name) for name in names):
        raise DataError(
            f"{path}: the first line must name the columns, such as `# e_z e p q`; it is `{lines[0][1][:60]}`."
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: has more than one column {', '.join(repeated)}.")
    rows = [
        (number, _fields(line.partition("#")[0], len(names))) for number, line in lines[1:] if not line.startswith("#")
    ]
    table = np.full((len(rows), len(names)), np.nan)
    for row, (number, fields) in enumerate(rows):
        if len(fields) != len(names):
            raise DataError(
                f"{path}: line {number} has {len(fields)} values, the first line names {len(names)} columns "
                f"({', '.join(names)})."
            )
        for column, field in enumerate(fields):
            if not _is_number(field) or not np.isfinite(float(field)):
                hint = "write decimal points" if "," in field else "complete the row or leave it out"
                raise DataError(
                    f"{path}: line {number}, column {names[column]}: {field or 'an empty field'} is not a finite "
                    f"number; {hint}."
                )
            table[row, column] = float(field)
    return {name: table[:, column] for column, name in enumerate(names)}


def _fields(line: str, n: int = 0) -> list[str]:
    """Split a line at semicolons or commas if it has any, else at white space; `n` columns are expected."""
    for delimiter in (";", ","):
        if delimiter in line:
            # Some programs write names in quotes.
            fields = [field.strip(' \t"') for field in line.split(delimiter)]
            while len(fields) > n and not fields[-1]:  # a delimiter at the end of a line
                fields.pop()
            return fields
    return [field.strip('"') for field in line.split()]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def column_of(text: str, option: str) -> tuple[str, str]:
    """Return the name in the model and the column of the table that ``NAME`` or ``NAME=COLUMN`` means.

    Raises
    ------
    ConfigError
        If one of them is empty.
    """
    name, equals, column = (part.strip() for part in text.partition("="))
    if not name or (equals and not column):
        raise ConfigError(f"{option} {text}: NAME or NAME=COLUMN is needed, such as e_z=epsilon_axial.")
    return name, column or name


def with_names(path: Path, table: Mapping[str, Array], columns: Mapping[str, str]) -> dict[str, Array]:
    """Return a table whose columns have the names of the model.

    Parameters
    ----------
    path : Path
        The file, for messages.
    table : mapping of str to ndarray
        Its columns.
    columns : mapping of str to str
        Columns of the file by their names in the model.

    Raises
    ------
    DataError
        If the table has no such column.
    ConfigError
        If a column is to have two names, or the name of another one.
    """
    renamed = {column: name for name, column in columns.items() if name != column}
    for name, column in columns.items():
        if name == column:
            continue
        if column not in table:
            raise DataError(f"{path}: has no column {column} to be {name}; it has {', '.join(table)}.")
        if renamed[column] != name:
            raise ConfigError(f"{path}: column {column} cannot be both {name} and {renamed[column]}; give it one name.")
        if name in table and name not in renamed:
            raise ConfigError(f"{path}: has a column {name}; {column} cannot be {name} too (--ctrl, --observe).")
    return {renamed.get(column, column): values for column, values in table.items()}
