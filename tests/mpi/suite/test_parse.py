from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from glrnn_hpc.data import ranks, yade
from glrnn_hpc.errors import DataError

RAW = Path(__file__).parents[2] / "data/raw"


def content(path: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    with h5py.File(path) as file:
        found.update({name: list(values) for name, values in file.attrs.items()})
        file.visititems(lambda name, item: found.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.mark.parametrize("in_folders", [True, False])
def test_the_ranks_write_what_one_would(in_folders: bool, world: ranks.Ranks, folder: Path, monkeypatch):
    monkeypatch.setattr(yade, "_FILES_PER_ROUND", 3)
    together = yade.convert_all_to_hdf5(None, None, RAW, folder / "a.hdf5", None, in_folders, ranks=world)
    alone = yade.convert_all_to_hdf5(None, None, RAW, folder / f"{world.rank}.hdf5", None, in_folders)
    assert (together.groups, together.problems) == (alone.groups, alone.problems)
    found, expected = content(folder / "a.hdf5"), content(folder / f"{world.rank}.hdf5")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
    world.barrier()


def test_wrong_input_is_an_error_of_all_ranks(world: ranks.Ranks, folder: Path):
    with pytest.raises(DataError, match=r"there are no \.npy files"):
        yade.convert_all_to_hdf5(None, None, folder, folder / "a.hdf5", ranks=world)
    with pytest.raises(DataError, match="there is no such folder"):
        yade.convert_all_to_hdf5(None, None, folder / "none", folder / "a.hdf5", ranks=world)
    with pytest.raises(DataError, match="cannot be written"):
        yade.convert_all_to_hdf5(None, None, RAW, "/proc/none/a.hdf5", ranks=world)
