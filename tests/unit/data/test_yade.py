"""Raw simulations become one HDF5 file, and what is left out is named."""

from __future__ import annotations

import array
import json
import math
import shutil
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.data import hdf5, shared, simulation, yade
from glrnn_hpc.data.unpickle import load_npy
from glrnn_hpc.errors import DataError
from glrnn_hpc.experiments import triaxial
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from tests.conftest import CONTACT_KEYS, INPUT_KEYS, OUTPUT_KEYS

DATA = Path(__file__).parents[2] / "data"
RAW = DATA / "raw"
GROUPS = [f"{pressure}/{kind}" for pressure in ("0.2e6", "0.5e6", "1.0e6") for kind in ("drained", "undrained")]


def _write(
    path: Path, n_steps: int = 5, *, conf: Any = 5.301029995663981, mode: Any = "drained", **changed: Any
) -> Path:
    """Write an oracle file: feature number k has the value k + step / 1000; `changed` replaces values, None removes."""
    constants: dict[str, Any] = {key: float(number) for number, key in enumerate(CONTACT_KEYS)}
    constants |= {"conf": conf, "mode": mode, "num": 250}
    names = (*INPUT_KEYS, *OUTPUT_KEYS)
    features: dict[str, Any] = {
        key: [number + step / 1000 for step in range(n_steps)] for number, key in enumerate(names)
    }
    for key, value in changed.items():
        part = constants if key in constants else features
        if value is None:
            del part[key]
        else:
            part[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array((constants, features), dtype=object))
    return path


def _parse(folder: Path, target: Path, **options: Any) -> yade.ParseReport:
    return yade.convert_all_to_hdf5(
        options.pop("pressures", None), options.pop("types", None), folder, target, **options
    )


def test_the_counts_of_the_real_sample_are_those_of_its_readme(tmp_path: Path) -> None:
    report = _parse(RAW, tmp_path / "out.hdf5")
    assert report.sequence_length == 101
    assert list(report.groups) == GROUPS
    for name, group in report.groups.items():
        n_corrupt = int(name == "0.5e6/drained")
        expected = yade.GroupReport(files=6 + n_corrupt, good=5, trimmed=1, short=1, corrupt=n_corrupt)
        assert group == expected, name
    assert len(report.problems) == 1
    assert "0.5e6/drained/triax_0901.npy: cannot be read" in report.problems[0]
    assert json.loads(json.dumps(report.as_dict()))["groups"]["0.2e6/drained"]["good"] == 5


def test_values_are_those_of_the_raw_files_with_stresses_in_mpa(tmp_path: Path) -> None:
    _parse(RAW, tmp_path / "out.hdf5")
    group = shared.read_data(tmp_path / "out.hdf5").groups["1.0e6/undrained"]
    kept = [
        content
        for content in map(load_npy, sorted((RAW / "1.0e6/undrained").glob("*.npy")))
        if len(content[1]["p"]) > 100
    ]
    for sample, (constants, features) in enumerate(kept):
        np.testing.assert_allclose(group.params[sample], [constants[key] for key in CONTACT_KEYS], rtol=1e-6)
        for column, key in enumerate(INPUT_KEYS):
            np.testing.assert_allclose(group.inputs[sample, :, column], features[key][:101], rtol=1e-6)
        for column, key in enumerate(OUTPUT_KEYS):
            raw = np.array(features[key][:101]) / (1e6 if key in ("p", "q") else 1)
            np.testing.assert_allclose(group.outputs[sample, :, column], raw, rtol=1e-6)


def test_the_whole_data_set_holds_491_simulations() -> None:
    schema = hdf5.read_schema(DATA / "triaxial.hdf5")
    assert [group.name for group in schema.groups] == GROUPS
    assert [group.n_samples for group in schema.groups] == [81, 80, 82, 82, 83, 83]
    assert {group.n_steps for group in schema.groups} == {101}


def test_a_flat_folder_gives_the_same_file_whatever_the_names_of_its_folders(tmp_path: Path) -> None:
    for number, path in enumerate(sorted(RAW.rglob("*.npy"))):
        place = tmp_path / "flat" / ("below" if number % 2 else ".") / f"{number:03}.npy"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    nested = _parse(RAW, tmp_path / "nested.hdf5")
    flat = _parse(tmp_path / "flat", tmp_path / "flat.hdf5", stored_in_subfolders=False)
    assert flat.groups.pop(yade.UNKNOWN_GROUP) == yade.GroupReport(files=1, corrupt=1)
    assert list(flat.groups) == list(nested.groups)
    with h5py.File(tmp_path / "nested.hdf5") as one, h5py.File(tmp_path / "flat.hdf5") as other:
        for name in GROUPS:
            # The order of the files differs between the two layouts, the samples do not.
            rows = [file[f"{name}/contact_params"][...] for file in (one, other)]
            orders = [np.lexsort(values.T) for values in rows]
            np.testing.assert_array_equal(rows[0][orders[0]], rows[1][orders[1]])
            outputs = [file[f"{name}/outputs"][...][order] for file, order in zip((one, other), orders, strict=True)]
            np.testing.assert_array_equal(outputs[0], outputs[1])


def test_the_content_does_not_depend_on_the_order_in_which_files_were_made(tmp_path: Path) -> None:
    for folder, numbers in (("a", [0, 1, 2]), ("b", [2, 0, 1])):
        for number in numbers:
            _write(tmp_path / folder / "0.2e6" / "drained" / f"{number}.npy", E=float(number))
        _parse(tmp_path / folder, tmp_path / f"{folder}.hdf5")
    assert (tmp_path / "a.hdf5").read_bytes() == (tmp_path / "b.hdf5").read_bytes()
    group = shared.read_data(tmp_path / "a.hdf5").groups["0.2e6/drained"]
    np.testing.assert_array_equal(group.params[:, 0], [0, 1, 2])


@pytest.mark.parametrize(
    ("pressure_pa", "name"),
    [
        (200000.00000000003, "0.2e6"),
        (499999.99999999994, "0.5e6"),
        (1e6, "1.0e6"),
        (1.25e7, "12.5e6"),
        (10, "0.00001e6"),
    ],
)
def test_a_pressure_is_named_by_rounding(pressure_pa: float, name: str) -> None:
    assert triaxial.pressure_name(pressure_pa) == name


def test_the_commonest_length_is_taken_longer_ones_trimmed_shorter_ones_left_out(tmp_path: Path) -> None:
    for number, n_steps in enumerate([7, 5, 5, 3]):
        _write(tmp_path / "raw/0.2e6/drained" / f"{number}.npy", n_steps, E=float(number))
    report = _parse(tmp_path / "raw", tmp_path / "out.hdf5")
    assert report.sequence_length == 5
    assert report.groups["0.2e6/drained"] == yade.GroupReport(files=4, good=3, trimmed=1, short=1)
    group = shared.read_data(tmp_path / "out.hdf5").groups["0.2e6/drained"]
    np.testing.assert_array_equal(group.params[:, 0], [0, 1, 2])
    np.testing.assert_allclose(group.inputs[0, :, 1], [1, 1.001, 1.002, 1.003, 1.004], rtol=1e-6)


def test_a_given_length_is_kept(tmp_path: Path) -> None:
    _write(tmp_path / "raw/0.2e6/drained/1.npy", 9)
    report = _parse(tmp_path / "raw", tmp_path / "out.hdf5", sequence_length=4)
    assert report.groups["0.2e6/drained"] == yade.GroupReport(files=1, good=1, trimmed=1)
    assert hdf5.read_schema(tmp_path / "out.hdf5").groups[0].n_steps == 4


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"mu": None}, "parameters lack mu"),
        ({"q": None}, "features lack q"),
        ({"p": [1.0, math.nan, 1.0, 1.0, 1.0]}, "p hold NaN or infinite"),
        ({"E": math.inf}, "E hold NaN or infinite"),
        ({"e_z": [0.0, 0.1]}, "different lengths"),
        ({"e_z": [[0.0], [0.1, 0.2]]}, "e_z holds values that are no numbers, or is ragged"),
        ({"e_z": 1.0}, r"e_z has shape \(\)"),
        ({"kr": [1.0, 2.0]}, r"kr has shape \(2,\)"),
        ({"a_c": ["x"] * 5}, "a_c holds values that are no numbers"),
        ({"p": np.ma.array([1.0] * 5, mask=[0, 0, 1, 0, 0])}, "p holds masked values"),
        ({"p": np.full(5, 1 + 1j)}, "p holds complex numbers"),
        ({"p": [1 + 1j] * 5}, "p holds complex numbers"),
        ({"p": np.zeros(5, "m8[s]")}, "p holds time spans"),
        ({"p": frozenset({1.0})}, "p holds values that are no numbers"),
    ],
)
def test_a_broken_file_is_left_out_counted_and_named(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    _write(tmp_path / "raw/0.2e6/drained/good.npy")
    bad = _write(tmp_path / "raw/0.2e6/drained/bad.npy", **changed)
    report = _parse(tmp_path / "raw", tmp_path / "out.hdf5")
    assert report.groups["0.2e6/drained"] == yade.GroupReport(files=2, good=1, corrupt=1)
    assert len(report.problems) == 1
    with pytest.raises(DataError, match=reason) as caught:
        simulation.read_simulation(bad, simulation.RawKeys(CONTACT_KEYS, INPUT_KEYS, OUTPUT_KEYS), TRIAXIAL)
    assert report.problems[0] == str(caught.value)
    assert str(bad) in report.problems[0]


@pytest.mark.parametrize(
    "values",
    [
        deque([1.0, 2.0, 3.0, 4.0, 5.0]),
        range(1, 6),
        array.array("d", [1.0, 2.0, 3.0, 4.0, 5.0]),
        [Decimal(step) for step in range(1, 6)],
        np.ma.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    ],
    ids=["deque", "range", "array", "Decimal", "masked"],
)
def test_containers_of_numbers_are_taken_for_the_numbers(tmp_path: Path, values: Any) -> None:
    path = _write(tmp_path / "raw.npy", a_c=values)
    keys = simulation.RawKeys(CONTACT_KEYS, INPUT_KEYS, OUTPUT_KEYS)
    outputs = simulation.read_simulation(path, keys, TRIAXIAL).outputs
    np.testing.assert_array_equal(outputs[:, OUTPUT_KEYS.index("a_c")], [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"conf": None}, "lack conf or mode"), ({"conf": math.nan}, "conf=nan"), ({"mode": "a/b"}, "mode='a/b'")],
)
def test_a_flat_file_that_does_not_tell_its_group_is_named(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    _write(tmp_path / "raw/good.npy")
    constants, features = load_npy(_write(tmp_path / "raw/bad.npy"))
    for key, value in changed.items():
        constants[key] = value
        if value is None:
            del constants[key]
    np.save(tmp_path / "raw/bad.npy", np.array((constants, features), dtype=object))
    report = _parse(tmp_path / "raw", tmp_path / "out.hdf5", stored_in_subfolders=False)
    assert report.groups["0.2e6/drained"].good == 1
    assert report.groups[yade.UNKNOWN_GROUP].corrupt == 1
    assert reason in report.problems[0]


def test_a_file_of_a_single_array_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "raw/0.2e6/drained/good.npy")
    np.save(tmp_path / "raw/0.2e6/drained/odd.npy", np.zeros(3))
    assert "odd.npy: two dicts" in _parse(tmp_path / "raw", tmp_path / "out.hdf5").problems[0]


@pytest.mark.parametrize("stored_in_subfolders", [True, False])
def test_only_the_wanted_groups_are_parsed(tmp_path: Path, stored_in_subfolders: bool) -> None:
    options = {"pressures": ["0.5e6"], "types": "undrained", "stored_in_subfolders": stored_in_subfolders}
    _parse(RAW, tmp_path / "out.hdf5", **options)
    assert [group.name for group in hdf5.read_schema(tmp_path / "out.hdf5").groups] == ["0.5e6/undrained"]


@pytest.mark.parametrize("stored_in_subfolders", [True, False])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pressures": ["0.7e6"]}, r"no pressure '0\.7e6'.*there are 0\.2e6, 0\.5e6, 1\.0e6"),
        ({"types": ["draned"]}, r"no experiment type 'draned'; did you mean drained\? there are drained, undrained"),
    ],
)
def test_an_unknown_group_is_refused_and_those_that_exist_are_listed(
    tmp_path: Path, options: dict[str, Any], message: str, stored_in_subfolders: bool
) -> None:
    with pytest.raises(DataError, match=message):
        _parse(RAW, tmp_path / "out.hdf5", stored_in_subfolders=stored_in_subfolders, **options)


def _leave_empty(folder: Path) -> None:
    folder.mkdir()


def _leave_corrupt(folder: Path) -> None:
    _write(folder / "0.2e6/drained/1.npy", mu=None)


def _leave_short(folder: Path) -> None:
    _write(folder / "0.2e6/drained/1.npy", 5)


@pytest.mark.parametrize(
    ("prepare", "length", "message"),
    [
        (lambda _: None, None, "there is no such folder"),
        (_leave_empty, None, r"no \.npy files"),
        (_leave_corrupt, None, "none of 1 files can be used.*lack mu"),
        (_leave_corrupt, 6, "none of 1 files can be used.*lack mu"),
        (_leave_short, 6, "no sequence has 6 steps"),
        (_leave_short, 0, "sequence_length=0"),
    ],
    ids=["missing", "empty", "corrupt", "corrupt, length 6", "short", "length 0"],
)
def test_nothing_usable_is_an_error_and_an_older_output_stays_whole(
    tmp_path: Path, prepare: Callable[[Path], None], length: int | None, message: str
) -> None:
    prepare(tmp_path / "raw")
    target = tmp_path / "out.hdf5"
    target.write_bytes(b"older")
    with pytest.raises(DataError, match=message):
        _parse(tmp_path / "raw", target, sequence_length=length)
    assert target.read_bytes() == b"older"


def test_a_raw_file_is_never_overwritten_by_the_result(tmp_path: Path) -> None:
    _leave_corrupt(tmp_path / "raw")
    raw = next((tmp_path / "raw").rglob("*.npy"))
    before = raw.read_bytes()
    with pytest.raises(DataError, match="is one of the raw files; choose another name"):
        _parse(tmp_path / "raw", raw)
    assert raw.read_bytes() == before


def test_other_columns_and_double_precision_can_be_chosen(tmp_path: Path) -> None:
    target = tmp_path / "out.hdf5"
    _parse(RAW, target, contact_keys=["E", "num"], input_keys=["e_z"], output_keys=["q", "K"], dtype="float64")
    schema = hdf5.read_schema(target)
    assert (schema.contact_params, schema.inputs, schema.outputs) == (("E", "num"), ("e_z",), ("q", "K"))
    with h5py.File(target) as file:
        assert file["0.2e6/drained/outputs"].dtype == "float64"
        assert file["0.2e6/drained/outputs"].shape == (5, 101, 2)
        assert list(file.attrs["unused_keys_constant"]) == ["v", "kr", "eta", "mu", "conf", "mode"]
        left = ["e_x", "e_y", "e", "p", "f0", "a_c", "a_n", "a_t", "dt", "numIter", "A"]
        assert list(file.attrs["unused_keys_sequence"]) == left


@pytest.mark.parametrize("keys", ["contact_keys", "input_keys", "output_keys"])
@pytest.mark.parametrize(("names", "said"), [((), "nothing"), (("e_z", "e_z"), "e_z, e_z")])
def test_no_columns_or_one_twice_are_refused(tmp_path: Path, keys: str, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=f"{keys}={said}; one or more names, each once"):
        _parse(RAW, tmp_path / "out.hdf5", **{keys: names})


def test_the_pressures_are_the_folders_sorted(tmp_path: Path) -> None:
    assert yade.get_pressures(RAW) == ["0.2e6", "0.5e6", "1.0e6"]
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        yade.get_pressures(tmp_path / "nowhere")


def test_a_file_in_the_folder_of_another_group_is_left_out(tmp_path: Path) -> None:
    for place in ("0.2e6/drained", "0.5e6/undrained", "200000/drained"):
        (tmp_path / "raw" / place).mkdir(parents=True)
        raw = next((RAW / "0.2e6/drained").glob("*.npy"))
        (tmp_path / "raw" / place / raw.name).write_bytes(raw.read_bytes())
    report = _parse(tmp_path / "raw", tmp_path / "out.hdf5")
    assert [group.good for group in report.groups.values()] == [1, 0, 1]
    assert len(report.problems) == 1
    assert "lies in 0.5e6/undrained, but its parameters say 0.2e6/drained" in report.problems[0]
