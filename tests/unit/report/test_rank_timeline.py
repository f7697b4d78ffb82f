"""Timeline of the ranks: what each of them did when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.report import rank_timeline
from glrnn_hpc.report.plot_style import FigureNotApplicable
from glrnn_hpc.worker import timeline


def written(folder: layout.SweepFolder, job: str, lines: list[dict[str, Any]], rest: str = "") -> None:
    worker = folder.worker(job)
    worker.root.mkdir(parents=True)
    worker.utilisation.write_text("".join(json.dumps(line) + "\n" for line in lines) + rest)


def test_the_timeline_shows_what_each_rank_did_when(tmp_path: Path):
    folder = layout.SweepFolder(tmp_path)
    spans = [["gap", 20.0], ["fit", 60.0], ["idle", 20.0]]
    new = {"rank": 1, "ended": 1100.0, "seconds": {"gap": 20.0, "fit": 60.0, "idle": 20.0}, "spans": spans}
    # Of a version that wrote no spans, and began later.
    old = {"rank": 0, "ended": 1100.0, "seconds": {"import": 10.0, "evaluate": 40.0}}
    written(folder, "b", [old], rest='{"rank": 0, "ended"')
    written(folder, "a", [new])
    rows = rank_timeline.read_spans(folder)
    kinds = list(rank_timeline.KINDS)
    assert list(rows) == ["a:1", "b:0"]
    assert [(kinds[place], begin, end) for place, begin, end in rows["a:1"]] == [
        ("gap", 1000.0, 1020.0),
        ("fit", 1020.0, 1080.0),
        ("idle", 1080.0, 1100.0),
    ]
    assert [(kinds[place], begin, end) for place, begin, end in rows["b:0"]] == [
        ("import", 1050.0, 1060.0),
        ("evaluate", 1060.0, 1100.0),
    ]
    drawing = rank_timeline.draw_rank_timeline(folder)
    (shown,) = drawing.figure.axes[0].images
    seen = [[[*kinds, ""][int(place)] for place in row[:: row.size // 10]][:10] for row in shown.get_array()]
    assert seen[0] == ["gap"] * 2 + ["fit"] * 6 + ["idle"] * 2
    assert seen[1] == [""] * 5 + ["import"] + ["evaluate"] * 4
    assert drawing.figure.axes[0].get_xlabel() == "time since the first rank began [s]"
    assert "2 ranks" in drawing.alt
    assert "fit 40.0 %" in drawing.alt


def test_a_moment_shows_what_fills_most_of_it(tmp_path: Path):
    folder = layout.SweepFolder(tmp_path)
    # Of 1200 moments of 10 s each a fit takes 2 s, and then it is idle.
    spans = [["fit", 2.0], ["idle", 8.0]] * 1200
    first = {"rank": 0, "ended": 12000.0, "seconds": {"fit": 2400.0, "idle": 9600.0}, "spans": spans}
    written(folder, "a", [{**first, "rank": 1, "spans": [["fit", 12000.0]]}, first])
    assert list(rank_timeline.read_spans(folder)) == ["a:0", "a:1"]
    axis = rank_timeline.draw_rank_timeline(folder).figure.axes[0]
    (shown,) = axis.images
    seen = [{list(rank_timeline.KINDS)[int(place)] for place in np.unique(row)} for row in shown.get_array()]
    assert seen == [{"idle"}, {"fit"}]
    # The first rank on top, the hours from the left.
    assert shown.get_extent() == pytest.approx([0, 12000 / 3600, 1.5, -0.5])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a:0", "a:1"]


def test_all_that_a_rank_can_do_has_a_colour_of_its_own():
    assert set(rank_timeline.KINDS) == set(timeline.KINDS)
    assert len(set(rank_timeline.KINDS.values())) == len(rank_timeline.KINDS)


def test_a_timeline_of_many_ranks_stays_a_page(tmp_path: Path):
    folder = layout.SweepFolder(tmp_path)
    lines = [{"rank": rank, "ended": 9e4 + rank, "seconds": {"fit": 8e4}} for rank in range(300)]
    written(folder, "job", lines)
    figure = rank_timeline.draw_rank_timeline(folder).figure
    assert figure.get_figheight() < 10
    assert figure.axes[0].get_ylabel() == "300 ranks"
    assert figure.axes[0].get_xlabel() == "time since the first rank began [h]"
    with pytest.raises(FigureNotApplicable, match="no rank has written"):
        rank_timeline.draw_rank_timeline(layout.SweepFolder(tmp_path / "nothing"))
