"""An observation is checked against the training, and brought to the steps of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.calibration.observation import read_observation
from glrnn_hpc.collector.training_domain import TrainingDomain
from glrnn_hpc.errors import ConfigError, DataError
from tests.conftest import DATA

GRID = np.arange(11) * 0.01


def model(**other: Any) -> TrainingDomain:
    """Return what is known of a model of windows of 3 steps, trained on 11 steps up to a strain of 0.1."""
    known: dict[str, Any] = {
        "window_size": 3,
        "n_steps": 11,
        "input_names": ["e_x", "e_y", "e_z"],
        "label_names": ["e", "p", "q"],
        "label_ranges": {"e": (0.5, 1.0), "p": (0.2, 6.0), "q": (0.0, 9.0)},
        "input_ranges": {"e_z": (0.0, 0.1)},
        "grid": {"e_z": GRID.tolist()},
        **other,
    }
    sizes = {"n_inputs": len(known["input_names"]), "n_params": 5, "n_labels": len(known["label_names"])}
    return TrainingDomain(Path("model"), **sizes, **known)


def table(path: Path, strain: Any = GRID, **columns: Any) -> Path:
    strain = np.asarray(strain)
    columns = {"e": 0.6 + strain, "p": 0.3 + strain, "q": 10 * strain, **columns}
    kept = {name: values for name, values in columns.items() if values is not None}
    np.savetxt(path, np.column_stack([strain, *kept.values()]), header=" ".join(["e_z", *kept]))
    return path


def test_an_observation_at_the_steps_of_the_training_is_taken_as_it_is(tmp_path: Path):
    observation = read_observation(table(tmp_path / "a.dat"), model(), type_code=0.0)
    assert observation.labels == ("e", "p", "q")
    np.testing.assert_allclose(observation.values[:, 2], 10 * GRID)
    assert observation.resampling == "none: the observation has the steps of the training"
    assert observation.first_values["e"] == 0.6


def test_another_spacing_is_interpolated_along_the_strain_and_noted(tmp_path: Path):
    observation = read_observation(table(tmp_path / "a.dat", np.linspace(0, 0.083, 333)), model(), type_code=0.0)
    assert observation.resampling == "linear interpolation along e_z, from 333 rows to 9 steps of the training"
    np.testing.assert_allclose(observation.steps, GRID[:9])
    np.testing.assert_allclose(observation.values[:, 2], 10 * GRID[:9], atol=1e-12)
    assert "The observation ends at e_z=0.083: 9 of the training's 11 steps." in observation.notes
    beyond = read_observation(table(tmp_path / "b.dat", np.linspace(0, 0.25, 51)), model(), type_code=0.0)
    assert len(beyond.load) == 11
    assert "What was observed beyond e_z=0.1, where the training ends, is left out." in beyond.notes


def test_steps_are_even_where_only_their_ends_are_known_and_the_observations_own_where_nothing_is(tmp_path: Path):
    path = table(tmp_path / "a.dat", np.linspace(0, 0.1, 41))
    observation = read_observation(path, model(grid={}), type_code=0.0)
    np.testing.assert_allclose(observation.steps, GRID)
    assert "The steps of the training are taken to be even: 11 from e_z=0 to 0.1." in observation.notes
    unknown = read_observation(path, model(grid={}, input_ranges={}), type_code=0.0)
    assert len(unknown.load) == 41
    assert "The load steps of the training are not known" in unknown.notes[0]


def test_undrained_lateral_strains_follow_from_the_axial_one(tmp_path: Path):
    observation = read_observation(table(tmp_path / "a.dat", e=np.full(11, 0.6)), model(), type_code=0.0)
    np.testing.assert_allclose(observation.load, np.column_stack([-GRID / 2, -GRID / 2, GRID]))
    assert observation.labels == ("p", "q")
    assert "e is the same in every row and is not compared." in observation.notes


def test_drained_lateral_strains_follow_from_the_void_ratio_as_the_simulations_have_them(tmp_path: Path):
    with h5py.File(DATA / "triaxial.hdf5") as file:
        load, measured = (file[f"0.5e6/drained/{name}"][0].astype("float64") for name in ("inputs", "outputs"))
    drained = model(grid={"e_z": load[:, 2].tolist()})
    observation = read_observation(table(tmp_path / "a.dat", load[:, 2], e=measured[:, 0]), drained, type_code=1.0)
    np.testing.assert_allclose(observation.load[:, 0], load[:, :2].mean(axis=1), atol=2e-4)
    given = read_observation(table(tmp_path / "b.dat", load[:, 2], e_x=load[:, 0], e_y=load[:, 1]), drained)
    np.testing.assert_allclose(given.load, load)


@pytest.mark.parametrize(
    ("e", "kind", "message"),
    [
        (
            None,
            1.0,
            "e_x, e_y are missing: in a drained test they follow from the void ratio, but there is no column e",
        ),
        (None, None, "say whether the test is drained or undrained"),
    ],
)
def test_load_features_that_cannot_be_derived_are_asked_for(tmp_path: Path, e: Any, kind: float | None, message: str):
    with pytest.raises(DataError, match=message):
        read_observation(table(tmp_path / "a.dat", e=e), model(), type_code=kind)


def test_load_features_of_another_test_are_asked_for(tmp_path: Path):
    with pytest.raises(DataError, match="shear is missing: the model has other load features"):
        read_observation(table(tmp_path / "a.dat"), model(input_names=["e_z", "shear"]), type_code=1.0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"p": 2e5 + 1e6 * GRID}, r"p is about 2\.5e\+05, but the model was trained with p in 0.2..6 MPa"),
        ({"p": 300 + 100 * GRID}, "p is needed in MPa"),
        ({"e": 60 + GRID}, "e is about 60"),
        ({"p": 1e-6 + GRID * 1e-6}, "it must be in another unit"),
        ({"p": -0.2 - GRID}, "compression is counted positive"),
        ({"p": np.full(11, 2e5)}, "p is needed in MPa"),
    ],
)
def test_values_that_cannot_be_in_the_units_of_the_training_are_refused(tmp_path: Path, columns: Any, message: str):
    with pytest.raises(DataError, match=message):
        read_observation(table(tmp_path / "a.dat", **columns), model(), type_code=0.0)


def test_negative_values_of_a_label_that_has_them_are_taken(tmp_path: Path):
    ranges = {"e": (0.5, 1.0), "p": (0.2, 6.0), "q": (-0.1, 9.0)}
    observation = read_observation(
        table(tmp_path / "a.dat", q=10 * GRID - 0.4), model(label_ranges=ranges), type_code=0.0
    )
    assert observation.values[0, observation.labels.index("q")] == pytest.approx(-0.4)


def test_a_void_ratio_in_percent_is_refused_even_if_it_only_tells_the_lateral_strains(tmp_path: Path):
    with pytest.raises(DataError, match="e is about 65"):
        read_observation(table(tmp_path / "a.dat", e=60 + 100 * GRID), model(), labels=["p", "q"], type_code=1.0)


def test_units_are_checked_by_mean_and_deviation_where_ranges_are_not_known(tmp_path: Path):
    known = model(label_ranges={}, mean=[0.6, 1.0, 1.3], std=[0.15, 0.7, 1.5])
    read_observation(table(tmp_path / "a.dat"), known, type_code=0.0)
    with pytest.raises(DataError, match="p is needed in MPa"):
        read_observation(table(tmp_path / "b.dat", p=2e5 * (1 + GRID)), known, type_code=0.0)


@pytest.mark.parametrize(("ranges", "message"), [({"e_z": (0.0, 0.1)}, "trained in 0..0.1"), ({}, "e_z reaches 10")])
def test_strains_in_percent_are_refused(tmp_path: Path, ranges: Any, message: str):
    with pytest.raises(DataError, match=message):
        read_observation(table(tmp_path / "a.dat", GRID * 100), model(input_ranges=ranges), type_code=0.0)


def test_wrong_columns_are_named_beside_those_that_there_are(tmp_path: Path):
    path = table(tmp_path / "a.dat")
    with pytest.raises(DataError, match="has no column strain.*it has e_z, e, p, q"):
        read_observation(path, model(), control="strain")
    with pytest.raises(DataError, match="has no column f0; it has e_z, e, p, q"):
        read_observation(path, model(), labels=["f0"])
    with pytest.raises(ConfigError, match="q: is no load feature of the model.*it has e_x, e_y, e_z"):
        read_observation(path, model(), control="q")
    with pytest.raises(ConfigError, match="e_z: the model has no such label; it has e, p, q"):
        read_observation(path, model(), labels=["e_z"])
    with pytest.raises(DataError, match="has none of the model's labels s; it has e_z, e, p, q"):
        read_observation(path, model(label_names=["s"]))
    with pytest.raises(ConfigError, match="e is the same in every row and tells nothing"):
        read_observation(table(tmp_path / "b.dat", e=np.full(11, 0.6)), model(), labels=["e"])


def test_too_few_points_are_refused_before_and_after_resampling(tmp_path: Path):
    with pytest.raises(DataError, match=r"has 3 rows, fewer than the model looks at once: more than 3 are needed"):
        read_observation(table(tmp_path / "a.dat", [0, 0.05, 0.1]), model(), type_code=0.0)
    with pytest.raises(DataError, match=r"reaches e_z=0.02, which are 3 steps of the model"):
        read_observation(table(tmp_path / "b.dat", np.linspace(0, 0.02, 50)), model(), type_code=0.0)


def test_a_path_that_cannot_be_resampled_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="e_z of the observation does not increase after row 6"):
        read_observation(
            table(tmp_path / "a.dat", [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.04, 0.07]), model(), type_code=0.0
        )
    with pytest.raises(DataError, match="begins at e_z=0.05; the model needs the load from 0 on"):
        read_observation(table(tmp_path / "b.dat", np.linspace(0.05, 0.1, 30)), model(), type_code=0.0)


def test_a_first_row_shortly_after_the_beginning_stands_for_it(tmp_path: Path):
    observation = read_observation(table(tmp_path / "a.dat", np.linspace(0.004, 0.1, 49)), model(), type_code=0.0)
    assert "The first row, at e_z=0.004, stands for the beginning at 0." in observation.notes
    assert observation.values[0, 2] == pytest.approx(0.04)


def test_columns_with_other_names_are_named_as_the_model_has_them(tmp_path: Path):
    """As in the tables of GrainLearning's users: epsilon_axial e p q."""
    path = tmp_path / "a.dat"
    np.savetxt(path, np.column_stack([GRID, 0.6 + GRID, 0.3 + GRID]), header="epsilon_axial e mean_stress")
    observation = read_observation(path, model(), ["e", "p=mean_stress"], "e_z=epsilon_axial", type_code=0.0)
    assert (observation.control, observation.labels) == ("e_z", ("e", "p"))
    np.testing.assert_allclose(observation.steps, GRID)
    np.testing.assert_allclose(observation.values[:, 1], 0.3 + GRID)
    wrong: list[tuple[list[str], str, type[Exception], str]] = [
        (["e"], "e_z=strain", DataError, "has no column strain to be e_z; it has epsilon_axial, e, mean_stress"),
        (["e=mean_stress"], "e_z=epsilon_axial", ConfigError, "has a column e; mean_stress cannot be e too"),
        (["p=e", "e"], "e_z=epsilon_axial", DataError, "has no column e; it has e_z, p, mean_stress"),
        (["q=e", "p=e"], "e_z=epsilon_axial", ConfigError, "column e cannot be both q and p"),
        (["p="], "e_z=epsilon_axial", ConfigError, "--observe p=: NAME or NAME=COLUMN is needed"),
    ]
    for labels, control, error, message in wrong:
        with pytest.raises(error, match=message):
            read_observation(path, model(), labels, control, type_code=0.0)
    with pytest.raises(DataError, match="has no column e_z, .* --ctrl e_z=COLUMN"):
        read_observation(path, model(), type_code=0.0)
