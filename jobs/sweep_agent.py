"""Train one trial of a sweep that the server of W&B leads: the `program` of a sweep file, run by `wandb agent`.

wandb sweep sweeps/example_sweep.yaml     makes the sweep and says its name
wandb agent ENTITY/PROJECT/ID             asks for trials and runs this script for each, wherever there is internet

Without a server it trains with the defaults: WANDB_MODE=offline python jobs/sweep_agent.py
"""

import wandb

from glrnn_hpc import logs, train
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression

# What the sweep says of these comes first.
DEFAULTS = {
    "raw_data": "tests/data/triaxial.hdf5",
    "add_e0": True,
    "standardize_inputs": True,
    "window_size": 10,
    "window_step": 2,
    "lstm_units": 32,
    "dense_units": 32,
    "learning_rate": 1e-3,
    "batch_size": 256,
    "epochs": 10,
}


def main() -> None:
    """Train with the configuration of the run, which the agent has set."""
    logs.to_stderr()
    with wandb.init(config=DEFAULTS) as run:
        config = dict(run.config)
        preprocessor = PreprocessorTriaxialCompression(**config)
        # In the run that is open: each epoch is logged there, the model lies among its files.
        train.train(preprocessor, config)


if __name__ == "__main__":
    main()
