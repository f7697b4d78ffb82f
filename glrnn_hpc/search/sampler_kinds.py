"""Kinds of samplers of method bayes, and the packages that each needs beside Optuna."""

# Apart from `samplers`, as reading a sweep file needs no Optuna, whose import takes a second.

from __future__ import annotations

from importlib.util import find_spec

from glrnn_hpc.errors import ConfigError

_PACKAGES = {"tpe": (), "gp": ("scipy", "torch"), "cmaes": ("cmaes",)}


def check_sampler(kind: str) -> None:
    """Check that a sampler of method bayes can be used here.

    Raises
    ------
    ConfigError
        If there is none of that name, or a package that it needs is missing.
    """
    if kind not in _PACKAGES:
        raise ConfigError(f"sampler: {kind!r} is not one of {', '.join(_PACKAGES)}.")
    missing = [package for package in _PACKAGES[kind] if find_spec(package) is None]
    if missing:
        raise ConfigError(f"sampler: {kind} needs {' and '.join(missing)}: `pip install {' '.join(missing)}`.")
