"""Best model of a sweep against the network of GrainLearning's documentation, with as many epochs."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from glrnn_hpc import layout
from glrnn_hpc.config import load_yaml
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.predict import metrics_per_label
from glrnn_hpc.records.baseline import BaselineComparison
from glrnn_hpc.search.sweep import load_sweep

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
DATA = ROOT / "tests" / "data" / "triaxial.hdf5"
SWEEP_FILE = ROOT / "sweeps" / "dem_all.yaml"

#: What takes long stays here: a sweep that was cut off goes on, a training that is done is not repeated.
OUT = ROOT / "runs" / "accuracy"

EPOCHS = 60
N_TRIALS = 24

#: The first step that the largest window of all predicts: every network is judged by the same steps.
FIRST_STEP = 20


def glrnn(*arguments: str, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    command = [sys.executable, "-m", "glrnn_hpc", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode in allowed, arguments
    return json.loads(done.stdout)


def best_of_the_sweep() -> dict[str, Any]:
    """Run the sweep, or what is left of it, and return what `glrnn collect` says."""
    folder = OUT / "dem_all"
    if folder.exists() and load_sweep(folder / "sweep.yaml").searched != load_sweep(SWEEP_FILE).searched:
        layout.keep_aside(folder)
    if folder.exists():
        glrnn("resume", str(folder))
    else:
        glrnn("sweep", str(SWEEP_FILE), "--out", str(folder), "--ranks-per-worker", "2")
    return glrnn("collect", str(folder))


def grainlearning(settings: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return what GrainLearning's network predicts for its test split, what was simulated, and how it was trained."""
    folder = OUT / f"grainlearning-{settings}"
    out = folder / f"test-{EPOCHS}.npz"
    if not out.exists():
        layout.keep_aside(folder)  # GrainLearning would ask whether it may delete an earlier outputs/
        folder.mkdir(parents=True)
        script = Path(__file__).parent / "grainlearning_way.py"
        command = [sys.executable, str(script), settings, str(DATA), str(EPOCHS), str(out)]
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    with np.load(out) as found:
        described = json.loads(str(found["description"]))
        first = FIRST_STEP - described["config"]["window_size"]
        return found["predicted"][:, first:], found["simulated"][:, first:], described


def predicted_by(model_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return what our model predicts for its test split, and what was simulated."""
    out = OUT / "predictions.hdf5"
    glrnn("predict", str(model_dir), str(DATA), "--out", str(out))
    first = FIRST_STEP - int(load_yaml(model_dir / "config.yaml")["window_size"])
    with h5py.File(out) as file:
        groups = [file[pressure][kind] for pressure in file for kind in file[pressure]]
        arrays = [np.concatenate([group[name][:] for group in groups]) for name in ("outputs", "simulated")]
    return arrays[0][:, first:], arrays[1][:, first:]


def in_one_order(predicted: np.ndarray, simulated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sequences in the order of their first void ratio: each has another one."""
    order = np.argsort(simulated[:, 0, 0])
    return predicted[order], simulated[order]


def point_of(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )


def test_the_best_of_a_sweep_has_at_most_half_the_error_of_grainlearnings_way():
    found = best_of_the_sweep()
    assert sum(found["trials"].values()) == N_TRIALS
    best = layout.RunFolder(Path(found["best"]["path"]))
    stats, epochs = layout.read_json(best.train_stats), layout.read_json(best.provenance)["epochs"]
    ours, simulated = in_one_order(*predicted_by(best.root))
    predictions, trained = {"ours": ours}, {"ours": epochs}
    for settings in ("documented", "default"):
        predicted, same, described = grainlearning(settings)
        predictions[settings], same = in_one_order(predicted, same)
        # The same sequences and the same steps: the split is GrainLearning's.
        np.testing.assert_allclose(same, simulated, rtol=1e-4, atol=1e-4)
        trained[settings] = described["epochs"]
    mse = {
        name: float((((predicted.astype("float64") - simulated) / stats["std"]) ** 2).mean())
        for name, predicted in predictions.items()
    }
    labels = stats["label_names"]
    errors = {name: metrics_per_label(predicted, simulated, labels) for name, predicted in predictions.items()}
    states = ", ".join(f"{count} {state}" for state, count in found["trials"].items() if count)
    names = {
        "ours": "best of the sweep",
        "documented": "GrainLearning, settings of its documentation",
        "default": "GrainLearning, its default settings",
    }
    about = f"""
        Errors of the {len(simulated)} test sequences of tests/data/triaxial.hdf5 (split by sequences, seed 42), all
        groups, steps {FIRST_STEP} to {FIRST_STEP + simulated.shape[1] - 1}: the trial of sweeps/dem_all.yaml with the
        best validation loss ({N_TRIALS} trials: {states}) against networks that GrainLearning 2.0.5's own code trained
        on raw inputs, with the settings of its documentation (window 20, LSTM 250, dense 250, learning rate 1e-4,
        batches of 256, patience 25) and with its defaults (window 10, LSTM 200, dense 200, learning rate 1e-3, batches
        of 256, patience 5). At most {EPOCHS} epochs each; all know pressure, type and initial void ratio."""
    lines = [
        *textwrap.wrap(" ".join(about.split()), 118),
        "",
        f"The best trial: {point_of(found['best']['config'])}.",
        "",
        "| | epochs | MSE in standardised units | best of the sweep / this |",
        "|---|---|---|---|",
        *(f"| {names[n]} | {trained[n]} | {mse[n]:.4f} | {mse['ours'] / mse[n]:.2f} |" for n in names),
        "",
        f"By `glrnn collect`, from step {found['baseline']['first_step']} on: "
        f"{BaselineComparison(**found['baseline']).in_words()}.",
        "",
        "In original units, ours / documented settings / default settings:",
        "",
        "| label | unit | MAE | RMSE | R² |",
        "|---|---|---|---|---|",
    ]
    for label in labels:
        cells = [" / ".join(f"{errors[n][label][kind]:.3g}" for n in names) for kind in ("mae", "rmse", "r2")]
        lines.append(f"| {label} | {TRIAXIAL.units().get(label, '-')} | {' | '.join(cells)} |")
    (RESULTS / "accuracy.md").write_text("\n".join(lines) + "\n")
    assert mse["ours"] <= 0.5 * mse["documented"]
