"""Style of the figures: colours that colour-blind readers can tell apart, markers, scales, legends, short texts."""

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

WIDTH = 9.6  # inches; a page of 1000 pixels shows such a figure at its natural size
DPI = 120

#: Colour, marker and filling of each state of a trial: colour is never the only difference.
STATES = {
    "finished": (BLUE, "o", True),
    "pruned": (ORANGE, "v", True),
    "failed": (VERMILION, "x", True),
    "running": (GREEN, "s", False),
}

#: Ratio of the largest to the smallest value above which an axis is logarithmic.
_LOG_RATIO = 8


class FigureNotApplicable(GlrnnError):
    """The sweep has nothing that a figure could show, or nothing yet; the message says what is missing."""


@dataclass(frozen=True)
class CaptionedFigure:
    """Figure with its contents in words, `alt`, for readers who cannot see it, and a caption for all."""

    figure: Figure
    alt: str
    caption: str


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of a size in inches; its parts make room for each other."""
    return Figure(figsize=(width, height), layout="constrained")


@contextlib.contextmanager
def without_formulas() -> Iterator[None]:
    """Draw and save figures with names as users wrote them: a $ begins no formula."""
    with mpl.rc_context({"text.parse_math": False}):
        yield


def marker_of(state: str) -> dict[str, Any]:
    """Return the arguments of `plot` for the marker of a state."""
    colour, marker, is_filled = STATES[state]
    return {"color": colour, "marker": marker, "markerfacecolor": colour if is_filled else "white", "ls": "none"}


def legend_below(figure: Figure, handles: Iterable[Line2D | Any]) -> None:
    """Put a legend below the axes, where it covers nothing."""
    shown = list(handles)
    figure.legend(handles=shown, loc="outside lower center", ncols=min(5, len(shown)), fontsize="small", frameon=False)


def is_log_scaled(values: Iterable[float]) -> bool:
    """Whether the values are positive and span so much that only a logarithmic axis shows all of them."""
    numbers = list(values)
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) > _LOG_RATIO


def scale_log(axis: Any) -> None:
    """Make an axis (of the x or y kind) logarithmic, with plain numbers that also name parts of a decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_formatter(NullFormatter())


def shorten(value: Any, length: int = 14) -> str:
    """Return a value in at most `length` characters: four digits of a number, or the beginning of a text."""
    if isinstance(value, list):
        text = "+".join(map(str, value))
    elif not isinstance(value, float):
        text = str(value)
    else:
        text = f"{value + 0.0:.4g}"  # 0 in place of -0
    return text if len(text) <= length else f"{text[: length - 1]}…"


def wrap_name(name: str, length: int = 14) -> str:
    """Break a name at its underscores into lines of at most `length` characters; a longer part is cut."""
    lines: list[str] = []
    for part in name.replace("_", "_\0").split("\0"):
        if lines and len(lines[-1]) + len(part) <= length:
            lines[-1] += part
        else:
            lines.append(shorten(part, length + 2))
    return "\n".join(lines)
