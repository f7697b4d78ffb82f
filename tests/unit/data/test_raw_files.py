"""Raw files are found through links, and what is not parsed is counted and said."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from glrnn_hpc.data import yade
from glrnn_hpc.data.raw_files import list_raw_files
from glrnn_hpc.errors import DataError
from tests.conftest import DATA

SIMULATIONS = sorted((DATA / "raw/0.2e6/drained").glob("*.npy"))


def _all(_: str) -> bool:
    return True


def _names(folder: Path, *, in_subfolders: bool) -> list[str]:
    files = list_raw_files(folder, in_subfolders=in_subfolders, includes=_all).files
    return [str(file.path.relative_to(folder)) for file in files]


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_linked_folders_and_files_of_a_flat_folder_are_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    _touch(folder, "a.npy", "below/b.npy")
    _touch(tmp_path / "elsewhere", "c.npy", "deep/d.npy")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder / "below")
    (folder / "loop").symlink_to(folder)
    (tmp_path / "elsewhere/back").symlink_to(folder)
    (folder / "zz.npy").symlink_to(folder / "a.npy")
    _touch(folder, "e.NPY")
    found = list_raw_files(folder, in_subfolders=False, includes=_all)
    assert list(found.left_out.values()) == [[folder / "e.NPY"]]
    assert _names(folder, in_subfolders=False) == ["a.npy", "below/b.npy", "linked/c.npy", "linked/deep/d.npy"]


def test_linked_folders_of_groups_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    _touch(tmp_path / "elsewhere", "drained/a.npy", "other/b.npy")
    folder.mkdir()
    (folder / "0.2e6").symlink_to(tmp_path / "elsewhere")
    _touch(folder, "0.5e6/drained/c.npy")
    (folder / "0.5e6/undrained").symlink_to(tmp_path / "elsewhere/other")
    expected = ["0.2e6/drained/a.npy", "0.2e6/other/b.npy", "0.5e6/drained/c.npy", "0.5e6/undrained/b.npy"]
    assert _names(folder, in_subfolders=True) == expected


def test_files_that_lie_elsewhere_or_end_in_capitals_are_left_out_by_reason(tmp_path: Path) -> None:
    _touch(tmp_path, "0.2e6/drained/a.npy", "0.2e6/drained/more/b.npy", "0.2e6/c.npy", "0.2e6/drained/D.NPY", "x.txt")
    found = list_raw_files(tmp_path, in_subfolders=True, includes=_all)
    assert [file.group for file in found.files] == ["0.2e6/drained"]
    assert found.left_out == {
        "not named *.npy in small letters": [tmp_path / "0.2e6/drained/D.NPY"],
        "not in <pressure>/<experiment_type>/": [
            tmp_path / "0.2e6/c.npy",
            tmp_path / "0.2e6/drained/more/b.npy",
        ],
    }
    found = list_raw_files(tmp_path, in_subfolders=True, includes=lambda group: group == "0.5e6/drained")
    assert list(found.left_out.values()) == [[tmp_path / "0.2e6/c.npy"]]
    found = list_raw_files(tmp_path, in_subfolders=False, includes=_all)
    assert len(found.files) == 3
    assert list(found.left_out.values()) == [[tmp_path / "0.2e6/drained/D.NPY"]]


@pytest.mark.parametrize("in_subfolders", [True, False])
def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, in_subfolders: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "0.2e6/drained/a.npy")
    listing = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "drained":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"0\.2e6/drained: cannot be listed: Permission denied"):
        _names(tmp_path, in_subfolders=in_subfolders)


def test_a_parse_counts_what_it_leaves_out(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    for number, path in enumerate(SIMULATIONS):
        place = folder / ("0.2e6/drained" if number < 4 else "0.2e6/drained/more") / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    report = yade.convert_all_to_hdf5(None, None, folder, tmp_path / "out.hdf5")
    assert report.groups["0.2e6/drained"].files == 4
    assert not report.is_complete
    first = folder / "0.2e6/drained/more" / SIMULATIONS[4].name
    assert report.left_out_lines() == [
        f"left out: {len(SIMULATIONS) - 4} not in <pressure>/<experiment_type>/, such as {first}"
    ]
    assert len(json.loads(json.dumps(report.as_dict()))["left_out"].popitem()[1]) == len(SIMULATIONS) - 4
    flat = yade.convert_all_to_hdf5(None, None, folder, tmp_path / "flat.hdf5", stored_in_subfolders=False)
    assert flat.is_complete
    assert flat.groups["0.2e6/drained"].files == len(SIMULATIONS)


@pytest.mark.parametrize("target", ["", "out"])
def test_a_folder_is_no_target_and_nothing_is_read_for_it(tmp_path: Path, target: str) -> None:
    _touch(tmp_path, "0.2e6/drained/a.npy")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=rf"{tmp_path / target}: is a folder; name the file to write"):
        yade.convert_all_to_hdf5(None, None, tmp_path, tmp_path / target)


def test_a_folder_in_which_all_is_left_out_says_so(tmp_path: Path) -> None:
    _touch(tmp_path, "0.2e6/a.npy", "0.2e6/drained/B.NPY")
    message = r"no \.npy files in .*--flat reads another layout; left out: 1 not in .*; left out: 1 not named \*\.npy"
    with pytest.raises(DataError, match=message):
        yade.convert_all_to_hdf5(None, None, tmp_path, tmp_path / "out.hdf5")
