"""Registry of the figures: one entry is all that another figure needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from glrnn_hpc.errors import DataError
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.report import plot_style
from glrnn_hpc.report.figures import FIGURES, ReportFigure, ReportSources
from glrnn_hpc.report.plot_style import CaptionedFigure, FigureNotApplicable
from glrnn_hpc.report.report import write_report
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation


def draw_seeds(sources: ReportSources) -> CaptionedFigure:
    figure = plot_style.new_figure(2.0)
    figure.subplots().set_xlabel(f"seed {sources.spec.seed}")
    return CaptionedFigure(figure, "An empty axis.", "Drawn outside of the package.")


def refuse(sources: ReportSources) -> CaptionedFigure:
    raise FigureNotApplicable(f"{len(sources.trials)} trials have begun")


def fail(sources: ReportSources) -> CaptionedFigure:
    raise DataError(f"{sources.study.folder.root}: is gone")


def test_a_figure_that_is_registered_is_drawn_left_out_or_named_as_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, draw in (("seeds", draw_seeds), ("begun", refuse), ("gone", fail)):
        monkeypatch.setitem(FIGURES, name, ReportFigure(f"Figure of {name}", draw))
    content = {"method": "random", "parameters": {"raw_data": {"value": "a.hdf5"}, "window_size": {"values": [3, 4]}}}
    folder = creation.create(tmp_path / "sweep", load_sweep(content), 2, LaunchPlan())
    report = write_report(folder.root)
    assert list(report["figures"]) == ["seeds"]
    assert Path(report["figures"]["seeds"]).read_bytes().startswith(b"\x89PNG")
    assert report["left_out"]["begun"] == "0 trials have begun"
    assert report["faulty"] == ["gone"]
    page = folder.report.read_text(encoding="utf-8")
    assert '<h2 id="seeds-title">Figure of seeds</h2>' in page
    assert "Drawn outside of the package." in page
    assert f'<p class="left-out fault">Left out: {folder.root}: is gone</p>' in page
