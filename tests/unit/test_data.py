from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.data import hdf5, inspect, yade
from glrnn_hpc.data.unpickle import load_npy
from glrnn_hpc.errors import DataError
from tests.conftest import DATA, write_steps

RAW = DATA / "raw"


def save(path: Path, params: Any, features: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = np.empty(2, dtype=object)
    content[:] = [params, features]
    np.save(path, content, allow_pickle=True)
    return path


def simulation(n_steps: int = 5, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    params = {**dict.fromkeys(hdf5.CONTACT_KEYS, 0.5), "conf": np.log10(2e5), "mode": "drained", "num": 250}
    features = {key: [float(step) for step in range(n_steps)] for key in (*hdf5.INPUT_KEYS, *hdf5.OUTPUT_KEYS)}
    features |= {key: value for key, value in changes.items() if key in features}
    return {**params, **{key: value for key, value in changes.items() if key in params}}, features


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the payload ran')",))


def test_the_unpickler_refuses_to_run_what_a_file_brings(tmp_path: Path):
    with pytest.raises(DataError, match=r"evil.npy: cannot be read: it asks for builtins.exec, which is not allowed"):
        load_npy(save(tmp_path / "evil.npy", Payload(), {}))


def test_the_unpickler_reads_arrays_scalars_and_plain_arrays(tmp_path: Path):
    loaded = load_npy(save(tmp_path / "a.npy", {"x": np.float64(2), "y": np.arange(3)}, {"z": {1, 2}}))
    assert loaded[0]["x"] == 2
    np.testing.assert_array_equal(loaded[0]["y"], [0, 1, 2])
    np.save(tmp_path / "plain.npy", np.eye(2))
    np.testing.assert_array_equal(load_npy(tmp_path / "plain.npy"), np.eye(2))
    for text in (b"", b"nonsense"):
        (tmp_path / "b.npy").write_bytes(text)
        with pytest.raises(DataError, match=r"b.npy: cannot be read"):
            load_npy(tmp_path / "b.npy")
    with pytest.raises(DataError, match="there is no such file"):
        load_npy(tmp_path / "none.npy")


@pytest.mark.parametrize("core", ["core", "_core"])
def test_pickles_of_both_generations_of_numpy_are_read(tmp_path: Path, core: str):
    array = np.empty(1, dtype=object)
    array[0] = {"x": np.arange(2.0)}
    body = pickle.dumps(array, protocol=0).replace(b"numpy.core.", b"numpy." + core.encode() + b".")
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(body)
    try:
        __import__(f"numpy.{core}.multiarray")
    except ImportError:
        with pytest.raises(DataError, match="numpy._core"):
            load_npy(tmp_path / "a.npy")
    else:
        np.testing.assert_array_equal(load_npy(tmp_path / "a.npy")[0]["x"], [0, 1])


@pytest.mark.parametrize("is_flat", [False, True])
def test_the_real_sample_is_counted_as_by_hand(tmp_path: Path, is_flat: bool):
    raw = tmp_path / "raw"
    if is_flat:
        raw.mkdir()
        for number, path in enumerate(sorted(RAW.rglob("*.npy"))):
            shutil.copyfile(path, raw / f"{number:03d}.npy")
    report = yade.convert_all_to_hdf5(None, None, raw if is_flat else RAW, tmp_path / "a.hdf5", None, not is_flat)
    assert report.sequence_length == 101
    assert len(report.problems) == 1
    assert "pickle data was truncated" in report.problems[0]
    usual = {"files": 6, "good": 5, "trimmed": 1, "short": 1, "corrupt": 0}
    groups = report.as_dict()["groups"]
    assert groups["0.2e6/undrained"] == usual
    broken = groups["unknown"] if is_flat else groups["0.5e6/drained"]
    assert broken["corrupt"] == 1
    schema = hdf5.read_schema(tmp_path / "a.hdf5")
    assert [group.n_samples for group in schema.groups] == [5] * 6
    assert schema.contact_params == hdf5.CONTACT_KEYS
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert list(file.attrs["unused_keys_constant"]) == list(hdf5.UNUSED_CONSTANT_KEYS)
        assert file["0.2e6/drained/outputs"].dtype == "float32"


def test_the_shipped_file_holds_the_whole_set():
    counts = {group.name: group.n_samples for group in hdf5.read_schema(DATA / "triaxial.hdf5").groups}
    assert sum(counts.values()) == 491
    assert counts["0.2e6/undrained"] == 80


def test_stresses_are_stored_in_mpa_and_content_does_not_depend_on_names(tmp_path: Path):
    first = save(tmp_path / "raw/0.2e6/drained/a.npy", *simulation(p=[2e5] * 5, q=[1e6] * 5))
    yade.convert_all_to_hdf5(None, None, tmp_path / "raw", tmp_path / "one.hdf5", dtype="float64")
    first.rename(first.with_name("z.npy"))
    yade.convert_all_to_hdf5(["0.2e6"], ["drained"], tmp_path / "raw", tmp_path / "two.hdf5", dtype="float64")
    with h5py.File(tmp_path / "one.hdf5") as file:
        np.testing.assert_allclose(file["0.2e6/drained/outputs"][0, 0, :3], [0, 0.2, 1.0])
    assert (tmp_path / "one.hdf5").read_bytes() == (tmp_path / "two.hdf5").read_bytes()
    assert yade.get_pressures(tmp_path / "raw") == ["0.2e6"]


BROKEN = [
    ({"p": [1.0, float("nan"), 1, 1, 1]}, "p hold NaN or infinite values"),
    ({"q": [1.0]}, "the features have different lengths"),
    ({"E": "soft"}, "holds values that are no numbers"),
    ({"conf": "high"}, "is no log10 of a pressure"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_a_broken_file_is_named_and_nothing_else_is_lost(tmp_path: Path, change: dict[str, Any], message: str):
    save(tmp_path / "raw/0.2e6/drained/good.npy", *simulation())
    save(tmp_path / "raw/0.2e6/drained/bad.npy", *simulation(**change))
    report = yade.convert_all_to_hdf5(None, None, tmp_path / "raw", tmp_path / "a.hdf5")
    assert (report.groups["0.2e6/drained"].good, report.groups["0.2e6/drained"].corrupt) == (1, 1)
    assert "bad.npy" in report.problems[0]
    assert message in report.problems[0]


def test_missing_keys_and_foreign_content_are_problems_too(tmp_path: Path):
    params, features = simulation()
    save(tmp_path / "raw/0.2e6/drained/a.npy", params, {key: features[key] for key in features if key != "a_t"})
    save(tmp_path / "raw/0.2e6/drained/b.npy", [1], [2])
    save(tmp_path / "raw/0.2e6/drained/c.npy", {key: params[key] for key in hdf5.CONTACT_KEYS}, features)
    report = yade.convert_all_to_hdf5(None, None, tmp_path / "raw", tmp_path / "a.hdf5")
    assert "the features lack a_t" in report.problems[0]
    assert "two dicts" in report.problems[1]
    flat = yade.convert_all_to_hdf5
    (tmp_path / "flat").mkdir()
    save(tmp_path / "flat/c.npy", {key: params[key] for key in hdf5.CONTACT_KEYS}, features)
    with pytest.raises(DataError, match="lack conf or mode"):
        flat(None, None, tmp_path / "flat", tmp_path / "b.hdf5", None, False)


def test_a_parse_that_gives_nothing_leaves_the_older_file(tmp_path: Path):
    out = tmp_path / "a.hdf5"
    out.write_text("older")
    save(tmp_path / "raw/0.2e6/drained/a.npy", *simulation())
    for arguments, message in (
        ((None, None, tmp_path / "none", out), "there is no such folder"),
        ((["0.3e6"], None, tmp_path / "raw", out), "there is no pressure '0.3e6'"),
        ((None, ["draned"], tmp_path / "raw", out), "there is no experiment type 'draned'"),
        ((None, None, tmp_path / "raw", out, 6), "no sequence has 6 steps or more"),
        ((None, None, tmp_path / "raw/0.2e6", out), "no .npy files in"),
    ):
        with pytest.raises(DataError, match=message):
            yade.convert_all_to_hdf5(*arguments)
    assert out.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5", "raw"]


def test_broken_files_say_what_is_wrong(tmp_path: Path, steps_file: Path):
    (tmp_path / "cut.hdf5").write_bytes(steps_file.read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut.hdf5: is truncated or no HDF5 file"):
        hdf5.read_schema(tmp_path / "cut.hdf5")

    def written(change: Any) -> Path:
        path = tmp_path / "changed.hdf5"
        shutil.copyfile(steps_file, path)
        with h5py.File(path, "a") as file:
            change(file)
        return path

    def shorten(file: h5py.File) -> None:
        del file["0.2e6/drained/inputs"]
        file["0.2e6/drained/inputs"] = np.zeros((20, 5, 3))

    def fewer(file: h5py.File) -> None:
        del file["0.2e6/drained/inputs"]
        file["0.2e6/drained/inputs"] = np.zeros((3, 12, 3))

    def flatten(file: h5py.File) -> None:
        del file["0.2e6/drained/inputs"]
        file["0.2e6/drained/inputs"] = np.zeros(3)

    for change, message in (
        (lambda file: file.__delitem__("0.2e6/drained/inputs"), "0.2e6/drained has no `inputs`"),
        (shorten, "has 5 steps of inputs, but 12 of outputs"),
        (fewer, "has different numbers of samples"),
        (flatten, r"inputs has shape \(3,\); 3 dimensions are expected"),
        (lambda file: file.__delitem__("0.2e6"), "holds no group"),
        (lambda file: file.__setitem__("extra", np.zeros(3)), "extra is a data set"),
        (lambda file: file.attrs.__setitem__("inputs", ["a"]), "attribute inputs names 1 columns, the data have 3"),
    ):
        with pytest.raises(DataError, match=message):
            hdf5.read_schema(written(change))


def test_files_without_attributes_are_readable(tmp_path: Path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for name, shape in (("inputs", (2, 4, 3)), ("outputs", (2, 4, 2)), ("contact_params", (2, 5))):
            file[f"0.2e6/drained/{name}"] = np.ones(shape)
    schema = hdf5.read_schema(tmp_path / "a.hdf5")
    assert schema.inputs == hdf5.INPUT_KEYS
    assert schema.outputs == ("output_0", "output_1")
    problems = inspect.inspect(tmp_path / "a.hdf5")["problems"]
    assert any("attribute outputs is missing" in problem for problem in problems)


def test_a_group_that_is_not_there_is_answered_with_those_that_are(steps_file: Path):
    schema = hdf5.read_schema(steps_file)
    with pytest.raises(DataError, match=r"no pressure '0.3e6'; there are 0.2e6"):
        hdf5.select_groups(schema, "0.3e6")
    with pytest.raises(DataError, match=r"no experiment_type 'draned'; there are drained. did you mean drained"):
        hdf5.select_groups(schema, "All", "draned")
    assert hdf5.select_groups(schema, ["All"])[0].name == "0.2e6/drained"


def test_a_combination_that_is_not_there_is_refused(tmp_path: Path):
    path = write_steps(tmp_path / "a.hdf5", groups=("0.2e6/drained", "0.5e6/undrained"))
    with pytest.raises(DataError, match="no group has pressure='0.2e6' and experiment_type='undrained'"):
        hdf5.select_groups(hdf5.read_schema(path), "0.2e6", "undrained")


def test_inspect_finds_what_is_wrong_with_the_values(tmp_path: Path):
    path = tmp_path / "a.hdf5"
    outputs = np.ones((2, 4, 2))
    outputs[0, 0] = [np.nan, 2e5]
    groups = {
        "loose/cyclic": (np.ones((2, 5)), np.zeros((2, 4, 3)), outputs),
        "0.2e6/drained": (np.ones((0, 5)), np.zeros((0, 3, 3)), np.zeros((0, 3, 2))),
    }
    hdf5.write_file(
        path, groups, contact_params=hdf5.CONTACT_KEYS, inputs=hdf5.INPUT_KEYS, outputs=["e", "p"], dtype="float64"
    )
    found = inspect.inspect(path)
    text = inspect.render(found)
    for problem in ("e holds NaN", "p reaches 2e+05, which looks like Pa", "e_x is constant", "loose is no pressure"):
        assert problem in text
    for problem in ("cyclic is neither drained nor undrained", "holds no sample", "they cannot be merged"):
        assert problem in text
    assert "no problems" in inspect.render(inspect.inspect(DATA / "triaxial.hdf5"))


def test_a_reader_never_sees_half_a_file(tmp_path: Path):
    path = tmp_path / "a.txt"
    layout.write_text(path, "old")
    with pytest.raises(RuntimeError, match="killed"), layout.replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError("killed")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]
