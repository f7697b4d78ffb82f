from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from glrnn_hpc.data import ranks
from glrnn_hpc.data.shared import read_data
from glrnn_hpc.data.staging import staged
from glrnn_hpc.errors import DataError


def test_all_ranks_read_one_copy_that_goes_afterwards(node: ranks.Ranks, folder: Path, monkeypatch: pytest.MonkeyPatch):
    original = Path("tests/data/triaxial.hdf5")
    monkeypatch.setenv("GLRNN_SCRATCH", str(folder))
    with staged(original, "$GLRNN_SCRATCH", node) as copy:
        assert copy.parent.parent == folder
        assert set(node.allgather(str(copy))) == {str(copy)}
        data = read_data(original, node=node, copy=copy)
    node.barrier()
    assert list(folder.iterdir()) == []
    assert data.schema.path == original
    direct = read_data(original, node=node)
    for name, group in direct.groups.items():
        np.testing.assert_array_equal(data.groups[name].outputs, group.outputs)


@pytest.mark.parametrize(
    ("scratch", "reason"),
    [("$GLRNN_NO_SUCH_VARIABLE/x", "this node has no such variable"), ("/no/such/folder", "No such file or directory")],
)
def test_without_a_scratch_folder_the_file_itself_is_read(
    scratch: str, reason: str, node: ranks.Ranks, caplog: pytest.LogCaptureFixture
):
    original = Path("tests/data/triaxial.hdf5")
    with caplog.at_level(logging.WARNING), staged(original, scratch, node) as copy:
        assert copy == original
    assert (reason in caplog.text) == (node.rank == 0)


def test_a_copy_that_cannot_be_whole_leaves_nothing(node: ranks.Ranks, folder: Path):
    with staged(folder / "missing.hdf5", str(folder), node) as copy:
        assert copy == folder / "missing.hdf5"
        with pytest.raises(DataError, match="missing.hdf5: there is no such file"):
            read_data(copy, node=node)
    node.barrier()
    assert list(folder.iterdir()) == []
