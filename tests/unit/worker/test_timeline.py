from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glrnn_hpc.processes import seconds_since_start
from glrnn_hpc.worker import trainer
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


def test_what_is_done_in_between_is_counted_for_itself(tmp_path: Path):
    clock, path = Clock(), tmp_path / "utilisation.jsonl"
    timeline = Timeline(path, 0, clock)
    timeline.begin("checkpoint")
    clock.now = 2.0
    with timeline.during("track"):
        clock.now = 3.0
    clock.now = 7.0
    timeline.write()
    assert [line["seconds"] for line in lines(path)] == [{"checkpoint": 6.0, "track": 1.0}]


def test_the_order_of_a_ranks_doings_can_be_drawn(tmp_path: Path):
    clock, path = Clock(), tmp_path / "utilisation.jsonl"
    timeline = Timeline(path, 0, clock, lambda: 99.0)
    for kind, at in (("gap", 0.0), ("gap", 1.0), ("trace", 2.0), ("fit", 5.0)):
        clock.now = at
        timeline.begin(kind)
    clock.now = 9.0
    timeline.write(7)
    clock.now = 10.0
    timeline.write()
    assert [line["spans"] for line in lines(path)] == [[["gap", 2.0], ["trace", 3.0], ["fit", 4.0]], [["fit", 1.0]]]


def test_the_spans_of_many_epochs_are_joined_and_the_seconds_stay_exact(tmp_path: Path):
    clock, path = Clock(), tmp_path / "utilisation.jsonl"
    timeline = Timeline(path, 0, clock)
    lasting = [("gap", 5.0), *[("fit", 0.4), ("evaluate", 0.125), ("checkpoint", 0.0625)] * 90, ("gap", 2.0)]
    for kind, seconds in lasting:
        timeline.begin(kind)
        clock.now += seconds
    timeline.write()
    (line,) = lines(path)
    spans = line["spans"]
    assert len(spans) <= 32
    assert (spans[0], spans[-1]) == (["gap", 5.0], ["gap", 2.0])
    assert sum(seconds for kind, seconds in spans if kind == "fit") > 36
    assert sum(seconds for _, seconds in spans) == pytest.approx(clock.now, abs=0.001 * len(spans))
    assert line["seconds"] == pytest.approx({"gap": 7.0, "fit": 36.0, "evaluate": 11.25, "checkpoint": 5.625})


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


def test_time_before_the_timeline_counts_from_the_start_of_the_process(tmp_path: Path):
    clock, path = Clock(), tmp_path / "utilisation.jsonl"
    timeline = Timeline(path, 0, clock)
    timeline.begin("import", ago=3.5)
    clock.now = 2.0
    timeline.begin("read")
    clock.now = 3.0
    timeline.write()
    assert [line["seconds"] for line in lines(path)] == [{"import": 5.5, "read": 1.0}]


def test_the_age_of_a_process_is_what_its_parent_sees():
    program = "import time; from glrnn_hpc.processes import seconds_since_start; time.sleep(0.5)"
    started = time.monotonic()
    command = [sys.executable, "-c", f"{program}; print(seconds_since_start())"]
    age = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    # The kernel counts in hundredths of a second.
    assert 0.5 <= age <= time.monotonic() - started + 0.02
    assert seconds_since_start() > age


def test_the_first_batches_of_a_training_are_no_work(tmp_path: Path):
    now, path = Clock(), tmp_path / "utilisation.jsonl"
    timeline = Timeline(path, 0, now)
    training = trainer.TimelineCallback(timeline)
    one_epoch = [
        *(training.on_epoch_begin, training.on_train_batch_end, training.on_train_batch_end),
        *(training.on_test_begin, training.on_test_batch_end, training.on_test_batch_end, training.on_epoch_end),
    ]
    # The k-th call is followed by 2^k seconds.
    for number, call in enumerate([*one_epoch, *one_epoch]):
        call(0 if "batch" in call.__name__ or "epoch" in call.__name__ else None)
        now.now += 2.0**number
    timeline.write()
    expected = {"trace": [0, 3], "fit": [1, 2, 7, 8, 9], "evaluate": [4, 5, 10, 11, 12], "checkpoint": [6, 13]}
    found = {kind: sum(line["seconds"].get(kind, 0.0) for line in lines(path)) for kind in expected}
    assert found == {kind: sum(2.0**k for k in calls) for kind, calls in expected.items()}
