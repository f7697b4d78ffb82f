"""Figure of predictions under its import path of version 0.1.0."""

from glrnn_hpc.report.prediction_figures import plot_predictions

__all__ = ["plot_predictions"]
