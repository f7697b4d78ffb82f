"""Launch of a sweep's workers: run, resume and cancel a sweep; the contract of launchers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glrnn_hpc.launch.launcher import Launcher, worker_command
    from glrnn_hpc.launch.sweep import cancel_sweep, resume_sweep, run_sweep

__all__ = ["Launcher", "cancel_sweep", "resume_sweep", "run_sweep", "worker_command"]


if not TYPE_CHECKING:  # a type checker takes the names from above, and does not believe in any other

    def __getattr__(name: str) -> object:
        # Not at once: the sweep's h5py may start MPI when it is imported, which `glrnn doctor` wants in a child only.
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = "launcher" if name in ("Launcher", "worker_command") else "sweep"
        return getattr(import_module(f"{__name__}.{module}"), name)
