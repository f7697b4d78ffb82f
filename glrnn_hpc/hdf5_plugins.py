"""Plugins of HDF5, by which it reads compressed data: the user's setting wins over TensorFlow's.

Importing TensorFlow sets HDF5_PLUGIN_PATH=disable and then starts HDF5, which reads the variable once, when it starts.
A user's plugins would serve `glrnn inspect`, which needs no TensorFlow, and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_VARIABLE = "HDF5_PLUGIN_PATH"


# No subclass of importlib.abc.MetaPathFinder: with it come tempfile and random, before the current folder, where a user
# may have a random.py, is off the path.
class _TensorflowFinder:
    """Finder of TensorFlow alone: h5py starts HDF5 before it, and the variable is afterwards what it was."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname == "tensorflow" else None
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        load = loader.exec_module

        def load_after_hdf5(module: ModuleType) -> None:
            given = os.environ.get(_VARIABLE)
            import h5py  # noqa: F401 - HDF5 reads the variable now

            try:
                load(module)
            finally:
                # For the processes that this one starts.
                os.environ.pop(_VARIABLE, None)
                if given is not None:
                    os.environ[_VARIABLE] = given

        loader.exec_module = load_after_hdf5
        return spec


def keep_setting() -> None:
    """Let HDF5 start before TensorFlow is imported, where that has not happened yet. Imports neither of them."""
    if not any(isinstance(finder, _TensorflowFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TensorflowFinder())
