"""The tree of the package in docs/architecture.md is that of its modules."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import glrnn_hpc

PACKAGE = Path(glrnn_hpc.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"


def described() -> list[tuple[str, str]]:
    """Return the path of each module in the page's block `text tree`, with what is said of it."""
    (block,) = re.findall(r"^```text tree\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line.split(maxsplit=1) for line in block.splitlines() if line.strip()]
    assert [line for line in lines if len(line) != 2] == [], "each line is a path and a description"
    return [(path, description) for path, description in lines]


def test_each_module_has_one_line_in_the_tree_and_each_line_a_module():
    listed = Counter(path for path, _ in described())
    modules = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert sorted(set(modules) - set(listed)) == [], "modules without a line in docs/architecture.md"
    assert sorted(set(listed) - set(modules)) == [], "lines of docs/architecture.md without a module"
    assert [path for path, count in listed.items() if count > 1] == []
