"""Raw files are read without running what is in them."""

from __future__ import annotations

import array
import datetime
import os
import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc.data import unpickle
from glrnn_hpc.data.unpickle import load_npy
from glrnn_hpc.errors import DataError

RAW = Path(__file__).parents[2] / "data" / "raw"


class _Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def _object_npy(path: Path, pickled: bytes, shape: tuple[int, ...] = (2,)) -> Path:
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
        file.write(pickled)
    return path


def test_a_payload_that_calls_os_system_is_refused_and_does_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    content = np.array([{"E": _Payload(f"touch {proof}")}, {}], dtype=object)
    np.save(tmp_path / "evil.npy", content)
    with pytest.raises(DataError, match=r"evil\.npy.*system, which is not allowed"):
        load_npy(tmp_path / "evil.npy")
    assert not proof.exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__"])
def test_builtins_that_run_code_are_refused(tmp_path: Path, name: str) -> None:
    path = _object_npy(tmp_path / "evil.npy", f"cbuiltins\n{name}\n.".encode())
    with pytest.raises(DataError, match=rf"builtins\.{name}"):
        load_npy(path)


@pytest.mark.parametrize("core", ["core", "_core"])
def test_pickles_of_either_numpy_are_read(tmp_path: Path, core: str) -> None:
    content = np.array([{"a": np.float64(1.5)}, {"b": np.arange(3)}], dtype=object)
    # Protocol 0 writes module names as lines of text, so that they can be exchanged.
    pickled = pickle.dumps(content, protocol=0)
    for written in (b"numpy._core.", b"numpy.core."):
        pickled = pickled.replace(b"c" + written, f"cnumpy.{core}.".encode())
    loaded = load_npy(_object_npy(tmp_path / "raw.npy", pickled))
    assert loaded[0]["a"] == 1.5
    np.testing.assert_array_equal(loaded[1]["b"], [0, 1, 2])


@pytest.mark.parametrize("protocol", [3, 4])
def test_plain_containers_and_numpy_values_are_read(tmp_path: Path, protocol: int) -> None:
    first = OrderedDict(E=8.5, mode="drained", num=np.int64(250), names={"x", "y"}, raw=b"\x00\xff")
    content = np.array([first, {"e_x": [0.0, 0.1], "p": np.ones(2, dtype="float32")}], dtype=object)
    loaded = load_npy(_object_npy(tmp_path / "raw.npy", pickle.dumps(content, protocol=protocol)))
    assert loaded.shape == (2,)
    assert loaded[0] == first
    np.testing.assert_array_equal(loaded[1]["p"], [1.0, 1.0])


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        defaultdict(list, p=[1.0]),
        defaultdict(float, p=1.0),
        deque([0.5, 1.5], maxlen=3),
        Counter("aab"),
        frozenset({1, 2}),
        bytearray(b"\x00\xff"),
        range(3, 9, 2),
        array.array("d", [0.5, 1.5]),
        1.5 + 2j,
        Decimal("0.1"),
        Fraction(1, 3),
        datetime.datetime(2020, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
        datetime.timedelta(seconds=5),
        np.float32(0.1),
        np.str_("drained"),
        np.datetime64("2020-01-02"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_all_that_only_holds_data_is_read(tmp_path: Path, value: Any, protocol: int) -> None:
    content = np.array([{"value": value}, {}], dtype=object)
    loaded = load_npy(_object_npy(tmp_path / "raw.npy", pickle.dumps(content, protocol=protocol)))
    assert loaded[0]["value"] == value
    assert type(loaded[0]["value"]) is type(value)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.array([[1, 2], [3, 4]], order="F", dtype=">i4"),
        np.array(["drained", "ö"]),
        np.array([b"a", b"bc"]),
        np.array([{"a": 1}, None], dtype=object),
        np.array([], dtype="float32"),
        np.array(["2026-01-01T10"], dtype=">M8[6h]"),
        np.array([5], dtype="m8"),
    ],
)
def test_arrays_of_any_kind_are_read(tmp_path: Path, value: Any, protocol: int) -> None:
    content = np.array([{"value": value}, {}], dtype=object)
    loaded = load_npy(_object_npy(tmp_path / "raw.npy", pickle.dumps(content, protocol=protocol)))[0]["value"]
    np.testing.assert_array_equal(loaded, np.asarray(value))
    assert (loaded.dtype.kind, loaded.dtype.itemsize) == (value.dtype.kind, value.dtype.itemsize)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_masked_array_keeps_its_mask(tmp_path: Path, protocol: int) -> None:
    content = np.array([{"value": np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])}, {}], dtype=object)
    loaded = load_npy(_object_npy(tmp_path / "raw.npy", pickle.dumps(content, protocol=protocol)))[0]["value"]
    assert loaded.tolist() == [1.0, None, 3.0]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", [np.rec.array, np.asarray], ids=["recarray", "structured"])
def test_a_record_array_is_named(tmp_path: Path, kind: Any, protocol: int) -> None:
    value = kind(np.array([(1.0, 2)], dtype=[("e", "f8"), ("p", "i4")]))
    pickled = pickle.dumps(np.array([{"value": value}, {}], dtype=object), protocol=protocol)
    with pytest.raises(DataError, match="it holds a record array; save its fields"):
        load_npy(_object_npy(tmp_path / "raw.npy", pickled))


def test_what_is_no_data_is_named_with_what_is(tmp_path: Path) -> None:
    np.save(tmp_path / "raw.npy", np.array([{"value": Path("x")}, {}], dtype=object))
    with pytest.raises(DataError, match=r"it holds a pathlib\.\w*Path, which is not allowed: only arrays, numbers"):
        load_npy(tmp_path / "raw.npy")


def _array_of_python_2(dtype: str, flags: int, order: str, content: str) -> str:
    """Return what Python 2 wrote for an array of two values, with protocol 0: its text and bytes are strings."""
    made = "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    of_type = f"cnumpy\ndtype\n(S'{dtype}'\nI0\nI1\ntR(I3\nS'{order}'\nNNNI-1\nI-1\nI{flags}\ntb"
    return f"{made}(I1\n(I2\nt{of_type}I00\n{content}tb"


def test_a_file_of_python_2_is_read(tmp_path: Path) -> None:
    values = np.array([0.1, -2.5])
    numbers = _array_of_python_2("f8", 0, "<", f"S{repr(values.tobytes())[1:]}\n")
    first = "(dS'mode'\nS'drained'\nsS'num'\nL250L\nsS'set'\nc__builtin__\nset\n((lI1\natRs"
    first += "S'steps'\nc__builtin__\nxrange\n(I3\ntRs"
    both = _array_of_python_2("O8", 63, "|", f"(l{first}a(dS'p'\n{numbers}sa")
    loaded = load_npy(_object_npy(tmp_path / "raw.npy", f"{both}.".encode("ascii")))
    assert loaded[0] == {"mode": "drained", "num": 250, "set": {1}, "steps": range(3)}
    np.testing.assert_array_equal(loaded[1]["p"], values)


def test_bytes_of_a_file_are_never_taken_for_objects(tmp_path: Path) -> None:
    call = b"cnumpy\nndarray\n((I1\ntS'O'\nS'\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntR."
    with pytest.raises(DataError, match="cannot be read"):
        load_npy(_object_npy(tmp_path / "evil.npy", call, (1,)))
    # A type of objects whose flags deny it, and the bytes of addresses.
    pickled = _array_of_python_2("O8", 0, "|", "S'1234567812345678'\n")
    with pytest.raises(DataError, match="cannot be read"):
        load_npy(_object_npy(tmp_path / "evil.npy", f"{pickled}.".encode("ascii")))


def test_no_state_of_a_type_ends_the_process(tmp_path: Path) -> None:
    of_type = b"cnumpy\ndtype\n(S'O'\nI0\nI1\ntR(I3\n(I1\ntI255\nNI3\nI-1\nI-1\nI63\nS'M8'\ntb"
    pickled = b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I1\nt" + of_type + b"I00\nS'12345678'\ntb."
    with pytest.raises(DataError, match="cannot be read"):
        load_npy(_object_npy(tmp_path / "evil.npy", pickled, ()))


def test_an_array_with_fewer_objects_than_places_is_refused(tmp_path: Path) -> None:
    pickled = _array_of_python_2("O8", 63, "|", "(lp0\nI1\na")
    with pytest.raises(DataError, match=r"holds 1 objects in an array of shape \(2,\)"):
        load_npy(_object_npy(tmp_path / "evil.npy", f"{pickled}.".encode("ascii")))


_OBJECTS_BY_FLAG = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"


@pytest.mark.parametrize(
    ("made", "dtype"),
    [
        # Something else with the attributes of a type.
        (
            b"cnumpy.core.multiarray\n_reconstruct\n(tR",
            b"ccollections\nCounter\n(tR(dS'kind'\nS'f'\nsS'str'\n" + _OBJECTS_BY_FLAG + b"sb",
        ),
        # An array that is there already.
        (
            b"cnumpy.core.numeric\n_frombuffer\n(S'12345678'\ncnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I1\ntS'C'\ntR",
            _OBJECTS_BY_FLAG,
        ),
    ],
    ids=["attributes", "second state"],
)
def test_no_detour_takes_bytes_for_objects(tmp_path: Path, made: bytes, dtype: bytes) -> None:
    if b"_frombuffer" in made:  # its buffer is an object of bytes
        made = made.replace(b"S'12345678'\n", b"c_codecs\nencode\n(S'12345678'\nS'latin1'\ntR")
    pickled = made + b"(I1\n(I1\nt" + dtype + b"I00\nS'12345678'\ntb."
    with pytest.raises(DataError, match=r"gives a Counter as the type|not returning list"):
        load_npy(_object_npy(tmp_path / "evil.npy", pickled, ()))


@pytest.mark.parametrize(
    "name",
    [f"{module}\n{name}" for module, names in unpickle._PLAIN.items() for name in names]
    + [f"builtins\n{name}" for name in unpickle._FACTORIES]
    + ["\n".join(names) for names in unpickle._FUNCTIONS],
)
def test_no_file_changes_what_all_files_are_read_with(tmp_path: Path, name: str) -> None:
    pickled = f"c{name}\n(N(dS'most_common'\nS'changed'\nstb.".encode()
    with pytest.raises(DataError, match=r"gives attributes to|cannot set 'most_common'|has no attribute"):
        load_npy(_object_npy(tmp_path / "evil.npy", pickled, ()))


@pytest.mark.parametrize(
    "call",
    [
        "builtins\nrange\n(I10000001\nt",
        "builtins\nbytearray\n(I1000000000\nt",
        "fractions\nFraction\n(S'1e999999999'\nt",
    ],
    ids=["range", "bytearray", "fraction"],
)
def test_a_few_bytes_do_not_fill_the_memory(tmp_path: Path, call: str) -> None:
    with pytest.raises(DataError, match=r"range of 10000001|bytes-like object is required|invalid literal"):
        load_npy(_object_npy(tmp_path / "evil.npy", f"c{call}R.".encode(), ()))


def test_a_real_file_of_yade_is_two_dicts() -> None:
    constants, features = load_npy(min((RAW / "0.2e6" / "drained").glob("*.npy")))
    assert constants["mode"] == "drained"
    assert {"e_x", "e_y", "e_z", "p", "q"} <= features.keys()


def test_an_array_of_numbers_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(load_npy(tmp_path / "numbers.npy"), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "content", [b"", b"not numpy", b"\x93NUMPY\x01\x00v\x00{"], ids=["empty", "text", "cut header"]
)
def test_what_is_no_npy_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.npy: cannot be read"):
        load_npy(path)


def test_a_truncated_real_file_is_named() -> None:
    with pytest.raises(DataError, match=r"triax_0901\.npy: cannot be read"):
        load_npy(RAW / "0.5e6" / "drained" / "triax_0901.npy")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npy: there is no such file"):
        load_npy(tmp_path / "none.npy")
