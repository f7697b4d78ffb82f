"""Values that HDF5 does not have are missing, not zero: the file that lacks them is named before anything is read."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.data import shared
from glrnn_hpc.data.hdf5 import read_schema
from glrnn_hpc.data.inspect import inspect
from glrnn_hpc.data.shared import read_data
from glrnn_hpc.errors import DataError

SHAPES = {"contact_params": (4, 2), "inputs": (4, 5, 3), "outputs": (4, 5, 2)}
GROUP = "0.2e6/drained"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no test in the folder of its data, which is where workers do not start either."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file whose values are all 1."""
    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        for name, shape in SHAPES.items():
            file[f"{GROUP}/{name}"] = np.ones(shape, "f4")
    return tmp_path / "data.hdf5"


def _replace(path: Path, make: Callable[[h5py.Group, str], None], name: str = "outputs") -> None:
    with h5py.File(path, "a") as file:
        del file[GROUP][name]
        make(file[GROUP], name)


def _virtual(path: Path, sources: dict[str, tuple[int, int]], n_mapped: int = 4) -> None:
    """Make the outputs virtual; each source holds some samples, all of them are 1."""
    layout = h5py.VirtualLayout((4, 5, 2), "f4")
    start = 0
    for source, (n_stored, n_planned) in sources.items():
        if n_stored:
            with h5py.File(path.parent / source, "w") as file:
                file["part"] = np.ones((n_stored, 5, 2), "f4")
        layout[start : min(start + n_planned, n_mapped)] = h5py.VirtualSource(source, "part", (n_planned, 5, 2))
        start += n_planned
    _replace(path, lambda group, name: group.create_virtual_dataset(name, layout, fillvalue=0))


def _refused(path: Path, message: str) -> None:
    for read in (read_data, inspect):
        with pytest.raises(DataError, match=message):
            read(path)


def test_a_virtual_data_set_is_read_from_its_sources(path: Path) -> None:
    _virtual(path, {"a.hdf5": (2, 2), "b.hdf5": (2, 2)})
    assert (read_data(path).groups[GROUP].outputs == 1).all()


def test_every_missing_source_is_named_with_the_fill_value(path: Path) -> None:
    _virtual(path, {"a.hdf5": (2, 2), "b.hdf5": (0, 1), "c.hdf5": (0, 1)})
    folder = path.parent
    _refused(path, rf"outputs has a part of its values in {folder}/b\.hdf5, which is missing.*fill value 0.*/c\.hdf5")


def test_a_source_that_is_smaller_than_planned_is_refused(path: Path) -> None:
    _virtual(path, {"a.hdf5": (2, 2), "b.hdf5": (1, 2)})
    _refused(path, r"b\.hdf5, whose part has the shape \(1, 5, 2\): this part needs another one")
    _virtual(path, {"a.hdf5": (4, 4)})
    layout = h5py.VirtualLayout((4, 5, 2), "f4")
    layout[:] = h5py.VirtualSource("a.hdf5", "part", (6, 5, 2))[2:]
    _replace(path, lambda group, name: group.create_virtual_dataset(name, layout))
    _refused(path, r"a\.hdf5, whose part has the shape \(4, 5, 2\): this part needs another one")


def test_a_source_without_the_data_set_and_one_that_is_no_hdf5_are_refused(path: Path) -> None:
    _virtual(path, {"a.hdf5": (2, 2), "b.hdf5": (2, 2)})
    with h5py.File(path.parent / "b.hdf5", "w"):
        pass
    _refused(path, r"b\.hdf5, which has no part")
    (path.parent / "b.hdf5").write_text("nothing")
    _refused(path, r"b\.hdf5: is truncated or no HDF5")


def test_a_source_that_was_never_written_is_refused(path: Path) -> None:
    _virtual(path, {"a.hdf5": (2, 2), "b.hdf5": (2, 2)})
    with h5py.File(path.parent / "b.hdf5", "w") as file:
        file.create_dataset("part", (2, 5, 2), "f4")
    _refused(path, r"b\.hdf5: part was never written")


def test_values_without_a_source_are_refused(path: Path) -> None:
    _virtual(path, {"a.hdf5": (2, 2)})
    _refused(path, r"outputs has sources for 20 of its 40 values")


def test_places_that_two_sources_serve_do_not_stand_for_others(path: Path) -> None:
    _virtual(path, {"a.hdf5": (2, 2)})

    def make(first: int, last: int) -> Callable[[h5py.Group, str], None]:
        def make_one(group: h5py.Group, name: str) -> None:
            layout = h5py.VirtualLayout((4, 5, 2), "f4")
            for start in range(first, last):
                layout[start : start + 2] = h5py.VirtualSource("a.hdf5", "part", (2, 5, 2))
            group.create_virtual_dataset(name, layout)

        return make_one

    _replace(path, make(0, 2))
    _refused(path, r"outputs has sources for 30 of its 40 values")
    _replace(path, make(0, 3))
    assert (read_data(path).groups[GROUP].outputs == 1).all()


@pytest.mark.parametrize(
    ("targets", "sources"),
    [
        ([np.s_[:, :, 0], np.s_[:, :, 1]], [np.s_[:4, :, 1], np.s_[4:, :, 0]]),
        ([np.s_[::2], np.s_[1::2]], [np.s_[::4], np.s_[1::4]]),
        ([np.s_[[0, 1, 3]], np.s_[2:3]], [np.s_[[0, 1, 3]], np.s_[2:3]]),
    ],
    ids=["columns", "every other sample", "list of samples"],
)
def test_parts_of_any_form_are_taken_together(path: Path, targets: list[Any], sources: list[Any]) -> None:
    with h5py.File(path.parent / "a.hdf5", "w") as file:
        file["part"] = np.ones((8, 5, 2), "f4")
    for n_parts in (2, 1):
        layout = h5py.VirtualLayout((4, 5, 2), "f4")
        source = h5py.VirtualSource("a.hdf5", "part", (8, 5, 2))
        for target, selection in list(zip(targets, sources, strict=True))[:n_parts]:
            layout[target] = source[selection]
        _replace(path, lambda group, name, layout=layout: group.create_virtual_dataset(name, layout))  # type: ignore[misc]
        if n_parts == 2:
            assert (read_data(path).groups[GROUP].outputs == 1).all()
    _refused(path, r"outputs has sources for \d+ of its 40 values")


def test_a_percent_sign_in_the_name_of_a_source_is_no_pattern(path: Path) -> None:
    folder = path.parent / "50%"
    folder.mkdir()
    _virtual(path, {"a.hdf5": (4, 4)})
    (path.parent / "a.hdf5").rename(folder / "a.hdf5")
    layout = h5py.VirtualLayout((4, 5, 2), "f4")
    layout[:] = h5py.VirtualSource("50%%/a.hdf5", "part", (4, 5, 2))
    _replace(path, lambda group, name: group.create_virtual_dataset(name, layout))
    assert (read_data(path).groups[GROUP].outputs == 1).all()


def test_a_data_set_that_is_its_own_source_is_refused(path: Path) -> None:
    other = path.parent / "other.hdf5"
    for source in (other, path):
        layout = h5py.VirtualLayout((4, 5, 2), "f4")
        layout[:] = h5py.VirtualSource(source.name, f"{GROUP}/outputs", (4, 5, 2))
        _replace(path, lambda group, name, layout=layout: group.create_virtual_dataset(name, layout))  # type: ignore[misc]
        if source == other:
            shutil.copyfile(path, other)
    _refused(path, r"outputs is a source of its own values")
    layout = h5py.VirtualLayout((4, 5, 2), "f4")
    layout[:] = h5py.VirtualSource("other.hdf5", f"{GROUP}/outputs", (4, 5, 2))
    _replace(path, lambda group, name: group.create_virtual_dataset(name, layout))
    _replace(other, lambda group, name: group.create_virtual_dataset(name, layout))
    _refused(path, r"other\.hdf5: 0\.2e6/drained/outputs is a source of its own values")


def test_a_source_with_an_impossible_name_is_missing(path: Path) -> None:
    _virtual(path, {"a" * 300: (0, 4)})
    _refused(path, r"/aaa+, which is missing")


def test_a_pattern_of_sources_is_refused(path: Path) -> None:
    with h5py.File(path.parent / "part-0.hdf5", "w") as file:
        file["part"] = np.ones((4, 5, 2), "f4")
    unlimited = h5py.h5s.UNLIMITED

    def make(group: h5py.Group, name: str) -> None:
        target = h5py.h5s.create_simple((4, 5, 2), (unlimited, 5, 2))
        target.select_hyperslab((0, 0, 0), (unlimited, 1, 1), (4, 5, 2), (4, 5, 2))
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_virtual(target, b"part-%b.hdf5", b"part", h5py.h5s.create_simple((4, 5, 2)))
        h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, target, properties)

    _replace(path, make)
    _refused(path, r"names its sources by the pattern part-%b\.hdf5")


@pytest.mark.parametrize("place", ["elsewhere", "prefixed"])
def test_sources_are_found_where_hdf5_finds_them(path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _virtual(path, {"a.hdf5": (4, 4)})
    folder = path.parent / place
    folder.mkdir(exist_ok=True)
    (path.parent / "a.hdf5").rename(folder / "a.hdf5")
    if place == "prefixed":
        _refused(path, r"a\.hdf5, which is missing")
        # HDF5 reads the variable each time that it opens a source.
        monkeypatch.setenv("HDF5_VDS_PREFIX", str(folder))
    assert (read_data(path).groups[GROUP].outputs == 1).all()


@pytest.mark.parametrize("chunks", [None, (1, 5, 2)])
def test_a_data_set_that_was_never_written_is_refused(path: Path, chunks: tuple[int, ...] | None) -> None:
    _replace(path, lambda group, name: group.create_dataset(name, (4, 5, 2), "f4", chunks=chunks))
    _refused(path, r"data\.hdf5: 0\.2e6/drained/outputs was never written: HDF5 would give the fill value 0\.0")


def test_a_data_set_that_was_written_in_part_is_refused(path: Path) -> None:
    def make(group: h5py.Group, name: str) -> None:
        data = group.create_dataset(name, (4, 5, 2), "f4", chunks=(1, 5, 2), compression="gzip")
        data[:3] = 1

    _replace(path, make)
    _refused(path, r"outputs was written in part, 3 of 4 chunks")


def test_only_the_groups_that_are_read_must_be_whole(path: Path) -> None:
    with h5py.File(path, "a") as file:
        for name, shape in SHAPES.items():
            file.create_dataset(f"0.5e6/drained/{name}", shape, "f4")
    assert (read_data(path, pressure="0.2e6").groups[GROUP].outputs == 1).all()
    with pytest.raises(DataError, match=r"0\.5e6/drained/contact_params was never.*; 0\.5e6/drained/inputs was"):
        read_data(path)


def test_an_external_raw_file_must_be_there_and_long_enough(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = path.parent / "raw.bin"
    raw.write_bytes(np.ones(40, "f4").tobytes())

    def make(group: h5py.Group, name: str) -> None:
        group.create_dataset(name, (4, 5, 2), "f4", external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])

    _replace(path, make)
    _refused(path, rf"outputs has its values in {Path.cwd()}/raw\.bin, which is missing.*HDF5_EXTFILE_PREFIX")
    os.chdir(path.parent)
    assert (read_data(path).groups[GROUP].outputs == 1).all()
    raw.write_bytes(np.ones(30, "f4").tobytes())
    _refused(path, r"raw\.bin, which ends 40 bytes too early")


@pytest.mark.parametrize("level", ["0.2e6", GROUP, f"{GROUP}/outputs"])
def test_an_external_link_is_followed_and_its_missing_file_is_named(path: Path, level: str) -> None:
    other = path.parent / "other.hdf5"
    with h5py.File(path, "a") as file, h5py.File(other, "w") as target:
        file.copy(file[level], target, "moved")
        del file[level]
        file[level] = h5py.ExternalLink("other.hdf5", "/moved")
    assert (read_data(path).groups[GROUP].outputs == 1).all()
    other.rename(path.parent / "gone.hdf5")
    for read in (read_schema, read_data, inspect):
        with pytest.raises(DataError, match=rf"{level} is a link to the missing file {path.parent}/other\.hdf5"):
            read(path)


def test_a_source_that_changes_while_it_is_read_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _virtual(path, {"a.hdf5": (4, 4)})
    read = shared.read_slab

    def read_and_cut(*arguments: object, **options: object) -> None:
        read(*arguments, **options)  # type: ignore[arg-type]
        os.utime(path.parent / "a.hdf5", (1, 1))

    monkeypatch.setattr(shared, "read_slab", read_and_cut)
    with pytest.raises(DataError, match=r"a\.hdf5: was changed or removed while it was read"):
        read_data(path)


def test_sequences_that_a_killed_writer_left_empty_are_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with h5py.File(path, "a") as file:
        for values in file[GROUP].values():
            values[2:] = 0
    told = "2 of 4 sequences are zero in all parameters, inputs and outputs: were they never written?"
    assert f"{GROUP}: {told}" in inspect(path).problems
    with caplog.at_level(logging.WARNING):
        read_data(path)
    assert [record.getMessage() for record in caplog.records] == [f"{path}: {GROUP}: {told}"]
