"""Program of a worker under its import path of version 0.1.0."""

from glrnn_hpc.worker.main import run

__all__ = ["run"]
