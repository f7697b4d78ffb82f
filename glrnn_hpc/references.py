"""References to a user's own code: `module:name`, imported from a folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glrnn_hpc.errors import ConfigError


def import_reference(
    reference: object,
    where: str,
    *,
    directory: str | Path | None = None,
    form: str = "module:Class",
    example: str = "my_data:MyPreprocessor",
) -> object:
    """Import the module of a reference and return what it names.

    Parameters
    ----------
    reference : str
        Module, which may be a dotted name, and the name of a class or a function in it: `my_data:MyPreprocessor`.
    where : str
        Key path or option for the messages.
    directory : path, optional
        Folder whose modules are found before all others; by default the current folder.
    form, example : str
        What a reference looks like here, for the messages.

    Returns
    -------
    object
        The class or function; the caller checks what it can do.

    Raises
    ------
    ConfigError
        If `reference` has another form, its module cannot be imported, or the module does not define the name.
    """
    module_name, colon, name = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    if not (module_name and colon and name):
        raise ConfigError(f"{where}: {form} is needed, such as {example}; {reference!r} was given.")
    folder = str(Path.cwd() if directory is None else directory)
    try:
        with _first_on_path(folder):
            module = importlib.import_module(module_name)
    except Exception as error:  # any, as it is the user's code that runs
        raise ConfigError(
            f"{where}: {module_name} cannot be imported from {folder}: {type(error).__name__}: {error}"
        ) from error
    try:
        return getattr(module, name)
    except AttributeError:
        raise ConfigError(f"{where}: {module_name} has no {name}.") from None


@contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    """Let Python find modules in `folder` before all others, and after all others from then on."""
    if folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    # Files of an earlier sweep may have been written since Python last listed the folder.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:  # the user's code may have removed it
            sys.path.remove(folder)
    # Last, where it hides no other module: the user's code may import its neighbours later, or in processes it starts.
    sys.path.append(folder)
