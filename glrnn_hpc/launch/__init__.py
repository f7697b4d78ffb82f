"""Start sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glrnn_hpc.launch.sweep import cancel_sweep, resume_sweep, run_sweep

__all__ = ["cancel_sweep", "resume_sweep", "run_sweep"]


def __getattr__(name: str) -> Any:
    # Not at once: the sweep's h5py may start MPI when it is imported, which `glrnn doctor` wants in a child only.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from glrnn_hpc.launch import sweep

    return getattr(sweep, name)
