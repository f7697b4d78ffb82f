"""Names that `import glrnn_hpc` offers, and what it does not load."""

from __future__ import annotations

import importlib
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


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "preprocessor",
            "Preprocessor PreprocessorTriaxialCompression PreprocessorLSTM PreparedData",
        ),
        ("models", "rnn_model rnn_model_for_triax"),
        ("train", "train train_without_wandb get_default_config"),
        ("predict", "get_pretrained_model predict_macroscopics predict_batch get_best_run_from_sweep LABEL_UNITS"),
        ("windows", "ALIGNMENT Scaling Sequences DeviceCopies Gather as_tensor take_windows make_windows n_windows"),
        ("results.calibration", "calibrate surrogate_callback"),
        ("results.collector", "collect"),
        ("results.curves", "check_figure plot_predictions draw_predictions draw_errors error_band"),
        ("launch", "run_sweep resume_sweep cancel_sweep"),
        ("launch.profile", "Profile load_profile"),
        ("launch.batch", "work collect_best"),
        ("worker.loop", "run"),
    ],
)
def test_import_paths_of_version_0_1_0_still_hold_their_names(module: str, names: str):
    loaded = importlib.import_module(f"glrnn_hpc.{module}")
    assert [name for name in names.split() if not hasattr(loaded, name)] == []
