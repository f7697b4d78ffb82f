"""Unpickler for object arrays in .npy files: the list of what they may contain; nothing in them is run."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from glrnn_hpc.errors import DataError, MissingFile

# NumPy does not annotate all that is used of these.
_format: Any = np.lib.format
_masked: Any = np.ma.MaskedArray

#: To call one of these, with any arguments, makes an object of Python's own and does no more. They are written in C: a
#: pickle, which can give any object attributes, cannot change them.
_PLAIN = {
    "builtins": ("set", "frozenset", "complex"),
    "collections": ("OrderedDict", "defaultdict", "deque"),
    "array": ("array", "_array_reconstructor"),
    "decimal": ("Decimal",),
    "datetime": ("date", "time", "datetime", "timedelta", "timezone"),
}
#: Factories of a defaultdict.
_FACTORIES = ("list", "dict", "tuple", "int", "float", "str", "bool", "bytes")

#: A range takes a few bytes of a file, and fills the memory when a container is made of it.
_MOST_NUMBERS = 10**7

#: Names of NumPy's classes, which a pickle gives to the functions below: it shall not call them, as
#: numpy.ndarray(shape, object, buffer) takes bytes of the file for addresses in memory.
_CLASSES = {"ndarray", "matrix", "recarray", "record", "MaskedArray"}

#: Python 2 wrote its own modules and NumPy's older versions by these names, and NumPy 2 by others.
_MODULES = {"__builtin__": "builtins", "numpy._core": "numpy.core"}


class _Function:
    """A function that a pickle may call, and not change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it gives attributes to a function or a class, which no pickle of data does")


class _Type:
    """A type as a file tells of it, by name, byte order and unit of time.

    NumPy's own takes any state from a file: flags that deny that its objects are objects, or what ends the process.
    """

    __slots__ = ("name", "order", "unit")

    def __init__(self, name: str) -> None:
        self.name, self.order, self.unit = name, "|", ""

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]
        if len(state) > 8 and self.name[0] in "mM":
            unit, number, *_ = state[8][1]
            unit = unit if isinstance(unit, str) else unit.decode()
            self.unit = "" if unit == "generic" else f"[{number}{unit}]"


class _Array(np.ndarray[Any, Any]):
    """An array that takes its type from the file only after a look at it."""

    def __setstate__(self, state: Any) -> None:
        *version, shape, dtype, is_fortran, data = state
        super().__setstate__((*version, shape, _checked(dtype, shape, data), is_fortran, data))


class _MaskedArray(np.ma.MaskedArray[Any, Any]):
    """The same for an array with a mask."""

    def __setstate__(self, state: Any) -> None:
        version, shape, dtype, is_fortran, data, *others = state
        _masked.__setstate__(self, (version, shape, _checked(dtype, shape, data), is_fortran, data, *others))


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


def _checked(dtype: Any, shape: Sequence[int] = (), data: Any = None) -> np.dtype[Any]:
    """Return NumPy's type for one that a file tells of, and for the content of an array if there is one."""
    if not isinstance(dtype, _Type):  # such as a container with attributes of the same names
        raise pickle.UnpicklingError(f"it gives a {type(dtype).__name__} as the type of an array")
    made = np.dtype(f"{dtype.order}{dtype.name}{dtype.unit}")
    if made.kind == "V":
        raise pickle.UnpicklingError("it holds a record array; save its fields as arrays of their own, in a dict")
    # NumPy looks for an object in each place, without a look at their number.
    if made.hasobject and isinstance(data, list) and len(data) != math.prod(shape):
        raise pickle.UnpicklingError(f"it holds {len(data)} objects in an array of shape {tuple(shape)}")
    return made


def _make_type(name: Any, *_: Any) -> _Type:
    return _Type("V" if name in _CLASSES else name)


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
    # A view, as the state of NumPy's own class is set without a look at the type.
    return np.frombuffer(data, _checked(dtype)).reshape(shape, order=order).view(_Array)


def _make_range(*bounds: Any) -> range:
    made = range(*bounds)
    if len(made) > _MOST_NUMBERS:
        raise pickle.UnpicklingError(f"it holds a range of {len(made)} numbers; at most {_MOST_NUMBERS} are read")
    return made


def _make_bytearray(content: Any = b"", encoding: str = "latin1") -> bytearray:
    # A number would be taken for a size.
    return bytearray(_encode(content, encoding.replace("-", "")) if isinstance(content, str) else memoryview(content))


def _make_fraction(*parts: Any) -> Fraction:
    # Not by its own parser of text: that of "1e999999999" would not end.
    return Fraction(*map(int, parts[0].split("/") if isinstance(parts[0], str) else parts))


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds text in {encoding}, which no pickle of data does")
    return text.encode("latin1")


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Function(_make_type),
    ("numpy.core.multiarray", "_reconstruct"): _Function(_make_array),
    ("numpy.core.multiarray", "scalar"): _Function(_make_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Function(_make_from_buffer),
    ("numpy.ma.core", "_mareconstruct"): _Function(_make_masked_array),
    ("_codecs", "encode"): _Function(_encode),
    ("builtins", "range"): _Function(_make_range),
    ("builtins", "bytearray"): _Function(_make_bytearray),
    ("collections", "Counter"): _Function(Counter),
    ("fractions", "Fraction"): _Function(_make_fraction),
}
