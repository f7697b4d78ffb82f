"""The models that come with the package: they are what their provenance says, and load by name."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
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
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.surrogate import shipped
from glrnn_hpc.surrogate.ensemble import load_ensemble
from tests.ensembles import write_export

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
NAMES = ["dem-all", "dem-drained", "dem-undrained"]


def provenance(name: str) -> dict[str, Any]:
    found: dict[str, Any] = layout.read_json(layout.RunFolder(shipped.FOLDER / name).provenance)
    return found


def table(title: str) -> dict[str, list[str]]:
    """Return the rows of the table in a section of the page by their first cells."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in re.findall(r"^\|.*\|$", section, re.M)]
    return {row[0]: row[1:] for row in rows[2:]}


def test_the_shipped_models_are_those_of_the_page_and_small() -> None:
    assert shipped.names() == NAMES
    assert all(f"`{name}`" in PAGE for name in NAMES)
    assert sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file()) < 2e6


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_predicts_the_test_sequences_as_well_as_its_provenance_says(
    name: str, real_file: Path, tmp_path: Path
) -> None:
    command = ["predict", name, str(real_file), "--out", str(tmp_path / "predicted.hdf5"), "--json"]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    recorded = provenance(name)
    assert found["n_sequences"] == recorded["data"]["sequences"]["test"]
    assert found["mse_standardised"] == pytest.approx(recorded["mse_standardised"]["test"], rel=1e-5)
    for label, errors in found["metrics"].items():
        for kind, value in errors.items():
            assert value == pytest.approx(recorded["errors"]["test"][label][kind], rel=1e-5), (label, kind)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_tells_of_the_repository_and_of_no_machine(name: str, real_file: Path) -> None:
    recorded, config = provenance(name), load_yaml(layout.RunFolder(shipped.FOLDER / name).config)
    assert (ROOT / config["raw_data"]) == (ROOT / recorded["data"]["path"]) == real_file
    assert recorded["data"]["sha256"] == hashlib.sha256(real_file.read_bytes()).hexdigest()
    weights = shipped.FOLDER / name / recorded["model"]["file"]
    assert recorded["model"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert recorded["host"] is recorded["trained_on"] is recorded["git"] is recorded["sweep"]["folder"] is None
    texts = [path.read_text(encoding="utf-8") for path in (shipped.FOLDER / name).glob("*.[jy]*")]
    assert len(texts) == 3
    assert [text for text in texts if re.search(r'[" ]/\w', text)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_model_is_a_point_of_its_sweep_file(name: str) -> None:
    recorded = provenance(name)
    spec = load_sweep(ROOT / "sweeps" / f"{recorded['sweep']['name']}.yaml")
    assert (recorded["sweep"]["method"], recorded["sweep"]["n_trials"]) == (spec.method, spec.run_cap)
    assert set(recorded["point"]) == {parameter.name for parameter in spec.searched}
    config = load_yaml(layout.RunFolder(shipped.FOLDER / name).config)
    fixed = {parameter.name: parameter.values[0] for parameter in spec.parameters if parameter not in spec.searched}
    expected = {**fixed, **recorded["point"], "raw_data": "tests/data/triaxial.hdf5"}
    assert {key: config[key] for key in expected} == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_ranges_of_a_shipped_model_are_those_of_its_training_split(name: str, real_file: Path) -> None:
    recorded, (_, stats, config) = provenance(name), predict.get_pretrained_model(name)
    prepared = PreprocessorTriaxialCompression(**{**config, "raw_data": str(real_file)}).prepare_arrays()
    params = prepared.splits["train"].params
    assert [row["name"] for row in recorded["parameters"]] == stats["param_names"]
    for end, of in (("min", np.min), ("max", np.max)):
        expected = of(params, axis=0)
        np.testing.assert_allclose(stats[f"params_{end}"], expected, rtol=1e-6)
        np.testing.assert_allclose([row[end] for row in recorded["parameters"]], expected, rtol=1e-6)


def test_the_page_gives_the_ranges_of_parameters_and_load_features() -> None:
    rows = table("For what they hold")
    for column, name in enumerate(NAMES, start=1):
        recorded = provenance(name)
        for row in recorded["parameters"] + recorded["load_features"]:
            assert rows[row["name"]][column] == f"{row['min'] + 0.0:.3g} to {row['max'] + 0.0:.3g}", (name, row["name"])


def test_the_page_gives_the_accuracy_of_each_label() -> None:
    rows = table("How accurate they are")
    for column, name in enumerate(NAMES):
        for label, errors in provenance(name)["errors"]["test"].items():
            cells = rows[label][1 + 3 * column : 4 + 3 * column]
            assert cells == [f"{errors[kind]:.3g}" for kind in ("mae", "rmse", "r2")], (name, label)


def test_the_page_gives_the_network_and_the_error_of_each_model() -> None:
    rows = table("How they were trained")
    for name in NAMES:
        recorded = provenance(name)
        point = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in recorded["point"].items()
        )
        sizes = " / ".join(str(recorded["data"]["sequences"][part]) for part in ("train", "val", "test"))
        mse = [f"{recorded['mse_standardised'][part]:.4f}" for part in ("val", "test")]
        assert rows[f"`{name}`"] == [sizes, point, f"{recorded['best_epoch']} of {recorded['epochs']}", *mse]


def test_the_page_says_how_much_each_parameter_changes_the_response(real_file: Path) -> None:
    model, stats, config = predict.get_pretrained_model("dem-all")
    prepared = PreprocessorTriaxialCompression(**{**config, "raw_data": str(real_file)}).prepare_arrays()
    inputs, params, _ = prepared.splits["test"].arrays()
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
        assert [float(cell) for cell in rows[name]] == pytest.approx(change, abs=0.06), name


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
    assert surrogate.domain.param_ranges["pressure"] == pytest.approx((0.2, 1.0))
    assert set(surrogate.domain.label_errors) == {"e", "p", "q", "f0", "a_c", "a_n", "a_t"}
    with pytest.raises(ModelError, match="drained: there is no such folder.*Shipped models: dem-all"):
        Surrogate("drained")


def test_an_unknown_name_lists_the_shipped_models(real_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dem-draind: there is no such folder.*did you mean dem-drained.*: dem-all"):
        predict.get_pretrained_model("dem-draind")
    done = CliRunner().invoke(cli.app, ["predict", "nothing", str(real_file), "--out", str(tmp_path / "out.hdf5")])
    assert isinstance(done.exception, ModelError)
    assert str(done.exception).endswith("Shipped models: dem-all, dem-drained, dem-undrained.")


def test_a_path_below_a_shipped_model_is_no_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none/dem-all: there is no such folder"):
        predict.get_pretrained_model(tmp_path / "none" / "dem-all")


@pytest.fixture
def script() -> ModuleType:
    """Import the script that ships a model."""
    specification = importlib.util.spec_from_file_location("ship_model", ROOT / ".ci" / "ship_model.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_script_that_ships_a_model_writes_one_that_predicts_the_same_and_keeps_an_earlier_one_until_then(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, copy = shipped.FOLDER / "dem-drained", tmp_path / "copy"
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
    kept = ("config.yaml", "train_stats.json", "model-best.weights.h5")
    assert {str(path.relative_to(target.root)) for path in target.root.rglob("*") if path.is_file()} == {
        *("ensemble.json", "provenance.json"),
        *(f"members/{number}/{name}" for number in range(3) for name in kept),
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
