"""Names that `import glrnn_hpc` offers, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import glrnn_hpc
from glrnn_hpc.predict import get_pretrained_model
from glrnn_hpc.search.sweep import load_sweep

HEAVY = {"tensorflow", "keras", "h5py", "mpi4py", "wandb", "optuna", "scipy", "numpy", "pydantic", "matplotlib"}


def heavy_modules_after(code: str) -> str:
    report = f"import sys; print(sorted({HEAVY!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_importing_the_package_loads_no_library():
    assert heavy_modules_after("import glrnn_hpc; glrnn_hpc.__version__, dir(glrnn_hpc)") == "[]"


def test_the_help_of_the_command_loads_no_library():
    assert heavy_modules_after("from glrnn_hpc.cli import app; app(['--help'], standalone_mode=False)") == "[]"


def test_reading_a_sweep_file_loads_neither_tensorflow_nor_mpi():
    loaded = heavy_modules_after("from glrnn_hpc import load_sweep, load_profile, run_sweep")
    assert not {"tensorflow", "mpi4py"} & {*loaded.split("'")}


@pytest.mark.parametrize("name", glrnn_hpc.__all__)
def test_every_public_name_is_there_and_is_listed(name: str):
    assert getattr(glrnn_hpc, name)
    assert name in dir(glrnn_hpc)


def test_public_names_are_those_of_the_modules_that_define_them():
    assert glrnn_hpc.load_sweep is load_sweep
    assert glrnn_hpc.load_model is get_pretrained_model
    assert glrnn_hpc.__version__ == metadata.version("glrnn_hpc")


def test_an_unknown_name_is_an_attribute_error_and_modules_are_still_imported():
    with pytest.raises(AttributeError, match="module 'glrnn_hpc' has no attribute 'run_swep'"):
        _ = glrnn_hpc.run_swep
    from glrnn_hpc import layout

    assert layout.SweepFolder
