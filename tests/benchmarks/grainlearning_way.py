"""Train a network with GrainLearning's own code and settings, and predict its test split.

Run in an empty folder, because GrainLearning writes into `outputs/` of the current one:
`python grainlearning_way.py documented|default DATA.hdf5 EPOCHS OUT.npz`
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from grainlearning.rnn import models, train, windows
from grainlearning.rnn.preprocessor import PreprocessorTriaxialCompression

#: What the data need, with either settings: all simulations, told apart by pressure, type and initial void ratio.
DATA = {
    "pressure": "All",
    "experiment_type": "All",
    "add_pressure": True,
    "add_experiment_type": True,
    "add_e0": True,
    "train_frac": 0.7,
    "val_frac": 0.15,
}

#: Both read raw inputs and train for EPOCHS at most; the documentation's script stops after 10, the default is 100.
SETTINGS = {
    "documented": {
        "window_size": 20,
        "window_step": 1,
        "patience": 25,
        "learning_rate": 1e-4,
        "lstm_units": 250,
        "dense_units": 250,
        "batch_size": 256,
        "standardize_outputs": True,
        "save_weights_only": True,
    },
    "default": {**train.get_default_config(), "save_weights_only": True},
}


def main(settings: str, data: str, epochs: str, out: str) -> None:
    config = {**DATA, **SETTINGS[settings], "raw_data": data, "epochs": int(epochs)}
    splits, stats = PreprocessorTriaxialCompression(**config).prepare_datasets(seed=42)
    model = models.rnn_model(stats, **config)
    begin = time.monotonic()
    history = train.train_without_wandb(PreprocessorTriaxialCompression(**config), config=config, model=model)
    seconds = time.monotonic() - begin
    inputs, params, labels = windows.extract_tensors(splits["test"])
    size, n_steps = config["window_size"], inputs.shape[1]
    # A window that ends at step t predicts step t: the first of these is of step size - 1, which is left out, and the
    # last one is that of the last step, for which GrainLearning must be told one step more.
    given = {"inputs": inputs, "params": params}
    predicted = windows.predict_over_windows(given, model, size, n_steps + 1).numpy()[:, 1:]
    np.savez(
        out,
        predicted=predicted * stats["std"] + stats["mean"],
        simulated=labels[:, size:] * stats["std"] + stats["mean"],
        description=json.dumps({"epochs": len(history.history["loss"]), "seconds": seconds, "config": config}),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
