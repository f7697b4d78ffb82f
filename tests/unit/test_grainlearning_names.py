"""The table of names in docs/grainlearning.md, against the installed grainlearning and this package."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("windows", "models", "predict", "preprocessor", "train", "evaluate_model")

#: Private there, but what its own tests call.
CALLED = {"preprocessor.PreprocessorTriaxialCompression._merge_datasets"}


def table() -> dict[str, str | None]:
    """Return the names here by those there; None where there is none."""
    text = (ROOT / "docs" / "grainlearning.md").read_text(encoding="utf-8").partition("\n## Names\n")[2]
    rows = re.findall(r"^\| `([\w.]+)` \| (?:`([\w.]+)`|-) \| ?(.*?) ?\|$", text, re.MULTILINE)
    assert all(reason for _, here, reason in rows if not here)
    return {there: here or None for there, here, _ in rows}


def module_of_grainlearning(name: str) -> ast.Module:
    spec = find_spec("grainlearning")
    assert spec is not None, "GrainLearning is missing: pip install .[calibration]"
    assert spec.origin is not None
    return ast.parse((Path(spec.origin).parent / "rnn" / f"{name}.py").read_text(encoding="utf-8"))


def names_of_grainlearning() -> set[str]:
    names = set(CALLED)
    for module in MODULES:
        tree = module_of_grainlearning(module)
        for node in tree.body:
            if isinstance(node, ast.Assign):
                names |= {f"{module}.{target.id}" for target in node.targets if isinstance(target, ast.Name)}
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(f"{module}.{node.name}")
            if isinstance(node, ast.ClassDef):
                methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
                names |= {f"{module}.{node.name}.{name}" for name in methods}
    return {name for name in names if name in CALLED or not name.rpartition(".")[2].startswith("_")}


def test_the_table_has_every_public_name_of_grainlearning():
    assert table().keys() == names_of_grainlearning()


def test_every_name_of_the_table_is_in_this_package():
    for here in filter(None, table().values()):
        module, *attributes = here.split(".")
        found: object = importlib.import_module(f"glrnn_hpc.{module}")
        for attribute in attributes:
            found = getattr(found, attribute)


@pytest.mark.parametrize("module", MODULES)
def test_functions_take_the_arguments_of_grainlearning_by_the_same_names(module: str):
    ours = importlib.import_module(f"glrnn_hpc.{module}")
    for node in module_of_grainlearning(module).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            names = [argument.arg for argument in node.args.args]
            assert list(inspect.signature(getattr(ours, node.name)).parameters)[: len(names)] == names, node.name


def test_modules_have_the_functions_that_those_of_grainlearning_import_from_each_other():
    """Its own tests call `predict.predict_over_windows`."""
    found = 0
    for module in MODULES:
        ours = importlib.import_module(f"glrnn_hpc.{module}")
        for node in module_of_grainlearning(module).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("grainlearning.rnn."):
                assert all(hasattr(ours, name.name) for name in node.names), module
                found += len(node.names)
    assert found >= 6
