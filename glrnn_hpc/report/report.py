"""Report of a sweep: one HTML page that opens anywhere, and its figures as files.

The page shows the figures of `figures.FIGURES`; that module says how to add one.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from glrnn_hpc import layout
from glrnn_hpc.collector.sweep_data import read_data_from
from glrnn_hpc.errors import GlrnnError, SweepError
from glrnn_hpc.records.json_types import JsonObject
from glrnn_hpc.records.sweep_summary import BestValue, SweepSummary
from glrnn_hpc.report import html, plot_style, sections
from glrnn_hpc.report.baseline_section import baseline_section, compare_best
from glrnn_hpc.report.figures import FIGURES, BestPredictions, ReportFigure, ReportSources
from glrnn_hpc.report.plot_style import CaptionedFigure, FigureNotApplicable
from glrnn_hpc.report.trials import read_trials
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.cost import cost_of
from glrnn_hpc.summary.status import summarize

#: Pixels of the page for an inch of a figure, below which its letters are too small to read.
_LEAST_PIXELS = 75


class Report(TypedDict):
    """Answer of `glrnn report --json`.

    Attributes
    ----------
    report : str
        Path of the page.
    figures : dict
        Paths of the figures by their names.
    left_out : dict
        Reasons by the names of the figures that were not drawn.
    faulty : list of str
        Names of the figures that were not drawn because a file is gone or broken.
    state, trials, metric, best
        As in the summary of the sweep.
    baseline : dict
        Comparison of the best model with Gaussian processes, or the `reason` why there is none.
    """

    report: str
    figures: dict[str, str]
    left_out: dict[str, str]
    faulty: list[str]
    state: str
    trials: dict[str, int]
    metric: str
    best: BestValue | None
    baseline: JsonObject


def write_report(root: Path, top: int = 20, raw_data: str | Path | None = None) -> Report:
    """Write `report.html` and `figures/*.png` into the folder of a sweep, which may still be running.

    Parameters
    ----------
    root : Path
        Folder of the sweep.
    top : int
        How many of the best trials the table shows.
    raw_data : path, optional
        Where the data of the sweep are now, if they have moved; they must hold the same sequences.

    Raises
    ------
    ConfigError, DataError
        If `raw_data` is given and the sweep reads no file, or it holds other sequences.
    SweepError
        If `root` is not the folder of a sweep, or the report cannot be written there.
    """
    summary = summarize(root)
    study = SweepStudy(layout.SweepFolder(root))
    if raw_data is not None:
        read_data_from(study, raw_data)
    try:
        return _write(study, summary, top)
    except OSError as error:
        raise SweepError(
            f"{error.filename or root}: the report cannot be written: {error.strerror or error}; see to it that files "
            "may be made there."
        ) from error


@dataclass(frozen=True)
class _FigureSection:
    """Section of a figure; `omission` is the reason why it is left out, `is_faulty` if a file is broken."""

    section: html.Section
    file: Path
    omission: str | None = None
    is_faulty: bool = False


def _write(study: SweepStudy, summary: SweepSummary, top: int) -> Report:
    cost = cost_of(study, summary)
    with tempfile.TemporaryDirectory() as scratch:
        predictions = BestPredictions(study, Path(scratch) / "predictions.hdf5")
        sources = ReportSources(study, read_trials(study, summary["table"]), predictions)
        drawn = {name: _figure_section(name, figure, sources) for name, figure in FIGURES.items()}
        baseline = compare_best(sources, is_running=summary["state"] == "running")
    parts = [each.section for each in drawn.values()]
    parts.append(html.Section("baseline", "Against Gaussian processes", baseline_section(baseline)))
    parts.append(html.Section("trials", "Best trials", sections.best_trials_section(study, summary, top)))
    parts.append(html.Section("failures", "Failures", sections.failures_section(cost)))
    provenance = sections.provenance_section(study, summary)
    parts.append(html.Section("provenance", "Provenance of the best model", provenance))
    name = str(study.spec.labels.get("name", study.folder.root.resolve().name))
    written = time.strftime("%Y-%m-%d %H:%M %z")
    foot = f"Written by glrnn report, {written}. The figures also lie as files in figures/ beside this page."
    head = sections.summary_section(study, summary, cost)
    layout.write_text(study.folder.report, html.render_page(f"Sweep {name}", head, parts, foot))
    return {
        "report": str(study.folder.report),
        "figures": {name: str(each.file) for name, each in drawn.items() if each.omission is None},
        "left_out": {name: each.omission for name, each in drawn.items() if each.omission is not None},
        "faulty": [name for name, each in drawn.items() if each.is_faulty],
        "state": summary["state"],
        "trials": summary["trials"],
        "metric": summary["metric"],
        "best": summary["best"],
        "baseline": baseline.as_json(),
    }


def _figure_section(name: str, figure: ReportFigure, sources: ReportSources) -> _FigureSection:
    """Draw a figure into its file and its section of the page, or say there why it is left out."""
    file = sources.study.folder.figure(name)
    try:
        with plot_style.without_formulas():
            drawing = figure.draw(sources)
            png = _save(drawing, file)
    except GlrnnError as error:
        file.unlink(missing_ok=True)  # it may be there from an earlier report
        is_faulty = not isinstance(error, FigureNotApplicable)
        body = html.omitted_figure(str(error), is_fault=is_faulty)
        return _FigureSection(html.Section(name, figure.title, body), file, str(error), is_faulty)
    least_width = _LEAST_PIXELS * float(drawing.figure.get_figwidth())
    body = html.embed_figure(png, name, drawing.alt, drawing.caption, least_width)
    return _FigureSection(html.Section(name, figure.title, body), file)


def _save(drawing: CaptionedFigure, file: Path) -> bytes:
    """Write a figure to its file and return the content."""
    file.parent.mkdir(exist_ok=True)
    with layout.replacing(file) as partial:
        drawing.figure.savefig(partial, dpi=plot_style.DPI, metadata={"Description": drawing.alt})
        # Read before it is moved, as another report may be written at the same time.
        return partial.read_bytes()
