"""Suggestion of the nearest known name for one that is unknown."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection

from glrnn_hpc.errors import ConfigError


def nearest(name: str, names: Collection[str]) -> str | None:
    """Return the most similar of `names`, None if none is similar."""
    matches = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
    return matches[0] if matches else None


def did_you_mean(name: object, names: Collection[str], before: str = " ", otherwise: str = "") -> str:
    """Return the question `did you mean ...?` for the end of a message.

    Parameters
    ----------
    name : object
        What was given.
    names : collection of str
        What is known.
    before : str
        Text in front of the question.
    otherwise : str
        What is returned if no known name is similar.
    """
    guess = nearest(str(name), names)
    return f"{before}did you mean {guess}?" if guess else otherwise


def unknown_key(path: str, names: Collection[str]) -> ConfigError:
    """Return the error for the last part of a key path, with the nearest of `names`, or all of them."""
    hint = did_you_mean(path.rpartition(".")[2], names, "", f"known keys: {', '.join(sorted(names))}.")
    return ConfigError(f"{path}: unknown key; {hint}")


def warn_of_unknown_key(path: str, names: Collection[str]) -> None:
    """Warn that a key is ignored, as GrainLearning does; the nearest of `names` is named."""
    warnings.warn(f"{unknown_key(path, names)} It is ignored.", UserWarning, stacklevel=3)
