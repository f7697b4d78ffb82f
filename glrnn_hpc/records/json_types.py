"""JSON at the edge of the records: its types, the version of a record, and checked access to keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from glrnn_hpc.errors import RecordError

JsonValue: TypeAlias = "str | int | float | bool | None | list[JsonValue] | dict[str, JsonValue]"

#: Content of a JSON file before it is checked; only records read its keys.
JsonObject: TypeAlias = dict[str, Any]

#: Value of a parameter of a sweep, in the units of the configuration.
ParameterValue: TypeAlias = "str | int | float | bool | None | list[ParameterValue]"

#: Values of the searched parameters of a trial by their names.
Point: TypeAlias = dict[str, ParameterValue]

#: Version of the form in which the records are written. Raise it when a reader must tell the forms apart.
VERSION = "0.2.0"

#: Version of records that hold no `version`.
FIRST_VERSION = "0.1.0"


def version_of(content: JsonObject) -> str:
    """Return the version of the form of a record."""
    return str(content.get("version", FIRST_VERSION))


def without_missing(content: Mapping[str, Any]) -> JsonObject:
    """Return a mapping without the keys that hold None: a key that does not apply is not written."""
    return {key: value for key, value in content.items() if value is not None}


def number_at(path: Path, content: JsonObject, key: str) -> float:
    """Return a finite number of a record.

    Raises
    ------
    RecordError
        If the key holds anything else.
    """
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordError(f"{path}: is broken: {key} must be a finite number, it is {value!r}.")
    return float(value)


def integer_at(path: Path, content: JsonObject, key: str) -> int:
    """Return a whole number of a record.

    Raises
    ------
    RecordError
        If the key holds anything else.
    """
    value = content[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(f"{path}: is broken: {key} must be a whole number, it is {value!r}.")
    return value


def mapping_at(path: Path, content: JsonObject, key: str) -> JsonObject:
    """Return a mapping of a record.

    Raises
    ------
    RecordError
        If the key holds anything else.
    """
    value = content[key]
    if not isinstance(value, dict):
        raise RecordError(f"{path}: is broken: {key} must be a mapping, it is {value!r}.")
    return value
