"""Start sweeps."""

from glrnn_hpc.launch.sweep import resume_sweep, run_sweep

__all__ = ["resume_sweep", "run_sweep"]
