"""Calibration under its import path of version 0.1.0."""

from glrnn_hpc.calibration.calibrate import calibrate, surrogate_callback

__all__ = ["calibrate", "surrogate_callback"]
