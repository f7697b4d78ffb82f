"""An HDF5 file that cannot be opened or read says why: a lock, a folder, a filter."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest

from glrnn_hpc.data.hdf5_access import open_collectively
from glrnn_hpc.data.inspect import inspect
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.data.shared import read_data
from glrnn_hpc.errors import DataError
from tests.conftest import write_steps


def _open_collectively(path: Path) -> object:
    return open_collectively(path, Ranks())


READERS = (read_data, inspect, _open_collectively)


def _run(program: str, *arguments: Path, **variables: str) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("read", READERS)
def test_a_file_that_a_writer_holds_is_locked_not_truncated(steps_file: Path, read: Any) -> None:
    with steps_file.open("rb+") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"steps\.hdf5: another process has it open for writing.*wait until"):
            read(steps_file)
    read(steps_file)


def test_the_mark_of_a_killed_writer_is_named_with_what_clears_it(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    _run("import h5py, os, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f.flush(); os._exit(0)", path)
    with pytest.raises(DataError, match=r"another process has it open for writing.*writer was killed.*h5clear -s"):
        inspect(path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_with_the_variable(
    steps_file: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        text = f"unable to lock file, errno = {number}, error message = '{os.strerror(number)}'"
        raise OSError(number, f"Unable to synchronously open file ({text})")

    monkeypatch.setattr(h5py, "File", refuse)
    for use in (*READERS, write_steps):
        with pytest.raises(DataError, match=r"steps\.hdf5: its file system has no locks.*HDF5_USE_FILE_LOCKING=FALSE"):
            use(steps_file)


@pytest.mark.parametrize("read", READERS)
def test_a_folder_is_named_as_one_with_a_file_in_it(steps_file: Path, read: Any) -> None:
    with pytest.raises(DataError, match=rf"{steps_file.parent}: is a folder; name an HDF5 file, such as .*steps\.hdf5"):
        read(steps_file.parent)


@pytest.fixture
def zstd_file(steps_file: Path) -> Path:
    """Return the file of steps compressed by Zstandard; a process of its own writes it, which has the filter."""
    path = steps_file.parent / "zstd.hdf5"
    _run(
        "import h5py, hdf5plugin, sys\n"
        "with h5py.File(sys.argv[1]) as old, h5py.File(sys.argv[2], 'w') as new:\n"
        "    new.attrs.update(old.attrs)\n"
        "    for name, values in old['0.2e6/drained'].items():\n"
        "        new.create_dataset('0.2e6/drained/' + name, data=values[...], **hdf5plugin.Zstd())",
        steps_file,
        path,
    )
    return path


def test_a_missing_filter_is_named_with_what_brings_it(zstd_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HDF5_PLUGIN_PATH", raising=False)
    message = r"_params \(and 2 more data sets\) is compressed by the filter Zstandard \(number 32015\).*pip inst"
    for read in (read_data, inspect):
        with pytest.raises(DataError, match=message):
            read(zstd_file)
    monkeypatch.setenv("HDF5_PLUGIN_PATH", "disable")
    with pytest.raises(DataError, match="HDF5_PLUGIN_PATH=disable switches plugins off"):
        read_data(zstd_file)


def test_the_users_plugins_serve_a_process_with_tensorflow_and_those_that_it_starts(zstd_file: Path) -> None:
    package = importlib.util.find_spec("hdf5plugin")
    assert package is not None
    assert package.origin is not None
    folder = str(Path(package.origin).parent / "plugins")
    out = _run(
        "import glrnn_hpc.predict, os, sys; from glrnn_hpc.data.shared import read_data\n"
        "assert 'tensorflow' in sys.modules\n"
        "print(read_data(sys.argv[1]).groups['0.2e6/drained'].outputs[0, 3, 0], os.environ['HDF5_PLUGIN_PATH'])",
        zstd_file,
        HDF5_PLUGIN_PATH=folder,
    )
    assert out.split() == ["3.0", folder]
