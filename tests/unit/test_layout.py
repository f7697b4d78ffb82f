from __future__ import annotations

import os
from pathlib import Path

import pytest

from glrnn_hpc import layout


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
