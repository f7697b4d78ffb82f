"""Input that cannot be calibrated is refused in one message; input that contradicts the observation is warned of."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import layout
from tests.conftest import DATA
from tests.unit.calibration.conftest import KNOWN, SOUGHT, Run, write_model


def test_ranges_beyond_the_training_are_warned_of_by_name(run: Run, tmp_path: Path, caplog):
    wide = [word.replace("mu=15.0:50.0", "mu=10:70") for word in SOUGHT]
    status, out, _ = run(*wide, *KNOWN, "--out", tmp_path / "a", "--json")
    assert status == 0
    beyond = "mu in 10..70, trained in 15.024..49.933"
    assert json.loads(out)["outside_training"] == [beyond]
    assert f"outside of the training, where the surrogate guesses: {beyond}" in caplog.text


def test_a_pressure_that_is_not_the_experiments_is_warned_of(run: Run, tmp_path: Path, caplog):
    experiment = DATA / "observation.dat"  # at 0.2 MPa
    assert run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", observation=experiment)[0] == 0
    assert "confining pressure" not in caplog.text
    other = ["--known", "pressure=0.5", "--experiment-type", "drained"]
    assert run(*SOUGHT, *other, "--out", tmp_path / "b", observation=experiment)[0] == 0
    assert "observation.dat: begins with p=0.2 MPa, but pressure=0.5 MPa is given as known" in caplog.text


def test_a_void_ratio_of_the_other_type_of_test_is_warned_of(run: Run, tmp_path: Path, caplog):
    experiment = DATA / "observation.dat"
    assert run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", observation=experiment)[0] == 0
    assert "taken for" not in caplog.text
    other = ["--known", "pressure=0.2", "--experiment-type", "undrained"]
    assert run(*SOUGHT, *other, "--out", tmp_path / "b", observation=experiment)[0] == 0
    assert re.search(r"taken for undrained, but its void ratio changes by 0\.\d+, as in a drained test", caplog.text)
    # Lateral strains would be derived from the void ratio, which is constant here.
    names, *rows = experiment.read_text().lstrip("# ").split("\n")
    column = names.split().index("e")
    values = np.loadtxt(rows)
    values[:, column] = values[0, column]
    np.savetxt(tmp_path / "undrained.dat", values, header=names)
    assert run(*SOUGHT, *KNOWN, "--out", tmp_path / "c", observation=tmp_path / "undrained.dat")[0] == 0
    assert "taken for drained, but its void ratio does not change, as in an undrained test" in caplog.text


@pytest.mark.parametrize(
    "content", [[], {"parameters": [1]}, {"errors": {"test": 3}}, {"labels": [{"min": 0, "max": 1}]}]
)
def test_a_provenance_of_another_form_is_refused(run: Run, tmp_path: Path, model_dir: Path, content: Any):
    shutil.copytree(model_dir, tmp_path / "model")
    layout.write_json(layout.RunFolder(tmp_path / "model").provenance, content)
    status, _, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "out", model=tmp_path / "model")
    assert status == 2
    assert re.search(r"provenance\.json: is broken", err)


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_calculated(run: Run, tmp_path: Path):
    (tmp_path / "file").touch()
    status, _, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "file/out")
    assert status == 2
    assert "file/out: the folder for the calibration cannot be made: Not a directory; name another one.\n" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SOUGHT[:8], *KNOWN], "mu: the model was trained with E, v, kr, eta, mu, pressure, experiment_type, e0"),
        ([*SOUGHT, "--param", "nu=0:1", *KNOWN], "nu: the model has no such parameter; did you mean"),
        ([*SOUGHT, *KNOWN, "--known", "mu=30"], "mu: is both sought and given as known"),
        ([*SOUGHT[:8], "--param", "mu=50:15", *KNOWN], "mu=50:15: the first number must be below the second"),
        ([*SOUGHT[:8], "--param", "mu=15:inf", *KNOWN], "mu=15:inf: the first number must be below the second"),
        ([*SOUGHT[:8], "--param", "mu=15", *KNOWN], "--param mu=15: NAME=MIN:MAX, such as mu=15:50 is needed"),
        ([*SOUGHT[:8], "--param", "15:50", *KNOWN], "--param 15:50: NAME=MIN:MAX"),
        ([*SOUGHT, "--param", "mu=1:2", *KNOWN], "--param mu=1:2: mu is given twice"),
        (KNOWN, "no parameter is sought"),
        ([*SOUGHT, "--known", "pressure=2e5", "--experiment-type", "drained"], "pressure is needed in MPa"),
        ([*SOUGHT, "--known", "pressure=nan", "--experiment-type", "drained"], "pressure=nan: a known parameter must"),
        ([*SOUGHT, "--known", "pressure=0.2", "--experiment-type", "dry"], "'dry' is not one of drained, undrained"),
        (
            [*SOUGHT, *KNOWN, "--known", "experiment_type=0"],
            "experiment_type=0 is given as known, but the experiment is dr",
        ),
        (
            [*SOUGHT[:8], "--param", "mu=0.2:0.8", *KNOWN],
            "mu=0.2:0.8: the model was trained with mu in 15.02..49.93 and knows nothing of this range",
        ),
        (["--param", "E=1e8:1e9", *SOUGHT[2:], *KNOWN], "E=1e+08:1e+09: the model was trained with E in 8.0"),
        ([*SOUGHT, *KNOWN, "--observe", "e,strength"], "has no column strength; it has e_x, e_y, e_z, e, p, q"),
        ([*SOUGHT, *KNOWN, "--ctrl", "strain"], "has no column strain"),
        ([*SOUGHT, *KNOWN, "--samples", "5"], "samples: at least 10 are needed, 5 was given"),
        ([*SOUGHT, *KNOWN, "--iterations", "0"], "iterations: at least 1 are needed"),
        ([*SOUGHT, *KNOWN, "--tolerance", "0"], "tolerance: a number above 0 is needed"),
        ([*SOUGHT, *KNOWN, "--seed", "-1"], "seed: a number from 0"),
    ],
)
def test_wrong_arguments_are_one_message_and_status_2(run: Run, tmp_path: Path, arguments: list[str], message: str):
    status, out, err = run(*arguments, "--out", tmp_path / "a")
    assert (status, out) == (2, "")
    assert message in err
    assert sum(line.startswith("ERROR") or message in line for line in err.splitlines()) == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("e_z", "strain"), "has no column e_z"),
        (lambda text: "\n".join(text.splitlines()[:5]) + "\n", "has 4 rows, fewer than the model looks at once"),
        (lambda text: text.replace(text.splitlines()[9].split()[4], "nan", 1), "nan is not a finite number"),
        (lambda text: in_pascal(text), "p is needed in MPa"),
    ],
    ids=["wrong columns", "fewer points than a window", "NaN", "Pa"],
)
def test_an_observation_that_cannot_be_used_is_one_message_and_status_2(
    run: Run, table: Path, tmp_path: Path, change: Callable[[str], str], message: str
):
    path = tmp_path / "bad.dat"
    path.write_text(change(table.read_text()))
    status, out, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", observation=path)
    assert (status, out) == (2, "")
    assert message in err


def in_pascal(text: str) -> str:
    header, *lines = text.splitlines()
    columns = header.lstrip("# ").split()
    rows = [line.split() for line in lines]
    for row in rows:
        row[columns.index("p")] = str(float(row[columns.index("p")]) * 1e6)
    return "\n".join([header, *(" ".join(row) for row in rows)])


def test_a_folder_that_is_no_model_or_has_other_weights_is_one_message_and_status_2(
    run: Run, model_dir: Path, tmp_path: Path
):
    other = write_model(tmp_path / "other", lstm_units=6)
    layout.write_text(other.config, (model_dir / "config.yaml").read_text())
    status, _, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", model=other.root)
    assert status == 2
    (message,) = (line for line in err.splitlines() if "cannot be loaded as the model of its folder" in line)
    assert message == err.splitlines()[-1]
    assert "(8, 4)" in err
    assert "(8, 6)" in err
    status, _, err = run(*SOUGHT, *KNOWN, "--out", tmp_path / "a", model=tmp_path)
    assert status == 2
    assert "is no folder of a trained model" in err


def test_a_model_of_undrained_tests_is_not_calibrated_against_a_drained_one(run: Run, table: Path, tmp_path: Path):
    arguments = [*SOUGHT, "--known", "pressure=0.2", "--experiment-type", "drained", "--out", tmp_path / "a"]
    status, _, err = run(*arguments, model="dem-undrained")
    assert status == 2
    assert "experiment type: drained is given, the model was trained with undrained tests" in err


def test_a_model_of_both_types_that_needs_no_lateral_strains_asks_for_the_type(run: Run, table: Path, tmp_path: Path):
    status, _, err = run(*SOUGHT, "--known", "pressure=0.2", "--out", tmp_path / "a", model="dem-drained")
    assert status == 2
    assert "experiment_type: the model was trained with E, v, kr, eta, mu, pressure, experiment_type, e0" in err
    assert "--experiment-type drained or undrained gives experiment_type" in err


def test_a_folder_that_holds_something_is_not_written_to(run: Run, tmp_path: Path):
    (tmp_path / "kept").write_text("")
    for out in (tmp_path, tmp_path / "kept"):
        status, _, err = run(*SOUGHT, *KNOWN, "--out", out)
        assert status == 2
        assert "exists and is not an empty folder; choose another one for the calibration" in err
