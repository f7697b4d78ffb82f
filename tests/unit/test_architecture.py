"""The page on the architecture is held against the package: its tree, the files it names, its layers."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "glrnn_hpc"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def fenced(marker: str) -> list[str]:
    """Return the lines of the blocks of code whose fence has this marker."""
    blocks = re.findall(rf"^```{marker}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def modules() -> set[str]:
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    return {path for path in found if not path.endswith("__init__.py")}


def layers() -> list[set[str]]:
    listed = re.findall(r"^layers = \[\n(.*?)^\]", PROJECT, flags=re.DOTALL | re.MULTILINE)[0]
    return [set(re.split(r" [|:] ", line)) for line in re.findall(r'"([^"]+)"', listed)]


def test_the_tree_of_the_page_has_every_module_of_the_package_once_and_says_what_it_is() -> None:
    rows = [line.split(maxsplit=1) for line in fenced("text tree")]
    assert sorted(row[0] for row in rows) == sorted(modules())
    assert [row for row in rows if len(row) < 2] == []


def test_every_file_that_the_page_names_exists() -> None:
    named = {name for name in re.findall(r"`([a-z_/]+\.py)`", PAGE) if "/" in name or (PACKAGE / name).exists()}
    assert len(named) > 20
    assert [name for name in sorted(named) if not (PACKAGE / name).exists()] == []


def test_the_drawing_of_the_layers_names_all_of_them_from_the_top_to_the_bottom() -> None:
    drawn = [line.split("  ") for line in fenced("text layers")]
    places = {name: row for row, line in enumerate(drawn) for name in line if name}
    order = layers()
    compatibility = {"results", "preprocessor"}  # old import paths; nothing stands on them
    assert {name for layer in order for name in layer} - compatibility <= set(places)
    heights = [[places[name] for name in layer - compatibility] for layer in order]
    for upper, lower in zip(heights, heights[1:], strict=False):
        assert not (upper and lower) or max(upper) <= min(lower)
