"""Tables of experiments are read by the names of their columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from glrnn_hpc.calibration.observation_table import read_table
from glrnn_hpc.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        "# e_z q\n0 1\n0.5 2\n",
        "e_z,q\n0,1\n0.5,2\n",
        "#e_z\tq\n0\t1\n\n0.5\t2 # last\n",
        "e_z; q;\n0; 1;\n0.5; 2;\n",
        '"e_z","q"\n"0",1\n0.5,2\n',
        '"e_z" "q"\n0 1\n0.5 2\n',
    ],
)
def test_columns_are_read_by_the_names_in_the_first_line(tmp_path: Path, text: str):
    (tmp_path / "test.dat").write_text(text)
    columns = read_table(tmp_path / "test.dat")
    assert {name: values.tolist() for name, values in columns.items()} == {"e_z": [0, 0.5], "q": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("0 1\n0.5 2\n", "first line must name the columns, such as `# e_z e p q`; it is `0 1`"),
        ("e_z q q\n0 1 1\n", "more than one column q"),
        ("e_z q\n0 1\n0.5\n", r"line 3 has 1 values, the first line names 2 columns \(e_z, q\)"),
        ("e_z,q\n0,1\n0.5,\n", "line 3, column q: an empty field is not a finite number"),
        ("e_z q\n0 1\n0.5 nan\n", "line 3, column q: nan is not a finite number"),
        ("e_z q\n0 1\n0.5 1,5\n", "line 3"),
        ("e_z q\n0 1\n0.5 x\n", "line 3, column q: x is not a finite number"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_line(tmp_path: Path, text: str, message: str):
    (tmp_path / "test.dat").write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "test.dat")


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path):
    (tmp_path / "test.dat").write_bytes(b"\xff\xfe\x00")
    for name in ("test.dat", "other.dat"):
        with pytest.raises(DataError, match="cannot be read as text"):
            read_table(tmp_path / name)
