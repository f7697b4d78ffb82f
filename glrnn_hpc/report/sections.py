"""Sections of a report that hold text and tables: summary, best trials, failures, provenance."""

from __future__ import annotations

from glrnn_hpc.records.provenance import read_provenance
from glrnn_hpc.records.sweep_summary import SweepCost, SweepSummary
from glrnn_hpc.report import html, plot_style
from glrnn_hpc.study.ranking import best_first
from glrnn_hpc.study.study import SweepStudy

#: Characters of an error in the table of failures.
_ERROR_LENGTH = 400


def summary_section(study: SweepStudy, summary: SweepSummary, cost: SweepCost) -> str:
    """Return the facts at the head of the page: state, method, best trial, cost."""
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
    return html.description_list(pairs) + (html.paragraph(str(description)) if description else "")


def best_trials_section(study: SweepStudy, summary: SweepSummary, top: int) -> str:
    """Return the table of the best `top` finished trials."""
    rows = {row["number"]: row for row in summary["table"]}
    ranking = best_first(study.slots(), study.spec.goal)[:top]
    if not ranking:
        return html.paragraph("No trial has finished yet.")
    names = [parameter.name for parameter in study.spec.searched]
    cells = []
    for place, slot in enumerate(ranking, start=1):
        row = rows.get(slot.number)
        duration = None if row is None else row["seconds"]
        seconds = "-" if duration is None else f"{duration:.1f}"
        epochs = 0 if row is None else row["epochs"]
        values = [plot_style.shorten(slot.params.get(name, "-"), 40) for name in names]
        cells.append([str(place), str(slot.number), f"{slot.value:.6g}", str(epochs), seconds, *values])
    header = ["rank", "trial", study.spec.metric, "epochs", "seconds", *names]
    return html.table("Best finished trials, the best one first", header, cells, best=0)


def failures_section(cost: SweepCost) -> str:
    """Return the table of the failed trials, grouped by their errors."""
    if not cost["failures"]:
        return html.paragraph("No trial has failed.")
    rows = []
    for group in cost["failures"]:
        numbers = plot_style.shorten(", ".join(map(str, group["trials"])), 80)
        rows.append([str(len(group["trials"])), plot_style.shorten(group["error"], _ERROR_LENGTH), numbers])
    return html.table("Failed trials by the kind of their error", ["trials", "error", "numbers"], rows, texts=[1])


def provenance_section(study: SweepStudy, summary: SweepSummary) -> str:
    """Return the table of the export's provenance, and a note if another trial is better by now."""
    try:
        provenance = read_provenance(study.folder.best.provenance)
    except (OSError, ValueError):
        return html.paragraph("Nothing is exported yet; `glrnn collect` verifies the best trial and exports it.")
    best, note = summary["best"], ""
    if provenance.ensemble is not None:
        trials = ", ".join(f"{member.trial} (x{member.weight})" for member in provenance.ensemble.members)
        note = html.paragraph(f"The export is an ensemble of the trials {trials}.")
    elif best is not None and provenance.trial != best["number"]:
        note = html.paragraph(
            f"The export is of trial {provenance.trial}; trial {best['number']} has a better value: it finished "
            "since, or its files were refused."
        )
    rows = html.flatten(provenance.as_json())
    return note + html.table("Provenance of the export", ["key", "value"], rows, texts=[1])
