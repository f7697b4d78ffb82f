"""Site profile under its import path of version 0.1.0."""

from glrnn_hpc.launch.slurm.profile import Profile, load_profile

__all__ = ["Profile", "load_profile"]
