from __future__ import annotations

import logging
from pathlib import Path

import h5py
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


def test_data_in_several_files_are_read_where_they_lie(
    world: ranks.Ranks, node: ranks.Ranks, folder: Path, caplog: pytest.LogCaptureFixture
):
    path, shape = folder / "data.hdf5", (6, 5, 2)
    if world.rank == 0:
        layout = h5py.VirtualLayout(shape, "f4")
        with h5py.File(path, "w") as file, h5py.File(folder / "linked.hdf5", "w") as linked:
            for half, samples in enumerate((slice(0, 3), slice(3, 6))):
                with h5py.File(folder / f"half-{half}.hdf5", "w") as source:
                    source["part"] = np.full((3, 5, 2), half + 1, "f4")
                layout[samples] = h5py.VirtualSource(f"half-{half}.hdf5", "part", (3, 5, 2))
            file["0.2e6/drained/contact_params"] = np.ones((6, 2))
            linked["inputs"] = np.full((6, 5, 3), 3.0)
            file["0.2e6/drained/inputs"] = h5py.ExternalLink("linked.hdf5", "inputs")
            file["0.2e6/drained"].create_virtual_dataset("outputs", layout)
        (folder / "scratch").mkdir()
    world.barrier()
    with caplog.at_level(logging.INFO), staged(path, str(folder / "scratch"), node) as copy:
        assert copy == path
        group = read_data(path, node=node, copy=copy).groups["0.2e6/drained"]
    np.testing.assert_array_equal(group.outputs, np.repeat([1, 2], 3)[:, None, None] * np.ones(shape))
    assert (group.inputs == 3).all()
    assert ("data.hdf5 has values in other files" in caplog.text) == (node.rank == 0)
    world.barrier()
