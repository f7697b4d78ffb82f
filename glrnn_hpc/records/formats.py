"""Records of an export with a number of their format: refused if a later version wrote them, or if they are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from glrnn_hpc.errors import RecordError

RecordT = TypeVar("RecordT", bound=BaseModel)


def validated(model: type[RecordT], content: dict[str, Any], path: Path, newest: int, otherwise: str) -> RecordT:
    """Return the content of a record as its model.

    Parameters
    ----------
    model : type
        Of the record.
    content : dict
        What the file holds.
    path : Path
        The file, for messages.
    newest : int
        Latest format that is read.
    otherwise : str
        What to do if it cannot be read, for the end of a sentence.

    Raises
    ------
    RecordError
        If it is broken, or has a later format.
    """
    if isinstance(content.get("format"), int) and content["format"] > newest:
        raise RecordError(
            f"{path}: has format {content['format']}, this version reads formats up to {newest}; install a later "
            f"version of glrnn_hpc, or {otherwise}."
        )
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "content"
        raise RecordError(f"{path}: is broken: {key}: {first['msg']}; {otherwise}.") from error
