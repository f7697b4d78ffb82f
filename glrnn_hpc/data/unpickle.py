"""Unpickler for object arrays in .npy files: the list of what they may contain; nothing in them is run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from glrnn_hpc.errors import DataError, MissingFile

#: All that a pickle of NumPy arrays, numbers and plain containers needs; numpy 2 calls numpy.core numpy._core.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("builtins", "set"),
}

# NumPy does not annotate the functions of this module.
_format: Any = np.lib.format


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return super().find_class(module, name)


def load_npy(path: str | Path) -> Any:
    """Load a .npy file; an object array is read by an unpickler that knows NumPy arrays and plain containers only.

    Returns
    -------
    object
        The array.

    Raises
    ------
    DataError
        If the file is missing, cut off, no .npy file, or holds anything else.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            version = _format.read_magic(file)
            read_header = _format.read_array_header_1_0 if version == (1, 0) else _format.read_array_header_2_0
            shape, _, dtype = read_header(file)
            if not dtype.hasobject:
                file.seek(0)
                return np.load(file, allow_pickle=False)
            loaded = _Unpickler(file).load()
            return np.asarray(loaded, dtype=object).reshape(shape)
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: there is no such file.") from error
    except Exception as error:  # a broken pickle can raise nearly anything
        raise DataError(f"{path}: cannot be read: {error or type(error).__name__}.") from error
