"""Start sweeps."""

from glrnn_hpc.launch.sweep import cancel_sweep, resume_sweep, run_sweep

__all__ = ["cancel_sweep", "resume_sweep", "run_sweep"]
