"""A calibration with the covariance of the surrogate's errors, which an export tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.calibration.calibrate import calibrate
from glrnn_hpc.calibration.surrogate import Surrogate
from glrnn_hpc.errors import ConfigError, ModelError
from tests.unit.calibration.conftest import (
    FEW,
    LABELS,
    Run,
    simulation,
    truth_of,
    write_errors,
    write_model,
    write_table,
)

MU = {"mu": (15.0, 50.0)}

#: Larger than what the network, which is not trained, makes of `mu`, and far smaller.
LARGE, SMALL = 0.02, 1e-4


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> layout.RunFolder:
    """Return a model that tells the covariance of its errors."""
    run = write_model(tmp_path_factory.mktemp("told") / "model")
    write_errors(run, SMALL)
    return run


def test_the_posterior_is_as_wide_as_the_surrogate_errs(told: layout.RunFolder, table: Path, tmp_path: Path):
    other = write_model(tmp_path / "other")
    write_errors(other, LARGE)
    narrow, wide = (calibrate(run.root, table, MU, known=truth_of(run.root, "mu"), **FEW) for run in (told, other))
    assert wide["deviation"]["mu"] > 3 * narrow["deviation"]["mu"]
    truth = simulation(told.root)[1][4]
    assert abs(narrow["mean"]["mu"] - truth) < 3 * narrow["deviation"]["mu"]
    assert narrow["interval"]["mu"][0] <= truth <= narrow["interval"]["mu"][1]
    # The model made the observation itself: all that is open is open because of the surrogate.
    assert wide["surrogate_share"]["mu"] > 0.9


def test_labels_that_follow_from_others_are_not_compared(told: layout.RunFolder, table: Path):
    known = {**truth_of(told.root, "mu"), "experiment_type": 1.0, "pressure": 0.2}
    summary = calibrate(told.root, table, MU, known=known, **FEW)
    assert summary["observed"] == [name for name in LABELS if name not in ("e", "p")]
    assert "Not compared, as it follows from other columns and the known parameters: e, p." in summary["notes"]
    with pytest.raises(ConfigError, match=r"e follows from the load and the known parameters.*--observe"):
        calibrate(told.root, table, MU, known=known, observed=["e"], **FEW)


@pytest.mark.parametrize("observed", [["q"], ["p", "a_n"], ["q", "f0", "a_t"]])
def test_chosen_labels_and_an_early_end_are_compared(
    told: layout.RunFolder, table: Path, tmp_path: Path, observed: list[str]
):
    header, *rows = table.read_text().splitlines()
    short = tmp_path / "short.dat"
    short.write_text("\n".join([header, *rows[:40]]) + "\n")
    known = truth_of(told.root, "mu")
    whole, part = (calibrate(told.root, path, MU, known=known, observed=observed, **FEW) for path in (table, short))
    assert (whole["steps"], part["steps"]) == (101, 40)
    assert whole["observed"] == part["observed"] == observed
    assert part["deviation"]["mu"] > 0.9 * whole["deviation"]["mu"]
    assert part["interval"]["mu"][0] <= simulation(told.root)[1][4] <= part["interval"]["mu"][1]


def test_without_the_covariance_one_error_for_each_label_is_taken(model_dir: Path, table: Path, tmp_path: Path):
    plain = calibrate(model_dir, table, MU, known=truth_of(model_dir, "mu"), **FEW)
    assert plain["observed"] == LABELS
    assert plain["surrogate_share"] == {"mu": None}
    other = write_model(tmp_path / "other")
    layout.write_json(other.provenance, {"errors": {"test": {name: {"rmse": 0.05} for name in LABELS}}})
    known = calibrate(other.root, table, MU, known=truth_of(model_dir, "mu"), **FEW)
    assert known["surrogate_share"]["mu"] > 0.9


def test_the_command_prints_the_share(run: Run, told: layout.RunFolder, table: Path, tmp_path: Path):
    known = [word for name, value in truth_of(told.root, "mu").items() for word in ("--known", f"{name}={value}")]
    status, out, _ = run("--param", "mu=15:50", *known, "--out", tmp_path / "a", model=told.root)
    assert status == 0
    assert "of it by the surrogate" in out
    share = json.loads((tmp_path / "a" / "calibration.json").read_text())["surrogate_share"]["mu"]
    assert f"{share:.0%}" in out.splitlines()[2] + out.splitlines()[1]
    assert 0 <= share <= 1


def test_the_covariance_of_another_model_is_refused(told: layout.RunFolder, tmp_path: Path):
    other = write_model(tmp_path / "other", window_size=8)
    other.error_covariance.write_bytes(told.error_covariance.read_bytes())
    with pytest.raises(ModelError, match=r"predicts from step 5 on; this one has .* from step 8 on. Collect the sweep"):
        Surrogate(other.root)


def test_noise_in_the_observation_lessens_the_share(told: layout.RunFolder, tmp_path: Path):
    load, _, response = simulation(told.root)
    rng = np.random.default_rng(0)
    noisy = response * (1 + 0.05 * rng.standard_normal(response.shape))
    path = write_table(tmp_path / "noisy.dat", load, noisy)
    summary = calibrate(told.root, path, MU, known=truth_of(told.root, "mu"), observed=["p", "q"], **FEW)
    assert summary["surrogate_share"]["mu"] < 0.2
