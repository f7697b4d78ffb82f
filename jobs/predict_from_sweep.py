"""Predict with the best network of a sweep, in memory: python jobs/predict_from_sweep.py.

The sweep may still be running. The sequences are those of its data that the training never saw.
"""

import numpy as np

from glrnn_hpc import logs, predict

SWEEP = "runs/sweep"
OUT = "runs/predictions.npz"


def main() -> None:
    """Predict, compare with the simulations, save both as arrays (n_sequences, n_steps, n_labels)."""
    logs.to_stderr()
    model, data, train_stats, config = predict.get_best_run_from_sweep(SWEEP)
    if data is None:
        raise SystemExit("The data of the sweep are not there any more, as the log says; see jobs/predict.py.")
    predicted = predict.predict_macroscopics(model, data, train_stats, config).numpy()  # in original units

    # The labels of the data are those of the training: from step window_size on, back to original units.
    simulated = np.stack([labels for _, labels in data.as_numpy_iterator()])[:, config["window_size"] :]
    if config["standardize_outputs"]:
        simulated = simulated * train_stats["std"] + train_stats["mean"]

    names = train_stats["label_names"]
    for label, errors in predict.metrics_per_label(predicted, simulated, names).items():
        print(f"{label}: MAE {errors['mae']:.4g}, RMSE {errors['rmse']:.4g}, R2 {errors['r2']:.3f}")
    np.savez(OUT, predicted=predicted, simulated=simulated, labels=names)
    print(f"{len(predicted)} sequences -> {OUT}")


if __name__ == "__main__":
    main()
