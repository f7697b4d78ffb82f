"""Raw files are read without running what is in them."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
