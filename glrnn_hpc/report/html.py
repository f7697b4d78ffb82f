"""HTML of a report: one page that loads nothing, its figures, tables and texts."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glrnn_hpc.report.plot_style import shorten

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1a1a1a; font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 16px; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 8px 0; } h2 { font-size: 1.2rem; margin: 36px 0 8px; }
a { color: #0059a0; }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 20px; list-style: none; padding: 0; margin: 12px 0; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 8px; margin: 12px 0; }
dl div { border: 1px solid #d0d0d0; border-radius: 4px; padding: 8px 12px; }
dt { font-size: .85rem; color: #555; } dd { margin: 0; font-weight: 600; }
figure { margin: 0; } figcaption { color: #444; font-size: .9rem; margin-top: 4px; max-width: 75ch; }
.wide { overflow-x: auto; } .wide:focus-visible { outline: 2px solid #0059a0; }
.wide img { display: block; width: 100%; height: auto; margin: 0 auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
th { overflow-wrap: normal; } thead th { border-bottom: 2px solid #666; } td { overflow-wrap: normal; }
td.text { min-width: 24ch; overflow-wrap: anywhere; }
tr.best td, tr.best th { background: #eaf3fa; }
.left-out { border-left: 4px solid #8c8c8c; padding: 4px 12px; color: #333; }
.fault { border-color: #d55e00; }
"""

#: The page loads nothing and runs no script: a report that is passed on stays as it is.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Section:
    """Section of the page; its name is the anchor."""

    name: str
    title: str
    body: str


def render_page(title: str, head: str, sections: Sequence[Section], foot: str) -> str:
    """Return the whole page."""
    links = "".join(f'<li><a href="#{each.name}">{html.escape(each.title)}</a></li>' for each in sections)
    body = "".join(
        f'<section id="{each.name}" aria-labelledby="{each.name}-title">'
        f'<h2 id="{each.name}-title">{html.escape(each.title)}</h2>{each.body}</section>\n'
        for each in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{html.escape(title)}</h1>\n{head}\n<nav aria-label="Parts of the report"><ul>{links}</ul></nav>\n'
        f"{body}<footer><p>{html.escape(foot)}</p></footer>\n</main>\n</body>\n</html>\n"
    )


def embed_figure(png: bytes, name: str, alt: str, caption: str, least_width: float) -> str:
    """Return a figure embedded in the page; where the page is narrower than `least_width` pixels it is scrolled."""
    data = base64.b64encode(png).decode("ascii")
    image = f'id="figure-{name}" alt="{html.escape(alt)}" style="min-width:{least_width:.0f}px"'
    return (
        f'<figure><div class="wide" tabindex="0" role="region" aria-label="{html.escape(name)}, can be scrolled">'
        f'<img {image} src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def omitted_figure(reason: str, *, is_fault: bool) -> str:
    """Return the text in the place of a figure that could not be drawn."""
    kind = "left-out fault" if is_fault else "left-out"
    return f'<p class="{kind}">Left out: {html.escape(reason)}</p>'


def paragraph(text: str) -> str:
    """Return a text, such as the one in the place of a table without rows."""
    return f"<p>{html.escape(text)}</p>"


def description_list(pairs: Mapping[str, str]) -> str:
    """Return names and values, each in a box."""
    boxes = (f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in pairs.items())
    return f"<dl>{''.join(boxes)}</dl>"


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: Sequence[int] = (), best: int = -1
) -> str:
    """Return a table; it is scrolled where it is wider than the page.

    Parameters
    ----------
    caption : str
        Contents of the table, for readers who cannot see it.
    header : sequence of str
        Headers of the columns.
    rows : iterable of sequences of str
        Cells; the first cell of a row is its header.
    texts : sequence of int
        Columns with long texts, which are broken into lines.
    best : int
        Row that is marked; -1 for none.
    """
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    lines = []
    for number, row in enumerate(rows):
        first, *others = row
        cells = f'<th scope="row">{html.escape(first)}</th>'
        for column, cell in enumerate(others, start=1):
            kind = ' class="text"' if column in texts else ""
            cells += f"<td{kind}>{html.escape(cell)}</td>"
        lines.append(f'<tr class="best">{cells}</tr>' if number == best else f"<tr>{cells}</tr>")
    name = html.escape(caption)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}"><table aria-label="{name}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def flatten(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the values of nested mappings by the paths of their keys; each innermost mapping is one value."""
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and prefix and not any(map(_is_nested, value.values())):
            rows.append((path, _as_one_line(value)))
        elif isinstance(value, Mapping) and value:
            rows += flatten(value, f"{path}.")
        elif isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            for place, each in enumerate(value):
                others = {part: content for part, content in each.items() if part != "name"}
                rows.append((f"{path}.{each.get('name', place)}", _as_one_line(others)))
        elif isinstance(value, list):
            rows.append((path, ", ".join(shorten(each, 80) for each in value) or "none"))
        else:
            rows.append((path, "-" if value is None else shorten(value, 200)))
    return rows


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def _as_one_line(content: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {'-' if value is None else shorten(value, 70)}" for name, value in content.items())
