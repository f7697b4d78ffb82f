"""The command `glrnn`: the only place that wires parts together, and that prints.

Every import that costs time stands inside its command, so that `glrnn --help` loads neither TensorFlow nor MPI.
"""

# Importing them registers their commands.
from glrnn_hpc.cli import calibration, data, models, sites, sweeps, tracking
from glrnn_hpc.cli.app import app, main

__all__ = ["app", "calibration", "data", "main", "models", "sites", "sweeps", "tracking"]
