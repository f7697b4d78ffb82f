"""The report of a sweep: one page that opens anywhere, and its figures as files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.errors import GlrnnError, SweepError
from glrnn_hpc.records.provenance import read_provenance
from glrnn_hpc.records.sweep_summary import SweepCost, SweepSummary
from glrnn_hpc.report import html, plot_style
from glrnn_hpc.report.parallel_coordinates import draw_parallel
from glrnn_hpc.report.plot_style import Drawing, NothingToDraw
from glrnn_hpc.report.rank_timeline import draw_ranks
from glrnn_hpc.report.search_figures import draw_history, draw_importance, draw_learning_curves
from glrnn_hpc.report.trials import read_trials
from glrnn_hpc.search.sweep import preprocessor_of
from glrnn_hpc.study.ranking import best_first, best_trial
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.cost import cost_of
from glrnn_hpc.summary.status import summarize

#: Of each figure its name and its title, in the order of the page.
FIGURES = {
    "history": "Optimisation history",
    "parallel": "Parallel coordinates",
    "importance": "Importance of the parameters",
    "learning_curves": "Learning curves",
    "ranks": "Timeline of the ranks",
    "predictions": "Predicted against simulated",
    "errors": "Errors per label",
}

#: Characters of an error in the table of failures.
_ERROR_LENGTH = 400

#: Pixels of the page for an inch of a figure, below which its letters are too small to read.
_LEAST_PIXELS = 75

Draw = Callable[[], Drawing]


def write_report(root: Path, top: int = 20) -> dict[str, Any]:
    """Write `report.html` and `figures/*.png` into the folder of a sweep, which may still be running.

    Parameters
    ----------
    root : Path
        Folder of the sweep.
    top : int
        How many of the best trials the table shows.

    Returns
    -------
    dict
        `report`, the path of the page; `figures`, paths by name; `left_out`, reasons by the name of the figure;
        `faulty`, the names of those that a file which is gone or broken kept from being drawn; `state`, `trials`,
        `metric`, `best` as `status.summarize` has them.

    Raises
    ------
    SweepError
        If `root` is not the folder of a sweep, or the report cannot be written there.
    """
    summary = summarize(root)
    study = SweepStudy(layout.SweepFolder(root))
    try:
        return _write(study, summary, top)
    except OSError as error:
        raise SweepError(
            f"{error.filename or root}: the report cannot be written: {error.strerror or error}; see to it that files "
            "may be made there."
        ) from error


def _write(study: SweepStudy, summary: SweepSummary, top: int) -> dict[str, Any]:
    cost = cost_of(study, summary)
    figures: dict[str, str] = {}
    reasons: dict[str, str] = {}
    faulty: list[str] = []
    sections: list[html.Section] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, draw in _drawers(study, summary, Path(scratch) / "predictions.hdf5").items():
            file = study.folder.figure(name)
            try:
                with plot_style.plain_texts():
                    drawing = draw()
                    png = _saved(drawing, file)
            except GlrnnError as error:
                if not isinstance(error, NothingToDraw):
                    faulty.append(name)
                reasons[name] = str(error)
                file.unlink(missing_ok=True)  # of an earlier report
                body = html.left_out(str(error), is_fault=name in faulty)
            else:
                figures[name] = str(file)
                least_width = _LEAST_PIXELS * float(drawing.figure.get_figwidth())
                body = html.picture(png, name, drawing.alt, drawing.caption, least_width)
            sections.append(html.Section(name, FIGURES[name], body))
    sections.append(html.Section("trials", "Best trials", _best_trials(study, summary, top)))
    sections.append(html.Section("failures", "Failures", _failures(cost)))
    sections.append(html.Section("provenance", "Provenance of the best model", _provenance(study, summary)))
    name = str(study.spec.labels.get("name", study.folder.root.resolve().name))
    written = time.strftime("%Y-%m-%d %H:%M %z")
    foot = f"Written by glrnn report, {written}. The figures also lie as files in figures/ beside this page."
    layout.write_text(study.folder.report, html.page(f"Sweep {name}", _head(study, summary, cost), sections, foot))
    return {
        "report": str(study.folder.report),
        "figures": figures,
        "left_out": reasons,
        "faulty": faulty,
        "state": summary["state"],
        "trials": summary["trials"],
        "metric": summary["metric"],
        "best": summary["best"],
    }


def _drawers(study: SweepStudy, summary: SweepSummary, predictions: Path) -> dict[str, Draw]:
    """Return what draws each figure; both figures of the predictions share one prediction."""
    spec, trials = study.spec, read_trials(study, summary["table"])
    found: dict[str, Any] = {}

    def of_predictions(name: str) -> Drawing:
        if not found:
            try:
                found["metrics"] = _predict(study, predictions)
            except GlrnnError as error:
                found["error"] = error
        if "error" in found:
            raise found["error"]
        from glrnn_hpc.report import prediction_figures

        draw = prediction_figures.draw_predictions if name == "predictions" else prediction_figures.draw_errors
        return draw(predictions, found["metrics"])

    return {
        "history": lambda: draw_history(trials, spec),
        "parallel": lambda: draw_parallel(trials, spec),
        "importance": lambda: draw_importance(trials, spec),
        "learning_curves": lambda: draw_learning_curves(trials, spec),
        "ranks": lambda: draw_ranks(study.folder),
        "predictions": lambda: of_predictions("predictions"),
        "errors": lambda: of_predictions("errors"),
    }


def _predict(study: SweepStudy, out: Path) -> dict[str, dict[str, float]]:
    """Predict the test split with the best trial; return the errors by label."""
    if preprocessor_of(study.spec) is not None:
        raise NothingToDraw("the sweep has a preprocessor of its own, and its sequences need not lie in groups")
    if not any(slot.state == "finished" for slot in study.slots()):
        raise NothingToDraw("no trial has finished yet")
    best = best_trial(study.folder.root)
    # Only now: importing TensorFlow takes seconds, and a report without predictions needs none of it.
    from glrnn_hpc.predict import predict_file

    metrics: dict[str, dict[str, float]] = predict_file(best.folder.root, study.spec.data_file, out)["metrics"]
    return metrics


def _saved(drawing: Drawing, file: Path) -> bytes:
    file.parent.mkdir(exist_ok=True)
    with layout.replacing(file) as partial:
        drawing.figure.savefig(partial, dpi=plot_style.DPI, metadata={"Description": drawing.alt})
        # Read before it is moved, as another report may be written at the same time.
        return partial.read_bytes()


def _head(study: SweepStudy, summary: SweepSummary, cost: SweepCost) -> str:
    spec, best, share = study.spec, summary["best"], summary["utilisation"]
    method = f"{spec.method} ({spec.sampler})" if spec.method == "bayes" else spec.method
    pairs = {
        "state": summary["state"] + (f" ({summary['reason']})" if summary["reason"] else ""),
        "method": method + (", hyperband" if spec.early_terminate else ""),
        "metric": f"{spec.metric}, {spec.goal}",
        "best": f"{best['value']:.6g} (trial {best['number']})" if best else "none has finished yet",
        "trials": ", ".join(f"{count} {state}" for state, count in summary["trials"].items() if count),
        "ranks' time in fit and evaluate": "not recorded yet" if share is None else f"{share:.1%}",
        "rank hours": f"{cost['rank_hours']:.3g} in trials, {cost['allocated_rank_hours']:.3g} in all",
        "wall time": f"{cost['wall_seconds'] / 60:.1f} min",
    }
    if cost["prunings"]:
        pairs["pruned"] = ", ".join(f"{count} after epoch {epoch}" for epoch, count in cost["prunings"].items())
    if summary["retried"]:
        pairs["trials"] += f", {summary['retried']} retried"
    description = spec.labels.get("description")
    return html.facts(pairs) + (html.note(str(description)) if description else "")


def _best_trials(study: SweepStudy, summary: SweepSummary, top: int) -> str:
    rows = {row["number"]: row for row in summary["table"]}
    ranking = best_first(study.slots(), study.spec.goal)[:top]
    if not ranking:
        return html.note("No trial has finished yet.")
    names = [parameter.name for parameter in study.spec.searched]
    cells = []
    for place, slot in enumerate(ranking, start=1):
        row = rows.get(slot.number, {"epochs": 0, "seconds": None})
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.1f}"
        values = [plot_style.short(slot.params.get(name, "-"), 40) for name in names]
        cells.append([str(place), str(slot.number), f"{slot.value:.6g}", str(row["epochs"]), seconds, *values])
    header = ["rank", "trial", study.spec.metric, "epochs", "seconds", *names]
    return html.table("Best finished trials, the best one first", header, cells, best=0)


def _failures(cost: SweepCost) -> str:
    if not cost["failures"]:
        return html.note("No trial has failed.")
    rows = []
    for group in cost["failures"]:
        numbers = plot_style.short(", ".join(map(str, group["trials"])), 80)
        rows.append([str(len(group["trials"])), plot_style.short(group["error"], _ERROR_LENGTH), numbers])
    return html.table("Failed trials by the kind of their error", ["trials", "error", "numbers"], rows, texts=[1])


def _provenance(study: SweepStudy, summary: SweepSummary) -> str:
    try:
        provenance = read_provenance(study.folder.best.provenance)
    except (OSError, ValueError):
        return html.note("Nothing is exported yet; `glrnn collect` verifies the best trial and exports it.")
    best, note = summary["best"], ""
    if best is not None and provenance.trial != best["number"]:
        note = html.note(
            f"The export is of trial {provenance.trial}; trial {best['number']} has a better value: it finished "
            "since, or its files were refused."
        )
    rows = html.flattened(provenance.as_json())
    return note + html.table("Provenance of the export", ["key", "value"], rows, texts=[1])
