"""How the figures of a report look: colours that colour-blind readers can tell apart, scales, legends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from glrnn_hpc.errors import GlrnnError

# Okabe and Ito's colours. https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, YELLOW, PURPLE, GREY = "#56B4E9", "#F0E442", "#CC79A7", "#8C8C8C"

WIDTH = 9.6  # inches; what a page of 1000 pixels shows at its natural size
DPI = 120

#: Of each state: colour, marker, and whether the marker is filled, so that colour is never the only difference.
STATES = {
    "finished": (BLUE, "o", True),
    "pruned": (ORANGE, "v", True),
    "failed": (VERMILION, "x", True),
    "running": (GREEN, "s", False),
}

#: Ratio of the largest to the smallest value from which on an axis is logarithmic.
_LOG_RATIO = 8


class FigureNotApplicable(GlrnnError):
    """The sweep has nothing that this figure could show, or not yet."""


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure, and what it shows in alt: `alt` for those who cannot see it, `caption` for all."""

    figure: Figure
    alt: str
    caption: str


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of a size in inches whose parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


@contextlib.contextmanager
def without_formulas() -> Iterator[None]:
    """Draw and save figures in which names stand as users wrote them: a $ begins no formula."""
    with mpl.rc_context({"text.parse_math": False}):
        yield


def marker_of(state: str) -> dict[str, Any]:
    """Return the arguments of `plot` for the marker of a state."""
    colour, marker, is_filled = STATES[state]
    return {"color": colour, "marker": marker, "markerfacecolor": colour if is_filled else "white", "ls": "none"}


def legend_below(figure: Figure, handles: Iterable[Line2D | Any]) -> None:
    """Put a legend under the axes, where it covers nothing."""
    shown = list(handles)
    figure.legend(handles=shown, loc="outside lower center", ncols=min(5, len(shown)), fontsize="small", frameon=False)


def is_log_scaled(values: Iterable[float]) -> bool:
    """Whether positive values span so much that only a logarithmic axis shows them all."""
    found = list(values)
    return bool(found) and min(found) > 0 and max(found) / min(found) > _LOG_RATIO


def scale_log(axis: Any) -> None:
    """Make an axis (of the x or y kind) logarithmic, with plain numbers that also name parts of a decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_formatter(NullFormatter())


def shorten(value: Any, length: int = 14) -> str:
    """Return a value in few characters: four digits, or the beginning of a text."""
    if isinstance(value, list):
        text = "+".join(map(str, value))
    elif not isinstance(value, float):
        text = str(value)
    else:
        text = f"{value + 0.0:.4g}"  # 0 in place of -0
    return text if len(text) <= length else f"{text[: length - 1]}…"


def wrap_name(name: str, length: int = 14) -> str:
    """Break a name at its underscores into lines of some characters; a longer part is cut."""
    lines: list[str] = []
    for part in name.replace("_", "_\0").split("\0"):
        if lines and len(lines[-1]) + len(part) <= length:
            lines[-1] += part
        else:
            lines.append(shorten(part, length + 2))
    return "\n".join(lines)
