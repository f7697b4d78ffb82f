from __future__ import annotations

import json
from pathlib import Path

import pytest

from glrnn_hpc.worker.timeline import Timeline


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_second_belongs_to_one_kind(tmp_path: Path):
    clock, path = Clock(), tmp_path / "utilisation.jsonl"
    timeline = Timeline(path, 3, clock, lambda: 99.0)
    for kind, at in (("import", 0.0), ("fit", 2.0), ("evaluate", 5.0), ("fit", 6.0)):
        clock.now = at
        timeline.begin(kind)
    clock.now = 10.0
    timeline.write(7)
    clock.now = 11.0
    timeline.write()
    first, second = lines(path)
    assert first["seconds"] == {"import": 2.0, "fit": 7.0, "evaluate": 1.0}
    assert (first["rank"], first["trial"], first["ended"]) == (3, 7, 99.0)
    assert (second["seconds"], second["trial"]) == ({"fit": 1.0}, None)


def test_long_times_are_written_before_a_trial_ends(tmp_path: Path):
    clock, path = Clock(), tmp_path / "utilisation.jsonl"
    timeline = Timeline(path, 0, clock)
    timeline.begin("fit")
    clock.now = 61.0
    timeline.begin("evaluate")
    assert [line["seconds"] for line in lines(path)] == [{"fit": 61.0}]


def test_nothing_is_written_of_no_time(tmp_path: Path):
    timeline = Timeline(tmp_path / "utilisation.jsonl", 0)
    timeline.write()
    assert not (tmp_path / "utilisation.jsonl").exists()
    with pytest.raises(ValueError, match="'sleep' is not one of import, read"):
        timeline.begin("sleep")
