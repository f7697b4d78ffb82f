from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.experiments.registry import DEFAULT, experiment_named, experiment_of, is_built_in
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.preprocessor.from_file import preprocessor_of_file

COMPLETE = {
    "name": "'own'",
    "contact_params": "(Column('E'),)",
    "inputs": "(Column('e_z'), Column('e_r'))",
    "outputs": "(Column('p', 'kPa'),)",
    "type_codes": "{'loading': 1.0}",
}


def write_experiment(folder: Path, module: str, base: str = "Experiment", **parts: str | None) -> str:
    """Write a module with the experiment `Own` of some parts and return its reference."""
    lines = [f"    {part} = {value}" for part, value in {**COMPLETE, **parts}.items() if value is not None]
    imports = "from glrnn_hpc.experiments.base import Column, Experiment\n\n"
    (folder / f"{module}.py").write_text("\n".join([f"{imports}class Own({base}):", *lines]) + "\n", encoding="utf-8")
    return f"{module}:Own"


def test_a_configuration_without_the_key_is_of_triaxial_compression():
    assert experiment_of({}) is DEFAULT
    assert experiment_of({"experiment": "triaxial"}) is TRIAXIAL
    assert is_built_in(None)
    assert is_built_in("arrays")
    assert not is_built_in("mine:Own")


def test_an_own_experiment_is_found_in_a_folder_and_its_last_input_controls_the_steps(tmp_path: Path):
    own = experiment_named(write_experiment(tmp_path, "own_complete"), directory=tmp_path)
    assert own.name == "own"
    assert own.control == "e_r"
    assert dict(own.units()) == {"p": "kPa"}
    assert [parameter.name for parameter in own.extra_parameters()] == ["experiment_type"]


@pytest.mark.parametrize("name", ["triaxal", "Triaxial", "compression", 3, ["triaxial"]])
def test_an_unknown_name_is_one_message_with_the_known_names_and_the_way_to_an_own_one(name: object):
    with pytest.raises(
        ConfigError, match=r"there is no experiment .*Known are triaxial, arrays.*module:Class"
    ) as caught:
        experiment_of({"experiment": name}, "parameters")
    assert str(caught.value).startswith("parameters.experiment: ")
    assert ("did you mean triaxial?" in str(caught.value)) == (name in ("triaxal", "Triaxial", ["triaxial"]))


@pytest.mark.parametrize("part", list(COMPLETE))
def test_a_class_that_lacks_a_part_is_refused_with_the_name_of_the_part(tmp_path: Path, part: str):
    reference = write_experiment(tmp_path, f"own_without_{part}", **{part: None})
    with pytest.raises(ConfigError, match=rf"{reference} has no `{part}`; an experiment needs name"):
        experiment_named(reference, directory=tmp_path)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("inputs", "('e_z',)", r"`inputs` must be a tuple of one or more Column, it is \('e_z',\)"),
        ("outputs", "()", r"`outputs` must be a tuple of one or more Column, it is \(\)"),
        ("outputs", "(Column('p'), Column('p'))", "`outputs` names a column twice: p, p"),
        ("type_codes", "{'loading': 'one'}", "`type_codes` must map each experiment type to a number"),
        ("control", "'e_x'", "`control` must be one of the inputs e_z, e_r, it is 'e_x'"),
        ("name", "''", "`name` must be a text, it is ''"),
    ],
)
def test_a_part_of_a_wrong_kind_is_refused_with_what_is_needed(tmp_path: Path, part: str, value: str, message: str):
    reference = write_experiment(tmp_path, f"own_wrong_{part}_{len(value)}", **{part: value})
    with pytest.raises(ConfigError, match=message):
        experiment_named(reference, directory=tmp_path)


def test_what_is_no_experiment_is_refused(tmp_path: Path):
    reference = write_experiment(tmp_path, "own_object", base="object")
    with pytest.raises(ConfigError, match="own_object:Own is no experiment; it must be a subclass of"):
        experiment_named(reference, directory=tmp_path)
    with pytest.raises(ConfigError, match=r"--experiment: nowhere cannot be imported from"):
        experiment_named("nowhere:Own", "--experiment", directory=tmp_path)


def test_arrays_have_no_file_that_a_sweep_could_read(steps_file: Path):
    with pytest.raises(ConfigError, match="arrays has the preprocessor .*PreprocessorLSTM, which reads no file"):
        preprocessor_of_file({"raw_data": str(steps_file), "experiment": "arrays"})


def test_a_switch_of_a_parameter_that_the_experiment_lacks_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"raw_data": "data.hdf5", "experiment": write_experiment(tmp_path, "own_no_e0")}
    with pytest.raises(ConfigError, match="add_e0: the experiment own has no parameter e0 to append; it has"):
        preprocessor_of_file({**keys, "add_e0": True})
    # On by default, so that it says nothing of what the user wants.
    assert preprocessor_of_file({**keys, "add_pressure": True}).experiment.name == "own"


def test_experiments_load_no_tensorflow():
    code = "import sys, glrnn_hpc.experiments.registry; print('tensorflow' in sys.modules, 'h5py' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", "False"]
