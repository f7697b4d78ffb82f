"""Sweeps that cannot work on their data: refused before the folder is made, in place of trials that fail one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.base import ExtraParameter, Group
from glrnn_hpc.experiments.triaxial import TriaxialCompression
from glrnn_hpc.launch import data_checks, run_sweep
from glrnn_hpc.launch.data_checks import check_data
from glrnn_hpc.search.sweep import load_sweep
from tests.conftest import write_steps


def check(path: Path, **keys: Any) -> None:
    parameters = {"raw_data": str(path), "window_size": 3, "learning_rate": {"values": [1e-3, 1e-2]}, **keys}
    check_data(load_sweep({"method": "grid", "parameters": parameters}))


def with_outputs(path: Path, *names: str) -> Path:
    sequences = np.zeros((8, 10, 3))
    groups = {"0.2e6/drained": (np.zeros((8, 2)), sequences, np.zeros((8, 10, len(names))))}
    write_file(path, groups, contact_params=["E", "v"], inputs=["e_x", "e_y", "e_z"], outputs=names)
    return path


def test_groups_whose_names_do_not_tell_what_is_appended_are_refused(tmp_path: Path):
    loose = write_steps(tmp_path / "loose.hdf5", groups=("loose/drained",))
    with pytest.raises(DataError, match=r"group 'loose' is no pressure in Pa; set add_pressure to False"):
        check(loose)
    with pytest.raises(DataError, match="is no pressure"):
        check(loose, add_pressure={"values": [False, True]})
    check(loose, add_pressure=False)
    cyclic = write_steps(tmp_path / "cyclic.hdf5", groups=("0.2e6/cyclic", "0.2e6/drained"))
    with pytest.raises(DataError, match=r"0\.2e6/cyclic is neither drained nor undrained; set add_experiment_type"):
        check(cyclic)
    check(cyclic, add_experiment_type=False)
    check(cyclic, experiment_type="drained")


def test_a_parameter_that_the_outputs_do_not_tell_is_refused(tmp_path: Path, monkeypatch):
    path = with_outputs(tmp_path / "a.hdf5", "q", "p")

    def density(group: Group) -> float:
        raise DataError(f"{group.file}: {group.name} has no density; there are {', '.join(group.output_names)}.")

    class Dense(TriaxialCompression):
        def extra_parameters(self) -> tuple[ExtraParameter, ...]:
            return (ExtraParameter("density", density),)

    monkeypatch.setattr(data_checks, "experiment_of", lambda spec: Dense())
    with pytest.raises(DataError, match=r"0\.2e6/drained has no density; there are q, p"):
        check(path)
    with pytest.raises(ConfigError, match="^add_e0: the experiment triaxial has no parameter e0 to append"):
        check(path, add_e0={"values": [True, False]})


def test_code_of_the_users_own_that_wants_more_than_a_sequence_is_left_to_the_trials(tmp_path: Path, monkeypatch):
    class Ranked(TriaxialCompression):
        def extra_parameters(self) -> tuple[ExtraParameter, ...]:
            return (ExtraParameter("rank", lambda group: group.outputs[[7, 0], 0, 0]),)

    monkeypatch.setattr(data_checks, "experiment_of", lambda spec: Ranked())
    check(with_outputs(tmp_path / "a.hdf5", "q", "p"))


@pytest.mark.parametrize("name", ["contact_params", "inputs", "outputs"])
def test_columns_of_text_are_refused_and_no_folder_is_made(name: str, tmp_path: Path):
    path = write_steps(tmp_path / "a.hdf5")
    with h5py.File(path, "r+") as file:
        (group,) = (file[f"{pressure}/{kind}"] for pressure in file for kind in list(file[pressure])[:1])
        shape = group[name].shape
        del group[name]
        group.create_dataset(name, data=np.full(shape, b"0.5"))
    with pytest.raises(DataError, match=rf"{name} cannot be read as numbers: it is of type"):
        check(path)
    keys = {"raw_data": str(path), "learning_rate": {"values": [1e-3]}, "window_size": 3}
    with pytest.raises(DataError, match="cannot be read as numbers"):
        run_sweep(load_sweep({"method": "grid", "parameters": keys}), tmp_path / "sweep", n_workers=0)
    assert not (tmp_path / "sweep").exists()


def test_values_that_are_stored_nowhere_are_refused(tmp_path: Path):
    path = write_steps(tmp_path / "steps.hdf5", groups=("0.2e6/drained", "0.5e6/drained"))
    with h5py.File(path, "a") as file:
        shape = file["0.5e6/drained/outputs"].shape
        del file["0.5e6/drained/outputs"]
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource("gone.hdf5", "outputs", shape)
        file["0.5e6/drained"].create_virtual_dataset("outputs", layout)
    with pytest.raises(
        DataError, match=rf"0\.5e6/drained/outputs has a part of its values in {tmp_path}/gone\.hdf5, which"
    ):
        check(path)
    check(path, pressure="0.2e6")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"inputs": {"values": [["e_z"], ["e_w"]]}},
            "inputs: 0.2e6/drained of .* no load feature e_w; it has e_x",
        ),
        ({"inputs_drained": ["e_1"]}, "inputs_drained: .* no load feature e_1"),
        ({"inputs": ["e_z", "histry"]}, r"inputs: .* no load feature histry; .*did you mean history\?"),
        ({"inputs": {"values": [["e_z"], ["history"]]}}, "inputs: e_z_direction is derived from e_z; choose e_z, too"),
        ({"exact": ["e"], "add_e0": {"values": [True, False]}}, "exact: e is not exact here: .* needs e0"),
        ({"exact": True, "inputs": ["e_z"]}, "exact: no label is exact here: .*needs e0, e_x, e_y"),
    ],
)
def test_columns_that_a_trial_would_lack_are_named_before_it_begins(
    keys: dict[str, Any], message: str, steps_file: Path
):
    with pytest.raises(ConfigError, match=message):
        check(steps_file, **keys)


def test_load_features_and_targets_that_the_data_have_are_accepted(steps_file: Path):
    check(steps_file, inputs={"values": [["e_z"], ["e_x", "e_z", "history"]]}, label_scaling="physical")
    check(steps_file, exact={"value": ["e"]}, add_e0=True)
