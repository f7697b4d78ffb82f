"""Provenance of an export: what is written is read again, of this version and of earlier ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.records.provenance import Column, LabelError, Provenance, read_provenance, write_provenance
from glrnn_hpc.surrogate import shipped


def written(path: Path, content: Any) -> Path:
    layout.write_json(path, content)
    return path


FILES = [
    # Of a single model, as version 0.1.0 wrote it.
    (Path(__file__).parent / "provenance_0_1_0.json", 1),
    *((layout.RunFolder(shipped.FOLDER / name).provenance, 2) for name in shipped.names()),
]


@pytest.mark.parametrize(("path", "form"), FILES, ids=lambda each: each.parent.name if isinstance(each, Path) else "")
def test_the_provenance_of_a_single_model_and_of_ensembles_is_read_and_written_again_as_it_was(
    path: Path, form: int, tmp_path: Path
):
    provenance = read_provenance(path)
    content = json.loads(path.read_text())
    assert (provenance.format, provenance.trial) == (form, content.get("trial"))
    assert (provenance.ensemble is None) == (form == 1)
    assert [column.name for column in provenance.parameters[:2]] == ["E", "v"]
    assert provenance.parameters[0].range == (content["parameters"][0]["min"], content["parameters"][0]["max"])
    assert provenance.errors["test"]["p"].rmse == content["errors"]["test"]["p"]["rmse"]
    write_provenance(tmp_path / "provenance.json", provenance)
    assert (tmp_path / "provenance.json").read_text() == path.read_text()


def test_parts_that_a_file_lacks_are_empty_and_entries_of_others_stay(tmp_path: Path):
    content = {"errors": {"test": {"q": {"rmse": 0.5}}}, "note": "of the user"}
    provenance = read_provenance(written(tmp_path / "provenance.json", content))
    assert provenance.errors == {"test": {"q": LabelError(rmse=0.5)}}
    assert (provenance.trial, provenance.refused, provenance.parameters) == (None, [], [])
    assert provenance.as_json() == content
    assert Column(name="E", min=1.0).range is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "a mapping is needed, it holds a list"),
        ({"parameters": [1]}, r"parameters\.0: .*write it anew with `glrnn collect`"),
        ({"labels": [{"min": 0, "max": 1}]}, r"labels\.0\.name: Field required"),
        ({"errors": {"test": {"p": {"rmse": "small"}}}}, r"errors\.test\.p\.rmse: "),
        ({"format": "one"}, "format: "),
    ],
)
def test_a_broken_provenance_is_named_with_the_key_that_is_wrong(content: Any, message: str, tmp_path: Path):
    path = written(tmp_path / "provenance.json", content)
    with pytest.raises(RecordError, match=rf"provenance\.json: is broken: {message}"):
        read_provenance(path)


def test_a_format_of_a_later_version_is_refused_with_what_to_do(tmp_path: Path):
    path = written(tmp_path / "provenance.json", {"format": 3})
    with pytest.raises(RecordError, match="has format 3, this version reads formats up to 2; install a later version"):
        read_provenance(path)
    with pytest.raises(FileNotFoundError):
        read_provenance(tmp_path / "nothing.json")


def test_a_record_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="frozen"):
        Provenance().trial = 3  # type: ignore[misc]
