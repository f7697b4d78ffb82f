"""Train one network: python jobs/train.py.

The files go to outputs/ in the current folder; an earlier outputs/ is renamed. jobs/predict.py predicts with them.
"""

from glrnn_hpc import logs, train
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression

# What is not given has a default, which the log says.
CONFIG = {
    "raw_data": "tests/data/triaxial.hdf5",
    "pressure": "All",  # or "0.2e6", or a list
    "experiment_type": "All",  # or drained, undrained
    "add_e0": True,
    "standardize_inputs": True,
    "window_size": 10,
    "window_step": 2,
    "lstm_units": 32,
    "dense_units": 32,
    "learning_rate": 1e-3,
    "batch_size": 256,
    "epochs": 10,
    "patience": 5,
}


def main() -> None:
    """Train and say what came out."""
    logs.to_stderr()
    preprocessor = PreprocessorTriaxialCompression(**CONFIG)
    # train.train takes the same and reports to W&B, offline unless WANDB_MODE=online; the files go to wandb/ then.
    history = train.train_without_wandb(preprocessor, CONFIG)
    print(f"best val_loss of {len(history.epoch)} epochs: {min(history.history['val_loss']):.4g}")


if __name__ == "__main__":
    main()
