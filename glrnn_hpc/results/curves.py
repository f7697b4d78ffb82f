"""Figure of predictions under its import path of version 0.1.0."""

from glrnn_hpc.report.error_bands import error_band
from glrnn_hpc.report.prediction_figures import (
    check_figure_path,
    draw_errors,
    draw_predictions,
    plot_predictions,
)

#: Its name of version 0.1.0.
check_figure = check_figure_path

__all__ = ["check_figure", "draw_errors", "draw_predictions", "error_band", "plot_predictions"]
