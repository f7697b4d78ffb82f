"""Find contact parameters by GrainLearning, with a network in place of YADE: python jobs/calibrate.py.

Needs GrainLearning: pip install 'glrnn_hpc[calibration]'. One simulation of a data file stands for the experiment.
"""

from pathlib import Path

import h5py
import numpy as np

from glrnn_hpc import calibrate, layout, logs

MODEL = "runs/sweep/best"
DATA, GROUP, SAMPLE = "tests/data/triaxial.hdf5", "0.2e6/drained", 0
OBSERVATION = "runs/observation.dat"
OBSERVED = ["e", "p", "q"]  # what is compared
# Of the training data; beyond them the network guesses.
RANGES = {"E": (8.0, 9.5), "v": (0.05, 0.45), "kr": (0.0, 1.0), "eta": (0.0, 1.0), "mu": (15.0, 50.0)}
KNOWN, EXPERIMENT_TYPE = {"pressure": 0.2}, "drained"  # MPa
NUM_SAMPLES, ITERATIONS = 50, 20
OUT = "runs/calibration"


def main() -> None:
    """Write the table of an experiment, calibrate, print the parameters; figures and all samples lie in OUT."""
    logs.to_stderr()
    with h5py.File(DATA) as file:
        names = [*file.attrs["inputs"], *file.attrs["outputs"]]
        columns = np.hstack([file[GROUP]["inputs"][SAMPLE], file[GROUP]["outputs"][SAMPLE]])
    Path(OBSERVATION).parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(OBSERVATION, columns, header=" ".join(names))
    layout.keep_aside(Path(OUT))
    settings = {"known": KNOWN, "experiment_type": EXPERIMENT_TYPE, "observed": OBSERVED}
    result = calibrate(MODEL, OBSERVATION, RANGES, OUT, n_samples=NUM_SAMPLES, n_iterations=ITERATIONS, **settings)
    for name, value in result["most_probable"].items():
        print(f"{name}: {value:.4g} +- {result['spread'][name]:.2g}")


if __name__ == "__main__":
    main()
