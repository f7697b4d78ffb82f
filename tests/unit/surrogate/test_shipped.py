"""The models that come with the package: they are what their provenance says, and load by name."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from glrnn_hpc import cli, layout, predict
from glrnn_hpc.calibration.surrogate import Surrogate
from glrnn_hpc.config import load_yaml
from glrnn_hpc.errors import ModelError
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.preprocessor.splits import split_ids
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.surrogate import shipped
from glrnn_hpc.surrogate.ensemble import load_ensemble
from tests.conftest import DATA
from tests.ensembles import write_export

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
NAMES = ["dem-all", "dem-cyclic", "dem-drained", "dem-undrained"]
#: In the order of the page's columns.
COLUMNS = ["dem-all", "dem-drained", "dem-undrained", "dem-cyclic"]
#: Files of a member, and of an ensemble of the shipped ones.
MEMBER_FILES = ("config.yaml", "train_stats.json", "model-best.weights.h5")
WHOLE_FILES = ("ensemble.json", "provenance.json", "error_covariance.json")


def data_file(name: str) -> Path:
    """Return the data that a shipped model was trained on."""
    return DATA / ("cyclic.hdf5" if name == "dem-cyclic" else "triaxial.hdf5")


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def provenance(name: str) -> dict[str, Any]:
    found: dict[str, Any] = layout.read_json(layout.RunFolder(shipped.FOLDER / name).provenance)
    return found


def table(title: str, number: int = 0) -> dict[str, list[str]]:
    """Return the rows of a table under a heading of the page by their first cells."""
    (section,) = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE, re.M | re.S)
    lines = re.findall(r"^(?:\|.*\|\n)+", section, re.M)[number].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in rows[2:]}


def test_the_shipped_models_are_those_of_the_page_and_small() -> None:
    assert shipped.names() == NAMES
    assert all(f"`{name}`" in PAGE for name in NAMES)
    assert sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file()) < 4e6


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_predicts_the_test_sequences_as_well_as_its_provenance_says(name: str, tmp_path: Path) -> None:
    command = ["predict", name, str(data_file(name)), "--out", str(tmp_path / "predicted.hdf5"), "--json"]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    recorded = provenance(name)
    assert found["n_sequences"] == recorded["data"]["sequences"]["test"]
    assert found["mse_standardised"] == pytest.approx(recorded["mse_standardised"]["test"], rel=1e-5)
    for label, errors in found["metrics"].items():
        for kind, value in errors.items():
            # Labels that are computed err by the rounding of single precision.
            expected = pytest.approx(recorded["errors"]["test"][label][kind], rel=1e-5, abs=1e-7)
            assert value == expected, (label, kind)
    assert found["coverage"] == pytest.approx(recorded["ensemble"]["coverage"]["test"], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_tells_of_the_repository_and_of_no_machine(name: str) -> None:
    recorded, folder = provenance(name), layout.RunFolder(shipped.FOLDER / name)
    members = recorded["ensemble"]["members"]
    assert files_of(folder.root) == {
        *WHOLE_FILES,
        *(f"members/{number}/{file}" for number in range(len(members)) for file in MEMBER_FILES),
    }
    assert recorded["data"]["sha256"] == hashlib.sha256(data_file(name).read_bytes()).hexdigest()
    assert (ROOT / recorded["data"]["path"]) == data_file(name)
    assert recorded["host"] is recorded["git"] is recorded["sweep"]["folder"] is None
    for member in members:
        files = folder.member(member["folder"])
        assert (ROOT / load_yaml(files.config)["raw_data"]) == data_file(name)
        weights = files.root / member["model"]["file"]
        assert member["model"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert member["trained_on"] is member["sweep"]["folder"] is None
        assert "git" not in member["trained_with"]
    texts = [path.read_text(encoding="utf-8") for path in folder.root.rglob("*.[jy]*")]
    assert len(texts) == 3 + 2 * len(members)
    assert [text for text in texts if re.search(r'[" ]/\w', text)] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_members_of_a_shipped_model_are_points_of_its_sweep_file(name: str) -> None:
    recorded = provenance(name)
    assert recorded["sweep"]["name"] == name.replace("-", "_")
    spec = load_sweep(ROOT / "sweeps" / f"{recorded['sweep']['name']}.yaml")
    fixed = {parameter.name: parameter.values[0] for parameter in spec.parameters if parameter not in spec.searched}
    data = data_file(name).relative_to(ROOT).as_posix()
    for member in recorded["ensemble"]["members"]:
        assert (member["sweep"]["method"], member["sweep"]["n_trials"]) == (spec.method, spec.run_cap)
        assert set(member["point"]) == {parameter.name for parameter in spec.searched}
        config = load_yaml(layout.RunFolder(shipped.FOLDER / name).member(member["folder"]).config)
        expected = {**fixed, **member["point"], "raw_data": data}
        assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_ranges_of_a_shipped_model_are_those_of_its_training_split(name: str) -> None:
    recorded, (_, stats, config) = provenance(name), predict.get_pretrained_model(name)
    params = arrays_of(name, config, "train")[1]
    assert [row["name"] for row in recorded["parameters"]] == stats["param_names"]
    for end, of in (("min", np.min), ("max", np.max)):
        expected = of(params, axis=0)
        np.testing.assert_allclose(stats[f"params_{end}"], expected, rtol=1e-6)
        np.testing.assert_allclose([row[end] for row in recorded["parameters"]], expected, rtol=1e-6)


def arrays_of(name: str, config: dict[str, Any], split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the padded load, the parameters and the labels of a split of a shipped model."""
    preprocessor = PreprocessorTriaxialCompression(**{**config, "raw_data": str(data_file(name))})
    ids = split_ids(len(preprocessor.all_sequences()), config["train_frac"], config["val_frac"], 42)[split]
    inputs, params, labels = preprocessor.all_sequences().take(np.sort(ids)).arrays()
    return inputs, params, labels[:, config["pad_length"] :]


def test_the_page_gives_the_ranges_of_parameters_and_load_features() -> None:
    rows = table("For what they hold")
    for column, name in enumerate(COLUMNS, start=1):
        recorded = provenance(name)
        given = {row["name"]: row for row in recorded["parameters"] + recorded["load_features"]}
        assert {key for key in given if not key.startswith("e_z_")} == {
            key for key, cells in rows.items() if cells[column] != "-"
        }
        for key, row in given.items():
            if key in rows:
                assert rows[key][column] == f"{row['min'] + 0.0:.3g} to {row['max'] + 0.0:.3g}", (name, key)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_gives_the_accuracy_of_each_label_and_what_the_intervals_hold(name: str) -> None:
    rows, recorded = table(f"`{name}`"), provenance(name)
    assert list(rows) == ["e", "p", "q", "f0", "a_c", "a_n", "a_t"]
    for label, errors in recorded["errors"]["test"].items():
        held = recorded["ensemble"]["coverage"]["test"][label]
        expected = [*(f"{errors[kind]:.3g}" for kind in ("mae", "rmse", "r2")), f"{100 * held:.1f} %"]
        assert rows[label][1:] == expected, (name, label)


def test_the_page_gives_the_members_and_the_errors_of_each_model_and_of_the_gaussian_processes() -> None:
    rows, members = (table("How they were trained", number) for number in (0, 1))
    assert list(rows) == [f"`{name}`" for name in COLUMNS]
    for name in COLUMNS:
        recorded = provenance(name)
        sizes = " / ".join(str(recorded["data"]["sequences"][part]) for part in ("train", "val", "test"))
        mse = [f"{recorded['mse_standardised'][part]:.4f}" for part in ("val", "test")]
        baseline = recorded["baseline"].get("mse")
        beside = "-" if baseline is None else f"{baseline:.4f}"
        cells = rows[f"`{name}`"]
        assert [cells[0], *cells[2:]] == [sizes, *mse, beside]
        for member in recorded["ensemble"]["members"]:
            point = ", ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in member["point"].items()
            )
            epochs = f"{member['best_epoch']} of {member['epochs']}"
            mse = [f"{member['mse_standardised'][part]:.4f}" for part in ("val", "test")]
            assert members[f"`{name}` {member['folder']}"] == [str(member["weight"]), point, epochs, *mse]
    assert len(members) == sum(len(provenance(name)["ensemble"]["members"]) for name in COLUMNS)


def test_the_page_gives_the_errors_for_drained_tests_from_the_axial_strain_in_units_of_the_drained_labels() -> None:
    model, stats, config = predict.get_pretrained_model("dem-drained")
    assert stats["input_names"] == ["e_z", "e_z_log_path"]
    inputs, params, labels = arrays_of("dem-drained", config, "test")
    _, of_training, simulated = arrays_of("dem-drained", config, "train")
    column = stats["param_names"].index("experiment_type")
    is_drained = params[:, column] == 1
    std = simulated[of_training[:, column] == 1].astype("float64").std(axis=(0, 1))
    predicted = predict.predict_sequences(model, inputs[is_drained], params[is_drained], stats, config)
    errors = (((predicted[:, -91:] - labels[is_drained, 10:]) / std) ** 2).mean(axis=(0, 1))
    cells = next(
        line.strip("|").split(" | ")
        for line in PAGE.splitlines()
        if line.startswith("| `dem-drained` | drained, test split")
    )
    assert int(cells[2]) == is_drained.sum()
    assert [float(cell) for cell in cells[3:]] == pytest.approx([*errors, errors.mean()], abs=6e-4)


def test_the_page_says_how_much_each_parameter_changes_the_response() -> None:
    model, stats, config = predict.get_pretrained_model("dem-all")
    inputs, params, _ = arrays_of("dem-all", config, "test")
    rmse = np.array([errors["rmse"] for errors in provenance("dem-all")["errors"]["test"].values()])
    rows = table("Which parameters can be told")
    for column, name in enumerate(["E", "v", "kr", "eta", "mu"]):
        ends = []
        for part in (0.25, 0.75):
            moved = params.copy()
            low, high = stats["params_min"][column], stats["params_max"][column]
            moved[:, column] = low + part * (high - low)
            ends.append(predict.predict_sequences(model, inputs, moved, stats, config))
        change = np.sqrt(((ends[1] - ends[0]) ** 2).mean(axis=(0, 1))) / rmse
        assert [float(cell) for cell in rows[name]] == pytest.approx(change[1:], abs=0.06), name
        assert change[0] < 10  # the void ratio follows from the strains: no parameter changes it beyond rounding


def test_the_tables_of_the_page_are_written_under_their_headings(page_script: ModuleType) -> None:
    text = "# A\n\nbefore\n\n| a |\n|---|\n| 1 |\n\nafter\n## B\n\n| b |\n|---|\n"
    written = page_script.with_tables(text, "A", ["| new |\n|---|\n| 2 |"])
    assert written == "# A\n\nbefore\n\n| new |\n|---|\n| 2 |\n\nafter\n## B\n\n| b |\n|---|\n"
    with pytest.raises(SystemExit, match="1 tables under 'A'; 2 are written"):
        page_script.with_tables(text, "A", ["", ""])
    with pytest.raises(SystemExit, match="there are 0 headings 'C'"):
        page_script.with_tables(text, "C", [""])


def test_the_page_is_what_its_script_writes_from_the_records(page_script: ModuleType) -> None:
    tables = {
        "For what they hold": [page_script.ranges_table()],
        **{f"`{name}`": [page_script.accuracy_table(name)] for name in NAMES},
        "How they were trained": [page_script.training_table(), page_script.members_table()],
    }
    for heading, of_heading in tables.items():
        assert page_script.with_tables(PAGE, heading, of_heading) == PAGE, heading


def test_a_folder_that_exists_is_taken_before_a_shipped_model_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.folder_of("dem-drained") == shipped.FOLDER / "dem-drained"
    (tmp_path / "dem-drained").mkdir()
    assert shipped.folder_of("dem-drained") == Path("dem-drained")
    with pytest.raises(ModelError, match=r"dem-drained: is no folder of a trained model.*it has nothing"):
        predict.get_pretrained_model("dem-drained")


def test_a_shipped_model_stands_in_for_the_dem_code_by_its_name() -> None:
    surrogate = Surrogate("dem-drained")
    assert surrogate.domain.folder == shipped.FOLDER / "dem-drained"
    assert surrogate.domain.param_ranges["experiment_type"] == (0.0, 1.0)
    assert surrogate.domain.param_ranges["pressure"] == pytest.approx((0.2, 1.0))
    assert set(surrogate.domain.label_errors) == {"e", "p", "q", "f0", "a_c", "a_n", "a_t"}
    with pytest.raises(ModelError, match="drained: there is no such folder.*Shipped models: dem-all"):
        Surrogate("drained")


def test_an_unknown_name_lists_the_shipped_models(real_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dem-draind: there is no such folder.*did you mean dem-drained.*: dem-all"):
        predict.get_pretrained_model("dem-draind")
    done = CliRunner().invoke(cli.app, ["predict", "nothing", str(real_file), "--out", str(tmp_path / "out.hdf5")])
    assert isinstance(done.exception, ModelError)
    assert str(done.exception).endswith("Shipped models: dem-all, dem-cyclic, dem-drained, dem-undrained.")


def test_a_path_below_a_shipped_model_is_no_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none/dem-all: there is no such folder"):
        predict.get_pretrained_model(tmp_path / "none" / "dem-all")


def load_script(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # A dataclass looks up its module.
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def script() -> ModuleType:
    """Import the script that ships a model."""
    return load_script("ship_model")


@pytest.fixture
def page_script() -> ModuleType:
    """Import the script that writes the tables of the page."""
    return load_script("model_page")


def write_single_export(folder: Path) -> layout.RunFolder:
    """Write a member of a shipped model as the export of a single trial, which names its machine."""
    source = layout.RunFolder(shipped.FOLDER / "dem-undrained")
    shutil.copytree(source.member(0).root, folder)
    content = provenance("dem-undrained")
    member = content.pop("ensemble")["members"][0]
    owner = {"host": "node7", "job": "local-000", "rank": 0}
    single = {key: member[key] for key in ("model", "point", "trial")}
    export = layout.RunFolder(folder)
    layout.write_json(export.provenance, {**content, **single, "format": 1, "host": "node7", "trained_on": owner})
    return export


def test_the_script_that_ships_a_model_writes_one_that_predicts_the_same_and_keeps_an_earlier_one_until_then(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, copy = write_single_export(tmp_path / "best").root, tmp_path / "copy"
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    copy.mkdir()
    (copy / "earlier").touch()

    def full_disk(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(script, "write_provenance", full_disk)
        with pytest.raises(OSError, match="no space left"):
            script.main(str(original), "copy")
    assert [path.name for path in copy.iterdir()] == ["earlier"]
    script.main(str(original), "copy")
    assert not (copy / "earlier").exists()
    weights = [predict.get_pretrained_model(folder)[0].get_weights() for folder in (original, copy)]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    written = layout.read_json(layout.RunFolder(copy).provenance)
    assert written["model"]["sha256"] == hashlib.sha256((copy / "model-best.weights.h5").read_bytes()).hexdigest()
    assert (written["host"], written["trained_on"]) == (None, None)


def test_an_ensemble_is_shipped_with_all_members_and_tells_of_no_machine(
    script: ModuleType, real_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, shelf = write_export(tmp_path / "best"), tmp_path / "shipped"
    monkeypatch.setattr(shipped, "FOLDER", shelf)
    script.main(str(export.root), "mine")
    target = layout.RunFolder(shelf / "mine")
    assert files_of(target.root) == {
        *("ensemble.json", "provenance.json"),
        *(f"members/{number}/{name}" for number in range(3) for name in MEMBER_FILES),
    }
    sequences = PreprocessorTriaxialCompression(raw_data=str(real_file), add_e0=True).all_sequences()
    inputs, params, _ = sequences.take(np.arange(2)).arrays()
    mine, original = (load_ensemble(folder).predict(inputs, params) for folder in (target.root, export.root))
    np.testing.assert_allclose(mine.mean, original.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mine.upper, original.upper, rtol=1e-5, atol=1e-6)
    recorded = layout.read_json(target.provenance)
    for member in recorded["ensemble"]["members"]:
        weights = target.member(member["folder"]).root / member["model"]["file"]
        assert member["model"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
        assert member["trained_on"] is member["sweep"]["folder"] is None
        assert member["trained_with"] == {"python": "3.11"}
    assert recorded["data"]["path"] == "tests/data/triaxial.hdf5"
    texts = [path.read_text(encoding="utf-8") for path in target.root.rglob("*.[jy]*")]
    assert [text for text in texts if re.search(r'[" ]/\w', text) or "node7" in text] == []
    assert predict.get_pretrained_model("mine")[2]["raw_data"] == "tests/data/triaxial.hdf5"


def test_a_model_of_other_data_is_not_shipped(script: ModuleType, tmp_path: Path) -> None:
    export = write_export(tmp_path / "best", {1: {"window_size": 5}})
    content = layout.read_json(export.provenance)
    layout.write_json(export.provenance, {**content, "data": {**content["data"], "sha256": "0"}})
    with pytest.raises(SystemExit, match=r"trained on other data than .*triaxial\.hdf5"):
        script.main(str(export.root), "mine")
