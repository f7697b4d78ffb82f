from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import FolderNotEmpty
from glrnn_hpc.layout import files


def test_a_reader_never_sees_half_a_file(tmp_path: Path):
    path = tmp_path / "a.txt"
    layout.write_text(path, "old")

    def write_half() -> None:
        with layout.replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_of_many_writers_exactly_one_publishes(tmp_path: Path):
    assert [layout.publish_once(tmp_path / "a.json", {"writer": number}) for number in range(3)] == [True, False, False]
    assert layout.read_json(tmp_path / "a.json") == {"writer": 0}
    assert [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_earlier_folders_are_kept_under_numbers(tmp_path: Path):
    assert layout.keep_aside(tmp_path / "run") is None
    for expected in ("run-1", "run-2"):
        (tmp_path / "run").mkdir()
        assert layout.keep_aside(tmp_path / "run") == tmp_path / expected


def test_a_link_whose_answer_was_lost_is_known_as_the_writers_own(tmp_path: Path, monkeypatch):
    link = os.link

    def asked_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", asked_twice)
    assert layout.publish_once(tmp_path / "a.json", {"writer": 0})
    assert not layout.publish_once(tmp_path / "a.json", {"writer": 1})


def folder_of(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "a.txt").write_text(content)
    return path


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_takes_the_place_of_another_one(can_exchange: bool, tmp_path: Path, monkeypatch):
    if not can_exchange:  # as on NFS
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    best = tmp_path / "best"
    for content in ("first", "second", "third"):
        layout.replace_folder(folder_of(layout.partial_folder(best), content), best)
        assert (best / "a.txt").read_text() == content
        assert list(tmp_path.iterdir()) == [best]


def test_names_are_exchanged_at_once_where_the_file_system_can(tmp_path: Path, monkeypatch):
    best = folder_of(tmp_path / "best", "old")
    seen = []
    monkeypatch.setattr(files, "remove_folder", lambda folder: seen.append(best.exists()))
    layout.replace_folder(folder_of(tmp_path / ".partial", "new"), best)
    assert ((best / "a.txt").read_text(), (tmp_path / ".partial/a.txt").read_text()) == ("new", "old")
    assert all(seen)


def test_a_folder_that_cannot_be_put_there_leaves_the_old_one(tmp_path: Path, monkeypatch):
    best = folder_of(tmp_path / "best", "old")
    partial = folder_of(tmp_path / ".partial", "new")
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path == partial and not best.exists():
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output error"):
        layout.replace_folder(partial, best)
    assert (best / "a.txt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [best]
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        layout.replace_folder(folder_of(partial, "new"), tmp_path / "file")


@pytest.mark.parametrize("can_exchange", [True, False])
def test_many_may_replace_a_folder_at_once(can_exchange: bool, tmp_path: Path, monkeypatch):
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    best = tmp_path / "best"

    def replace(number: int) -> None:
        for turn in range(50):
            layout.replace_folder(folder_of(layout.partial_folder(best), f"{number} {turn}"), best)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(replace, range(4)))
    assert (best / "a.txt").read_text().split()[1] == "49"
    assert list(tmp_path.iterdir()) == [best]


def test_a_folder_is_free_if_nothing_is_there_or_an_empty_folder(tmp_path: Path):
    layout.check_free(tmp_path / "new")
    layout.check_free(tmp_path)
    (tmp_path / "thesis.tex").touch()
    assert not layout.is_empty(tmp_path)
    for taken in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(FolderNotEmpty, match=f"{taken}: exists and is not an empty folder; name another one"):
            layout.check_free(taken, "name another one.")
