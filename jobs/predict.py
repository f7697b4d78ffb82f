"""Predict the sequences of a data file with a trained network and compare them with the simulations.

python jobs/predict.py
"""

from pathlib import Path

from glrnn_hpc import logs, predict_file
from glrnn_hpc.report.prediction_figures import plot_predictions

MODEL = "runs/sweep/best"  # or outputs, where jobs/train.py put it
DATA = "tests/data/triaxial.hdf5"
SPLIT = "test"  # the sequences that the training never saw; "all" for another data file
OUT = "runs/predictions.hdf5"
FIGURE = "runs/predictions.png"


def main() -> None:
    """Write the predictions in the groups of the data, from step window_size on, and a figure."""
    logs.to_stderr()
    summary = predict_file(MODEL, DATA, OUT, SPLIT)
    for label, errors in summary["metrics"].items():
        unit = summary["units"].get(label, "-")
        print(f"{label} [{unit}]: MAE {errors['mae']:.4g}, RMSE {errors['rmse']:.4g}, R2 {errors['r2']:.3f}")
    plot_predictions(Path(OUT), Path(FIGURE), summary["metrics"])
    print(f"{summary['n_sequences']} sequences -> {OUT}, {FIGURE}")


if __name__ == "__main__":
    main()
