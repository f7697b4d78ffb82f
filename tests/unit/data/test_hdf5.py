"""The HDF5 file of DEM data is written whole, read as written, and refused by name when it is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from glrnn_hpc.data import hdf5, shared
from glrnn_hpc.errors import DataError
from tests.conftest import CONTACT_KEYS, INPUT_KEYS

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
NAMES: dict[str, Any] = {"contact_params": ["E", "v"], "inputs": ["e_x", "e_y", "e_z"], "outputs": ["e", "p"]}
GROUPS = ("0.2e6/drained", "0.2e6/undrained", "1.0e6/drained")


def _arrays(n_samples: int = 3, n_steps: int = 4, offset: float = 0) -> Arrays:
    """Every value of the inputs is its step, of the outputs its sample, of the parameters its column (+ offset)."""
    inputs = np.broadcast_to(np.arange(n_steps)[None, :, None], (n_samples, n_steps, 3))
    outputs = np.broadcast_to(np.arange(n_samples)[:, None, None], (n_samples, n_steps, 2))
    return np.tile([0.0, 1.0], (n_samples, 1)) + offset, inputs + offset, outputs + offset


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "data.hdf5"
    # Not in the order of their names, as a caller may give them.
    hdf5.write_file(target, {name: _arrays(offset=10 * GROUPS.index(name)) for name in reversed(GROUPS)}, **NAMES)
    return target


def test_what_was_written_is_read(path: Path) -> None:
    data = shared.read_data(path)
    assert tuple(data.groups) == GROUPS
    for number, name in enumerate(GROUPS):
        group = data.groups[name]
        for read, written in zip((group.params, group.inputs, group.outputs), _arrays(offset=10 * number), strict=True):
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, written)


def test_the_schema_tells_names_and_shapes(path: Path) -> None:
    schema = hdf5.read_schema(path)
    assert schema.path == path
    assert (schema.contact_params, schema.inputs, schema.outputs) == (("E", "v"), ("e_x", "e_y", "e_z"), ("e", "p"))
    assert tuple(group.name for group in schema.groups) == GROUPS
    assert schema.groups[0] == hdf5.GroupShape("0.2e6/drained", "0.2e6", "drained", 3, 4, 3, 2, 2)


def test_a_file_without_attributes_gets_the_usual_names(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "plain.hdf5", "w") as file:
        group = file.create_group("0.2e6/drained")
        for name, shape in (("contact_params", (2, 5)), ("inputs", (2, 4, 3)), ("outputs", (2, 4, 2))):
            group.create_dataset(name, data=np.zeros(shape))
    schema = hdf5.read_schema(tmp_path / "plain.hdf5")
    assert schema.contact_params == CONTACT_KEYS
    assert schema.inputs == INPUT_KEYS
    # Two columns are not the usual seven outputs, so that they have no known names.
    assert len(set(schema.outputs)) == 2


@pytest.mark.parametrize(
    ("pressure", "experiment_type", "expected"),
    [
        ("All", "All", GROUPS),
        ("0.2e6", "All", GROUPS[:2]),
        (0.2e6, "All", GROUPS[:2]),
        (200000, "drained", GROUPS[:1]),
        ("2e5", "drained", GROUPS[:1]),
        (["1.0e6", 200000.00000000003], "drained", (GROUPS[0], GROUPS[2])),
        ("All", ["undrained"], GROUPS[1:2]),
        ("all", "Undrained", GROUPS[1:2]),
        ("0.2E6", ["ALL"], GROUPS[:2]),
    ],
)
def test_groups_are_chosen_by_name_then_by_value(
    path: Path, pressure: Any, experiment_type: Any, expected: tuple[str, ...]
) -> None:
    chosen = hdf5.select_groups(hdf5.read_schema(path), pressure, experiment_type)
    assert tuple(group.name for group in chosen) == expected
    assert tuple(shared.read_data(path, pressure, experiment_type).groups) == expected


@pytest.mark.parametrize(
    ("pressure", "experiment_type", "message"),
    [
        ("0.3e6", "All", r"no pressure '0\.3e6'; there are 0\.2e6, 1\.0e6"),
        (5.0, "All", r"no pressure 5\.0; there are"),
        ("All", "draned", r"no experiment_type 'draned'; there are drained, undrained\. did you mean drained"),
        ("1.0e6", "undrained", r"no group has.*there are 0\.2e6/drained, 0\.2e6/undrained, 1\.0e6/drained"),
    ],
)
def test_a_group_that_is_not_there_is_refused_and_the_others_are_listed(
    path: Path, pressure: Any, experiment_type: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        hdf5.select_groups(hdf5.read_schema(path), pressure, experiment_type)


def _without_inputs(file: h5py.File) -> None:
    del file["0.2e6/drained/inputs"]


def _other_samples(file: h5py.File) -> None:
    del file["0.2e6/drained/outputs"]
    file["0.2e6/drained/outputs"] = np.zeros((2, 4, 2))


def _other_steps(file: h5py.File) -> None:
    del file["0.2e6/drained/outputs"]
    file["0.2e6/drained/outputs"] = np.zeros((3, 5, 2))


def _no_steps(file: h5py.File) -> None:
    for kind, n_columns in (("inputs", 3), ("outputs", 2)):
        del file[f"0.2e6/drained/{kind}"]
        file[f"0.2e6/drained/{kind}"] = np.zeros((3, 0, n_columns))


def _flat_inputs(file: h5py.File) -> None:
    del file["0.2e6/drained/inputs"]
    file["0.2e6/drained/inputs"] = np.zeros((3, 4))


def _too_many_names(file: h5py.File) -> None:
    file.attrs["outputs"] = ["e", "p", "q"]


def _data_set_on_top(file: h5py.File) -> None:
    file["0.1e6"] = np.zeros(3)


def _group_as_inputs(file: h5py.File) -> None:
    del file["0.2e6/drained/inputs"]
    file.create_group("0.2e6/drained/inputs")


def _link_as_inputs(file: h5py.File) -> None:
    del file["0.2e6/drained/inputs"]
    file["0.2e6/drained/inputs"] = h5py.SoftLink("/nowhere")


def _link_on_top(file: h5py.File) -> None:
    file["0.1e6"] = h5py.SoftLink("/nowhere")


def _nothing(file: h5py.File) -> None:
    for name in list(file):
        del file[name]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_inputs, "0.2e6/drained has no `inputs`; it has contact_params, outputs"),
        (_other_samples, "0.2e6/drained has different numbers of samples"),
        (_other_steps, "0.2e6/drained has 4 steps of inputs, but 5 of outputs"),
        (_no_steps, "0.2e6/drained has 3 samples without any steps"),
        (_flat_inputs, r"0.2e6/drained/inputs has shape \(3, 4\); 3 dimensions"),
        (_too_many_names, "outputs names 3 columns, the data have 2"),
        (_data_set_on_top, "0.1e6 is a data set"),
        (_group_as_inputs, "0.2e6/drained has no `inputs`; it has contact_params, outputs"),
        (_link_as_inputs, "0.2e6/drained/inputs is a link to nothing"),
        (_link_on_top, "0.1e6 is a link to nothing"),
        (_nothing, "holds no group"),
    ],
)
def test_a_file_of_another_structure_is_refused(path: Path, spoil: Callable[[h5py.File], None], message: str) -> None:
    with h5py.File(path, "a") as file:
        spoil(file)
    with pytest.raises(DataError, match=message):
        hdf5.read_schema(path)


def test_a_missing_a_truncated_and_a_foreign_file_are_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.hdf5: there is no such file"):
        hdf5.read_schema(tmp_path / "none.hdf5")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"data\.hdf5: is truncated or no HDF5"):
        hdf5.read_schema(path)
    path.write_text("E,v\n1,2\n")
    with pytest.raises(DataError, match=r"data\.hdf5: is truncated or no HDF5"):
        shared.read_data(path)


def test_values_that_are_no_numbers_are_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["0.2e6/drained/inputs"]
        file["0.2e6/drained/inputs"] = np.full((3, 4, 3), b"soft")
    with pytest.raises(DataError, match=r"data\.hdf5: 0\.2e6/drained/inputs cannot be read as numbers: it is of type"):
        shared.read_data(path)


@pytest.mark.parametrize("signature", [b"HEAP", b"SNOD", b"TREE"])
def test_a_damaged_file_is_named_whatever_part_of_it_is_damaged(path: Path, signature: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(signature, b"XXXX"))
    with pytest.raises(DataError, match=r"data\.hdf5: (is damaged|0\.2e6/drained cannot be read|is truncated)"):
        shared.read_data(path)


@pytest.mark.parametrize("dtype", ["int32", "floaty"])
def test_another_precision_is_refused(path: Path, dtype: str) -> None:
    with pytest.raises(DataError, match=f"dtype='{dtype}'; choose float32 or float64"):
        hdf5.write_file(path, {"0.2e6/drained": _arrays()}, dtype=dtype, **NAMES)


def test_a_place_that_cannot_be_written_is_named(path: Path) -> None:
    with pytest.raises(DataError, match=r"out\.hdf5: cannot be written"):
        hdf5.write_file(path / "out.hdf5", {"0.2e6/drained": _arrays()}, **NAMES)
    with pytest.raises(DataError, match="cannot be written"):
        hdf5.write_file(path.parent, {"0.2e6/drained": _arrays()}, **NAMES)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_same_data_give_the_same_bytes(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.hdf5"
    hdf5.write_file(again, {name: _arrays(offset=10 * number) for number, name in enumerate(GROUPS)}, **NAMES)
    assert again.read_bytes() == path.read_bytes()


def test_a_write_that_fails_leaves_the_older_file_and_nothing_else(path: Path) -> None:
    before = path.read_bytes()
    params, inputs, _ = _arrays()
    with pytest.raises(ValueError, match="could not convert"):
        hdf5.write_file(path, {"0.2e6/drained": (params, inputs, np.array([["x"]]))}, **NAMES)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_chunks_hold_whole_samples_and_are_compressed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "data.hdf5"
    hdf5.write_file(path, {"0.2e6/drained": _arrays(n_samples=500, n_steps=101)}, **NAMES)
    with h5py.File(path) as file:
        inputs = file["0.2e6/drained/inputs"]
        assert inputs.chunks[1:] == inputs.shape[1:]
        assert 1 <= inputs.chunks[0] < 500
        assert inputs.compression == "gzip"


def test_double_precision_and_more_data_sets_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    samples = np.array([4, 2, 7])
    hdf5.write_file(
        path, {"0.2e6/drained": _arrays()}, dtype="float64", extra={"0.2e6/drained": {"samples": samples}}, **NAMES
    )
    with h5py.File(path) as file:
        assert file["0.2e6/drained/inputs"].dtype == "float64"
        np.testing.assert_array_equal(file["0.2e6/drained/samples"], samples)
    assert shared.read_data(path).groups["0.2e6/drained"].inputs.dtype == np.float32


def test_a_group_without_samples_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    hdf5.write_file(path, {"0.2e6/drained": _arrays(n_samples=0)}, **NAMES)
    assert shared.read_data(path).groups["0.2e6/drained"].inputs.shape == (0, 4, 3)


def test_moments_of_a_selection_have_the_same_bits_in_any_order() -> None:
    values = np.random.default_rng(0).normal(size=(50, 7, 3))
    moments = shared.stack_arrays(values, np.zeros((50, 1)), values).output_moments
    rows = np.arange(3, 50)
    expected = [values.tobytes() for values in moments.merged(rows)]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(rows)
        assert [values.tobytes() for values in moments.merged(order)] == expected


def test_moments_of_long_sequences_have_the_same_bits_for_any_number_of_threads() -> None:
    program = (
        "import hashlib, numpy as np; from glrnn_hpc.data.shared import stack_arrays; rng = np.random.default_rng(0);"
        "stack = stack_arrays(rng.normal(size=(2, 20000, 10)), np.zeros((2, 1)), rng.normal(size=(2, 20000, 50)));"
        "every = (stack.input_moments, stack.output_moments);"
        "print(hashlib.sha256(b''.join(each.mean.tobytes() + each.m2.tobytes() for each in every)).hexdigest())"
    )
    found = set()
    for n_threads in ("1", "2", "4"):
        variables = {**os.environ, "OMP_NUM_THREADS": n_threads, "OPENBLAS_NUM_THREADS": n_threads}
        found.add(
            subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, check=True).stdout
        )
    assert len(found) == 1
