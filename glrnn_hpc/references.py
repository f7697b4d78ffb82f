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
        Folder whose modules are found after all others; by default the current folder.
    form, example : str
        What a reference looks like here, for the messages.

    Returns
    -------
    object
        The class or function; the caller checks what it can do.

    Raises
    ------
    ConfigError
        If `reference` has another form, its module cannot be imported, or does not define the name; or if a library, or
        a module that was imported before, has the name of a module in the folder.
    """
    module_name, colon, name = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    if not (module_name and colon and name):
        raise ConfigError(f"{where}: {form} is needed, such as {example}; {reference!r} was given.")
    folder = str(Path.cwd() if directory is None else directory)
    try:
        with _last_on_path(folder):
            module = importlib.import_module(module_name)
    except Exception as error:  # any, as it is the user's code that runs
        _check_not_hidden(module_name, folder, where)
        raise ConfigError(
            f"{where}: {module_name} cannot be imported from {folder}: {type(error).__name__}: {error}"
        ) from error
    _check_not_hidden(module_name, folder, where)
    try:
        return getattr(module, name)
    except AttributeError:
        raise ConfigError(f"{where}: {module_name} has no {name}.") from None


def _check_not_hidden(module_name: str, folder: str, where: str) -> None:
    """Refuse a module of the folder whose name another one has, as that one was imported.

    Raises
    ------
    ConfigError
        If it is so.
    """
    name = module_name.partition(".")[0]
    if name == __package__:  # the built-in parts; the folder may be a clone of the repository
        return
    candidates = (Path(folder, f"{name}.py"), Path(folder, name, "__init__.py"))
    own = next((path for path in candidates if path.is_file()), None)
    if own is None or name not in sys.modules:
        return
    imported = getattr(sys.modules[name], "__file__", None)
    if imported is not None and Path(imported).exists() and own.samefile(imported):
        return
    other = f"is {imported} here" if imported else "is built into Python"
    raise ConfigError(
        f"{where}: {name} {other}, and {own} is never taken in place of another module; rename your file, such as "
        f"my_{name}.py, or start another process if you changed the folder."
    )


@contextmanager
def _last_on_path(folder: str) -> Iterator[None]:
    """Let Python find modules in `folder` after all others; where the import fails, the path is as it was."""
    if folder in sys.path:
        yield
        return
    # Last, where it hides no library; and it stays there: the user's code may import its neighbours later, or in
    # processes that it starts.
    sys.path.append(folder)
    # Files of an earlier sweep may have been written since Python last listed the folder.
    importlib.invalidate_caches()
    try:
        yield
    except BaseException:
        if folder in sys.path:  # the user's code may have removed it
            sys.path.remove(folder)
        raise
