"""Unpickler for object arrays in .npy files: the list of what they may contain; nothing in them is run."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from glrnn_hpc.errors import DataError, MissingFile

# NumPy does not annotate all that is used of these.
_format: Any = np.lib.format
_dtype: Any = np.dtype
_masked: Any = np.ma.MaskedArray

#: To call one of these, with any arguments, makes an object of Python's own and does no more.
_PLAIN = {
    "builtins": ("set", "frozenset", "bytearray", "range", "complex"),
    "collections": ("OrderedDict", "defaultdict", "deque", "Counter"),
    "array": ("array", "_array_reconstructor"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "datetime": ("date", "time", "datetime", "timedelta", "timezone"),
}
#: Factories of a defaultdict.
_FACTORIES = ("list", "dict", "tuple", "int", "float", "str", "bool", "bytes")

#: Names of NumPy's classes, which a pickle gives to the functions below: it shall not call them, as
#: numpy.ndarray(shape, object, buffer) takes bytes of the file for addresses in memory.
_CLASSES = {"ndarray", "matrix", "recarray", "record", "MaskedArray"}

#: Python 2 wrote its own modules and NumPy's older versions by these names, and NumPy 2 by others.
_MODULES = {"__builtin__": "builtins", "numpy._core": "numpy.core"}


class _Array(np.ndarray[Any, Any]):
    """An array that takes its type from the file only after a look at it."""

    def __setstate__(self, state: Any) -> None:
        *version, shape, dtype, is_fortran, data = state
        super().__setstate__((*version, shape, _checked(dtype), is_fortran, data))


class _MaskedArray(np.ma.MaskedArray[Any, Any]):
    """The same for an array with a mask."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, *others = state
        _masked.__setstate__(self, (version, shape, _checked(dtype), *others))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        for written, today in _MODULES.items():
            if module == written or module.startswith(f"{written}."):
                module = today + module[len(written) :]
        if (module, name) == ("builtins", "xrange"):
            name = "range"
        if name in _PLAIN.get(module, ()) or (module == "builtins" and name in _FACTORIES):
            return super().find_class(module, name)
        if module.partition(".")[0] == "numpy" and name in _CLASSES:
            return name
        if (module, name) not in _FUNCTIONS:
            raise pickle.UnpicklingError(
                f"it holds a {module}.{name}, which is not allowed: only arrays, numbers, text, times and Python's own "
                "containers are read. Save it as one of these, such as by numpy.asarray() or dict()"
            )
        return _FUNCTIONS[module, name]


def load_npy(path: str | Path) -> Any:
    """Load a .npy file; an object array is read by an unpickler that knows what only holds data.

    That is NumPy's arrays (masked ones too), numbers, text, times and Python's own containers, of Python 2 or 3.

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
            # Python 2 wrote its text, and the bytes of its arrays, as strings of bytes.
            loaded = _Unpickler(file, encoding="latin1").load()
            return np.asarray(loaded, dtype=object).reshape(shape)
    except FileNotFoundError as error:
        raise MissingFile(f"{path}: there is no such file.") from error
    except Exception as error:  # a broken pickle can raise nearly anything
        raise DataError(f"{path}: cannot be read: {error or type(error).__name__}.") from error


def _checked(dtype: Any) -> np.dtype[Any]:
    """Return a type made anew from its name: the flags of the one in a file may say that its objects are none."""
    if dtype.kind == "V":
        raise pickle.UnpicklingError("it holds a record array; save its fields as arrays of their own, in a dict")
    return np.dtype(dtype.str)


def _make_dtype(name: str, *flags: Any) -> Any:
    return _dtype("V" if name in _CLASSES else name, *map(bool, flags))


def _make_array(*_: Any) -> _Array:
    return _Array.__new__(_Array, (0,), "b")


def _make_masked_array(*_: Any) -> Any:
    return _masked.__new__(_MaskedArray, np.empty(0, "b"), mask=np.empty(0, "?"))


def _make_scalar(dtype: Any, data: Any) -> Any:
    checked = _checked(dtype)
    if checked.hasobject:
        return data
    return np.frombuffer(_encode(data, "latin1") if isinstance(data, str) else data, checked, 1)[0]


def _make_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    return np.frombuffer(data, _checked(dtype)).reshape(shape, order=order)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds text in {encoding}, which no pickle of data does")
    return text.encode("latin1")


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _make_dtype,
    ("numpy.core.multiarray", "_reconstruct"): _make_array,
    ("numpy.core.multiarray", "scalar"): _make_scalar,
    ("numpy.core.numeric", "_frombuffer"): _make_from_buffer,
    ("numpy.ma.core", "_mareconstruct"): _make_masked_array,
    ("_codecs", "encode"): _encode,
}
