"""Work of a Slurm job under its import path of version 0.1.0, by which jobs that were submitted then call it."""

from glrnn_hpc.launch.slurm.batch_script import collect_best, work

__all__ = ["collect_best", "work"]
