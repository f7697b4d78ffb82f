"""Validation of keys: types that refuse what pydantic would let through, and errors that name the key path."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from glrnn_hpc.config.suggestions import unknown_key
from glrnn_hpc.errors import ConfigError

logger = logging.getLogger(__name__)

#: Keys of GrainLearning's older versions, with the one value that they always have here.
ALWAYS = {"use_windows": True, "conditional": True}


def not_a_bool(value: Any) -> Any:
    """Refuse `true` and `yes` where a number is needed, which pydantic takes for 1."""
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return value


Count = Annotated[int, BeforeValidator(not_a_bool), Field(ge=1)]
Seed = Annotated[int, BeforeValidator(not_a_bool), Field(ge=0, lt=2**32)]
Fraction = Annotated[float, BeforeValidator(not_a_bool), Field(gt=0, lt=1)]
Positive = Annotated[float, BeforeValidator(not_a_bool), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(not_a_bool), Field(ge=0, allow_inf_nan=False)]
Decay = Annotated[float, BeforeValidator(not_a_bool), Field(ge=0, lt=1)]
FilePath = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value)]


def _as_usual(value: Any) -> Any:
    """Return a choice of groups in its usual spelling: `All`, `drained`, `undrained`."""
    usual = {"all": "All", "drained": "drained", "undrained": "undrained"}
    return usual.get(value.casefold(), value) if isinstance(value, str) else value


def _not_empty(value: Any) -> Any:
    """Refuse an empty list in words of its own, before a union says what each of its types would be."""
    if isinstance(value, list | tuple) and not value:
        raise ValueError("All, a name, or a list of at least one name is needed")
    return value


def _names(value: Any) -> Any:
    """Return a list of names; one name alone is a list of one."""
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("a list of at least one name is needed")
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"{twice[0]} is named twice")
    return names


def _exact(value: Any) -> Any:
    """Return true, false, or a list of names."""
    if isinstance(value, bool):
        return value
    try:
        return _names(value)
    except ValueError as error:
        raise ValueError(f"true, false, or names of labels; {error}") from error


NameList = Annotated[list[str], BeforeValidator(_names)]
ExactChoice = Annotated[bool | list[str], BeforeValidator(_exact)]
GroupName = Annotated[str | float, BeforeValidator(_as_usual), BeforeValidator(not_a_bool)]
TypeName = Annotated[str, BeforeValidator(_as_usual)]
GroupChoice = Annotated[GroupName | list[GroupName], BeforeValidator(_not_empty)]
TypeChoice = Annotated[TypeName | list[TypeName], BeforeValidator(_not_empty)]


class Keys(BaseModel):
    """Keys of a YAML file with their types and defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def as_dict(self) -> dict[str, Any]:
        """Return a plain dict; optional Adam arguments that were not given are left out."""
        return self.model_dump(exclude_none=True)


ConfigT = TypeVar("ConfigT", bound=Keys)


def without_always(raw: Mapping[str, Any], where: str = "config") -> dict[str, Any]:
    """Leave out the keys of GrainLearning's older versions that ask for what is always done here.

    Raises
    ------
    ConfigError
        If one of them asks for something else.
    """
    for key, value in ALWAYS.items():
        if key in raw and raw[key] != value:
            raise ConfigError(
                f"{where}.{key}: {raw[key]!r} was given; the network takes windows and starts from the parameters "
                f"always, which is {key}={value}. Leave the key out."
            )
        if key in raw:
            logger.info("%s.%s: is always so, and ignored", where, key)
    return {key: value for key, value in raw.items() if key not in ALWAYS}


def refuse_none_as_text(value: object, where: str = "") -> None:
    """Check that no value is the text None.

    Parameters
    ----------
    value : object
        Content of a YAML file, or a part of it.
    where : str
        Its key path.

    Raises
    ------
    ConfigError
        If one is.
    """
    if value == "None":
        raise ConfigError(f"{where}: the text None was given, which is no value of YAML; write null, or leave it out.")
    children = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        refuse_none_as_text(child, f"{where}.{key}".removeprefix("."))


def parse(model: type[ConfigT], raw: Mapping[str, Any], where: str = "config") -> ConfigT:
    """Validate `raw` against `model`.

    Raises
    ------
    ConfigError
        If a key is unknown (the nearest one is named), missing, or its value is not allowed.
    """
    raw = without_always(raw, where)
    refuse_none_as_text(raw, where)
    for key in raw:
        if key not in model.model_fields:
            raise unknown_key(f"{where}.{key}", model.model_fields)
    for key, value in raw.items():
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f"{where}.{key}: {value} is not a number that can be used.")
    try:
        config = model.model_validate(dict(raw))
    except ValidationError as error:
        raise ConfigError(describe(error, where)) from error
    return config


def log_defaults(config: Keys, given: Collection[str], where: str = "config") -> None:
    """Log the defaults that fill what was not given."""
    values = {name: value for name, value in config.as_dict().items() if name not in given}
    if values:
        logger.info("%s: defaults are used for %s", where, ", ".join(f"{key}={value}" for key, value in values.items()))


def describe(error: ValidationError, where: str) -> str:
    """Return the text of a pydantic error, one line per key path."""
    lines = []
    for item in error.errors():
        # After the key come indices, and pydantic's names of the types of a union, such as `str` and `list[str]`.
        path = ".".join([where, *map(str, item["loc"][:1]), *(str(n) for n in item["loc"][1:] if isinstance(n, int))])
        if item["type"] == "missing":
            lines.append(f"{path}: this key is required.")
            continue
        message = item["msg"].removeprefix("Value error, ")
        given = "" if isinstance(item["input"], dict) else f" ({item['input']!r} was given)"
        lines.append(f"{path}: {message}{given}.")
    return "\n".join(dict.fromkeys(lines))
