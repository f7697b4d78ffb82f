"""Timeline of the ranks of a sweep: the activity of each rank over time, from the lines that the ranks wrote."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.records.utilisation import read_utilisation
from glrnn_hpc.report import plot_style
from glrnn_hpc.report.plot_style import CaptionedFigure, FigureNotApplicable

#: Colours of the activities of a rank, in the order of the legend: the ones that the allocation is for come first.
KINDS = {
    "fit": plot_style.BLUE,
    "evaluate": plot_style.SKY,
    "trace": plot_style.ORANGE,
    "checkpoint": plot_style.GREEN,
    "track": "#8A6A4F",
    "gap": plot_style.VERMILION,
    "idle": plot_style.YELLOW,
    "wait": plot_style.PURPLE,
    "import": plot_style.GREY,
    "read": "#3D3D3D",
}
_PLACES = {kind: place for place, kind in enumerate(KINDS)}

#: Intervals of a row: as many as a figure of this width has pixels.
_COLUMNS = 1200

#: Number of ranks above which their names are left out.
_MOST_NAMES = 40

Spans = list[tuple[int, float, float]]


def draw_rank_timeline(folder: layout.SweepFolder) -> CaptionedFigure:
    """Draw the activities of all ranks from the first recorded moment to the last one.

    Raises
    ------
    FigureNotApplicable
        If no rank has recorded its time yet.
    """
    rows = read_spans(folder)
    if not rows:
        raise FigureNotApplicable("no rank has written yet how its time went")
    begin = min(span[1] for spans in rows.values() for span in spans)
    end = max(span[2] for spans in rows.values() for span in spans)
    unit, seconds = _unit(end - begin)
    edges = np.linspace(begin, end, _COLUMNS + 1)
    image = np.stack([_majority(spans, edges) for spans in rows.values()])
    n_ranks = len(rows)
    figure = plot_style.new_figure(1.6 + min(6.5, 0.28 * n_ranks))
    axis = figure.subplots()
    # One colour for each kind of activity, and white where nothing is recorded.
    colours = ListedColormap([*KINDS.values(), "white"])
    extent = (0.0, (end - begin) / seconds, n_ranks - 0.5, -0.5)
    axis.imshow(image, aspect="auto", cmap=colours, vmin=0, vmax=len(KINDS), interpolation="nearest", extent=extent)
    if n_ranks <= _MOST_NAMES:
        axis.set_yticks(range(n_ranks), [plot_style.shorten(name, 24) for name in rows], fontsize="small")
        for place in range(1, n_ranks):
            axis.axhline(place - 0.5, color="white", lw=1.5)
    axis.set_ylabel(f"{n_ranks} ranks" if n_ranks > _MOST_NAMES else "worker:rank")
    axis.set_xlabel(f"time since the first rank began [{unit}]")
    totals = {kind: 0.0 for kind in KINDS}
    for _, line in read_utilisation(folder):
        for kind, spent in line.seconds.items():
            totals[kind] = totals.get(kind, 0.0) + spent
    shares = {kind: totals[kind] / sum(totals.values()) for kind in KINDS if totals[kind] > 0}
    texts = {kind: f"{kind} {100 * share:.1f} %" for kind, share in shares.items()}
    plot_style.legend_below(figure, [Patch(color=KINDS[kind], label=text) for kind, text in texts.items()])
    alt = f"What {n_ranks} ranks did in {(end - begin) / seconds:.3g} {unit}: {', '.join(texts.values())}."
    caption = (
        "White: nothing recorded, as the rank had not begun, had ended, or was killed. fit and evaluate are the work."
    )
    return CaptionedFigure(figure, alt, caption)


def read_spans(folder: layout.SweepFolder) -> dict[str, Spans]:
    """Return the spans of each rank, ``worker:rank``: the index of the kind in `KINDS`, begin and end [s since 1970].

    A line without spans, of an earlier version, gives the seconds of its kinds one after the other.
    """
    rows: dict[tuple[str, int], Spans] = {}
    for job, line in read_utilisation(folder):
        parts = line.spans or tuple(line.seconds.items())
        at = line.ended - sum(seconds for _, seconds in parts)
        spans = rows.setdefault((job, line.rank), [])
        for kind, seconds in parts:
            if kind in _PLACES and seconds > 0:
                spans.append((_PLACES[kind], at, at + seconds))
            at += seconds
    return {f"{job}:{rank}": rows[job, rank] for job, rank in sorted(rows) if rows[job, rank]}


def _majority(spans: Spans, edges: NDArray[Any]) -> NDArray[Any]:
    """Return the kind that fills most of each interval between edges, ``len(KINDS)`` where nothing is recorded."""
    kinds, begins, ends = (np.array(column) for column in zip(*spans, strict=True))
    filled = np.zeros((len(KINDS), len(edges) - 1))
    for place in np.unique(kinds):
        # The time of a kind up to a moment grows by one second per second within its spans, and stays between them.
        order = np.argsort(begins[kinds == place])
        begin, end = begins[kinds == place][order], ends[kinds == place][order]
        moments = np.maximum.accumulate(np.stack([begin, end], axis=1).ravel())
        spent = np.stack([np.cumsum(end - begin) - (end - begin), np.cumsum(end - begin)], axis=1).ravel()
        filled[place] = np.diff(np.interp(edges, moments, spent))
    is_empty = filled.sum(axis=0) <= 1e-9
    return np.where(is_empty, len(KINDS), filled.argmax(axis=0))


def _unit(seconds: float) -> tuple[str, float]:
    if seconds >= 3 * 3600:
        return "h", 3600.0
    return ("min", 60.0) if seconds >= 300 else ("s", 1.0)
