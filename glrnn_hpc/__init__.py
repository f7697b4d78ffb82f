"""LSTM surrogates of DEM simulations, searched for on HPC clusters.

The names in `__all__` are imported when they are first used: to import this package loads neither TensorFlow nor MPI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glrnn_hpc.hdf5_plugins import keep_setting as _keep_setting_of_hdf5_plugins

if TYPE_CHECKING:
    from glrnn_hpc.calibration.calibrate import calibrate, surrogate_callback
    from glrnn_hpc.collector.collect import collect
    from glrnn_hpc.file_prediction import predict_file
    from glrnn_hpc.launch import run_sweep
    from glrnn_hpc.launch.slurm.profile import load_profile
    from glrnn_hpc.predict import get_pretrained_model as load_model
    from glrnn_hpc.preprocessor import Preprocessor
    from glrnn_hpc.search.sweep import load_sweep

    __version__: str

__all__ = [
    "Preprocessor",
    "__version__",
    "calibrate",
    "collect",
    "load_model",
    "load_profile",
    "load_sweep",
    "predict_file",
    "run_sweep",
    "surrogate_callback",
]

_keep_setting_of_hdf5_plugins()

if not TYPE_CHECKING:  # a type checker takes the names from above, and does not believe in any other

    def __getattr__(name: str) -> object:
        from importlib import import_module, metadata

        if name == "__version__":
            return metadata.version(__name__)
        sources = {
            "Preprocessor": "glrnn_hpc.preprocessor:Preprocessor",
            "calibrate": "glrnn_hpc.calibration.calibrate:calibrate",
            "collect": "glrnn_hpc.collector.collect:collect",
            "load_model": "glrnn_hpc.predict:get_pretrained_model",
            "load_profile": "glrnn_hpc.launch.slurm.profile:load_profile",
            "load_sweep": "glrnn_hpc.search.sweep:load_sweep",
            "predict_file": "glrnn_hpc.file_prediction:predict_file",
            "run_sweep": "glrnn_hpc.launch:run_sweep",
            "surrogate_callback": "glrnn_hpc.calibration.calibrate:surrogate_callback",
        }
        if name not in sources:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, attribute = sources[name].partition(":")
        return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
