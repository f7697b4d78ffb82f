from __future__ import annotations

import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.data import ranks, shared
from glrnn_hpc.data.hdf5_access import open_collectively
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.errors import DataError, LaunchError

#: With 4 ranks: nothing to read, less than a sample each, uneven parts, even parts.
SIZES = {"0.1e6/drained": 0, "0.2e6/drained": 1, "0.2e6/undrained": 2, "0.5e6/drained": 7, "1.0e6/drained": 12}
LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": True},
    "gzip": {"chunks": True, "compression": "gzip", "shuffle": True},
}


def write(path: Path, layout: str, dtype: str = "float64", sizes: dict[str, int] = SIZES) -> Path:
    """Write a file by plain h5py."""
    rng = np.random.default_rng(3)
    with h5py.File(path, "w") as file:
        for name, n in sizes.items():
            arrays = {"contact_params": (n, 5), "inputs": (n, 11, 3), "outputs": (n, 11, 7)}
            for kind, shape in arrays.items():
                options = LAYOUTS[layout] if n else {}
                file.create_dataset(f"{name}/{kind}", data=rng.normal(size=shape), dtype=dtype, **options)
    return path


def fingerprint(data: DemData) -> dict[str, str]:
    """Return hashes of all arrays of each group and of the moments."""
    found = {}
    for name, (stack, rows) in data.locations.items():
        arrays = [stack.inputs[rows], stack.params[rows], stack.outputs[rows]]
        for moments in (stack.input_moments, stack.output_moments):
            arrays += [moments.mean[rows], moments.m2[rows]]
        found[name] = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_number_of_ranks_reads_the_same_bits(layout: str, dtype: str, world: ranks.Ranks, node, folder: Path):
    path = folder / "data.hdf5"
    if world.rank == 0:
        write(path, layout, dtype)
    world.barrier()
    found, alone = read_data(path, node=node), read_data(path)
    assert fingerprint(found) == fingerprint(alone)
    assert len(set(map(str, world.allgather(fingerprint(found))))) == 1
    with h5py.File(path) as file:
        for name in SIZES:
            np.testing.assert_array_equal(found.groups[name].outputs, file[name]["outputs"][...].astype("float32"))
            assert not found.groups[name].outputs.flags.writeable
    world.barrier()


def test_two_samples_on_four_ranks_do_not_hang(world: ranks.Ranks, node, folder: Path):
    path = folder / "data.hdf5"
    if world.rank == 0:
        write(path, "gzip", sizes={"0.2e6/drained": 2})
    world.barrier()
    assert fingerprint(read_data(path, node=node)) == fingerprint(read_data(path))
    world.barrier()


def test_several_reads_of_a_data_set_give_the_same(world: ranks.Ranks, node, folder: Path, monkeypatch):
    path = folder / "data.hdf5"
    if world.rank == 0:
        write(path, "chunked")
    world.barrier()
    whole = fingerprint(read_data(path))
    monkeypatch.setattr(shared, "_BYTES_PER_READ", 700)
    assert fingerprint(read_data(path, node=node)) == whole
    world.barrier()


def test_moments_are_those_of_the_sequences(world: ranks.Ranks, node, folder: Path):
    path = folder / "data.hdf5"
    if world.rank == 0:
        write(path, "contiguous")
    world.barrier()
    data = read_data(path, node=node)
    stack, rows = data.rows(["0.5e6/drained", "1.0e6/drained"])
    values = stack.outputs[rows].astype("float64")
    mean, std = stack.output_moments.merged(np.random.default_rng(0).permutation(rows))
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1)), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(std, values.std(axis=(0, 1)), rtol=1e-12)
    assert len(set(world.allgather((mean.tobytes(), std.tobytes())))) == 1


def test_a_file_that_is_missing_is_one_error_on_all_ranks(node: ranks.Ranks, folder: Path):
    with pytest.raises(DataError, match="there is no such file") as caught:
        read_data(folder / "none.hdf5", node=node)
    assert caught.value.is_agreed


def test_a_damaged_part_ends_all_ranks_with_one_message(world: ranks.Ranks, node, folder: Path):
    path = folder / "data.hdf5"
    if world.rank == 0:
        with h5py.File(write(path, "gzip", sizes={"0.2e6/drained": 1}), "a") as file:
            group = file.create_group("0.5e6/drained")
            rng = np.random.default_rng(3)
            for kind, shape in (("contact_params", (12, 5)), ("inputs", (12, 11, 3)), ("outputs", (12, 11, 7))):
                group.create_dataset(kind, data=rng.normal(size=shape), chunks=(1, *shape[1:]), compression="gzip")
            # The last sample alone: it is the last rank's to read.
            place = group["outputs"].id.get_chunk_info(11)
        content = bytearray(path.read_bytes())
        content[place.byte_offset + 10 : place.byte_offset + place.size - 10] = bytes(place.size - 20)
        path.write_bytes(content)
    world.barrier()
    with pytest.raises(DataError, match="0.5e6/drained/outputs is damaged") as caught:
        read_data(path, node=node)
    assert len(set(world.allgather(str(caught.value)))) == 1


# Of one group the values alone are cut off, of several the places of some of them too.
@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"0.2e6/drained": 9}, "was changed or removed while it was read"), (SIZES, "is damaged; copy or parse it again")],
)
def test_a_file_that_is_cut_off_while_it_is_read_is_an_error_of_all(
    sizes: dict[str, int], message: str, world: ranks.Ranks, node, folder: Path, monkeypatch
):
    path = folder / "data.hdf5"
    if world.rank == 0:
        write(path, "contiguous", sizes=sizes)
    world.barrier()

    def open_and_cut(*arguments: Any, **options: Any) -> h5py.File:
        file = open_collectively(*arguments, **options)
        node.barrier()
        if node.rank == 0:
            os.truncate(path, path.stat().st_size // 2)
        node.barrier()
        return file

    monkeypatch.setattr(shared, "open_collectively", open_and_cut)
    with pytest.raises(DataError, match=message) as caught:
        read_data(path, node=node)
    assert caught.value.is_agreed


def test_too_little_shared_memory_is_said_before_it_is_used(world: ranks.Ranks, node, folder: Path, monkeypatch):
    path = folder / "data.hdf5"
    if world.rank == 0:
        write(path, "contiguous")
    world.barrier()
    n_bytes = sum(SIZES.values()) * (4 * (5 + 11 * 3 + 11 * 7) + 2 * 8 * (3 + 7))

    def left(n: int) -> None:
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=n, f_frsize=1))

    left(n_bytes)
    read_data(path, node=node)
    left(n_bytes - 1)
    if node.size == 1:
        read_data(path, node=node)
        return
    with pytest.raises(LaunchError, match=r"/dev/shm has 0 MB left.*--ranks-per-worker 1") as caught:
        read_data(path, node=node)
    assert caught.value.is_agreed


def test_nan_is_named_by_its_sample_whoever_reads_it(world: ranks.Ranks, node, folder: Path):
    path = folder / "data.hdf5"
    if world.rank == 0:
        with h5py.File(write(path, "contiguous"), "a") as file:
            file["1.0e6/drained/inputs"][10, 4, 2] = np.nan
    world.barrier()
    with pytest.raises(DataError, match=r"1\.0e6/drained/inputs holds NaN .* in e_z of sample 10"):
        read_data(path, node=node)
