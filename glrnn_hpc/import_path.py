"""Import path of Python without the current folder, where files of the user's would take the place of libraries.

`python -m` puts the current folder first: an `optuna.py` or a `queue.py` that lies there would be run as the library.
"""

from __future__ import annotations

# Nothing that Python has not loaded at its start: it would come from the current folder.
import os
import sys

#: Program that does what `python -m MODULE ARGUMENTS` does, without the current folder; for every version of Python, as
#: the option -P came with 3.11. Until runpy is imported it uses nothing that Python has not loaded at its start.
_PROGRAM = (
    "import os, sys; "
    'here = {"", "."} & {*os.environ.get("PYTHONPATH", "-").split(os.pathsep)} and os.getcwd(); '
    'sys.path[:] = [each for each in sys.path if each not in ("", here)]; '
    "import runpy; "
    'at = sys.argv.index("-m"); module = sys.argv[at + 1]; del sys.argv[1 : at + 2]; '
    'runpy.run_module(module, run_name="__main__", alter_sys=True)'
)


def module_command(module: str) -> list[str]:
    """Return the command that runs a module with this Python; what is appended are its arguments."""
    # With -P, processes that multiprocessing starts there leave the folder out, too.
    safe_path = ["-P"] if hasattr(sys.flags, "safe_path") else []
    return [sys.executable, *safe_path, "-c", _PROGRAM, "-m", module]


def without_current_folder(python: str) -> str:
    """Return a shell's command of Python to which `-m MODULE ARGUMENTS` is appended."""
    import shlex

    return f"{python} -u -c {shlex.quote(_PROGRAM)}"


def leave_out_current_folder() -> None:
    """Take the current folder off this process's path, if `python -m` or an empty part of PYTHONPATH put it there."""
    try:
        folder = os.getcwd()  # noqa: PTH109 - pathlib is one of the libraries whose place a file may take
    except FileNotFoundError:  # it was removed
        return
    here, named = ("", folder), os.environ.get("PYTHONPATH", "-").split(os.pathsep)
    if not getattr(sys.flags, "safe_path", False) and sys.path[:1] and sys.path[0] in here:
        # One that PYTHONPATH names stays: what `python -m` put before it is a second one.
        if folder not in named or sys.path.count(folder) > 1:
            del sys.path[0]
    if {"", "."} & {*named}:
        sys.path[:] = [each for each in sys.path if each not in here]
