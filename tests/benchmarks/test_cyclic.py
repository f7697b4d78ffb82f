"""Ways to learn loads that reverse: the shipped one against others with and without the history, by equal searches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from matplotlib.figure import Figure

from glrnn_hpc import layout
from glrnn_hpc.config import load_yaml
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.load_path import branch_ends
from glrnn_hpc.predict import metrics_per_label
from glrnn_hpc.search.sweep import load_sweep

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
SWEEP_FILE = ROOT / "sweeps" / "dem_cyclic.yaml"
DATA = ROOT / "tests" / "data" / "cyclic.hdf5"

#: What takes long stays here: a sweep that was cut off goes on.
OUT = ROOT / "runs" / "cyclic"

#: Folder of a sweep of sweeps/dem_cyclic.yaml that is there already; by default it is made here.
SWEEP = Path(os.environ.get("CYCLIC_SWEEP", OUT / "lstm"))

NAMES = {
    "lstm": "LSTM, short window, history of the load",
    "plain": "LSTM, window of 10 steps",
    "dense_history": "dense layers, the same short window, history of the load",
    "dense": "dense layers, window of 10 steps",
    "dense_path": "dense layers, the whole path so far as one window",
}

#: Searches that differ from the sweep file in these keys.
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {"inputs": ["e_x", "e_y", "e_z"], "window_size": 10},
    "dense_history": {},
    "dense": {"inputs": ["e_x", "e_y", "e_z"], "window_size": 10},
    # As many steps as a sequence has before its last one, and padding where it has not begun.
    "dense_path": {"inputs": ["e_x", "e_y", "e_z"], "window_size": 120, "pad_length": 119},
}
COLOURS = {"lstm": "#D55E00", "plain": "#0072B2"}

#: A difference of this many standard errors over the test sequences is none that their choice explains.
BEYOND_NOISE = 2.0


@dataclass(frozen=True)
class Found:
    """Best trial of a search: what it is, and its predictions of the test split beside what was simulated.

    `paths` are the whole axial strains (n, 121); the responses (n, n_predicted, n_labels) end with the same step.
    """

    trial: dict[str, Any]
    states: dict[str, int]
    epochs: int
    scale: np.ndarray
    labels: list[str]
    paths: np.ndarray
    predicted: np.ndarray
    simulated: np.ndarray


def glrnn(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "glrnn_hpc", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def sweep_file_of(name: str) -> Path:
    """Write the sweep file of another way: the same search, trials, epochs and data, but other inputs or layers."""
    content = load_yaml(SWEEP_FILE)
    keys = content["parameters"]
    if name.startswith("dense"):
        for key in ("lstm_units", "dense_units"):
            keys.pop(key)
        keys["network"] = {"value": "tests.benchmarks.feed_forward:feed_forward"}
        keys["units"] = {"values": [64, 128, 256]}
        keys["n_layers"] = {"values": [2, 3, 4]}
    keys |= {key: {"value": value} for key, value in CHANGES[name].items()}
    file = OUT / f"{name}.yaml"
    OUT.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({**content, "name": name}, sort_keys=False), encoding="utf-8")
    return file


def best_of(sweep_file: Path, folder: Path) -> Found:
    """Run a sweep, or what is left of it, and predict the test split with the best trial."""
    if folder.exists() and load_sweep(folder / "sweep.yaml").searched != load_sweep(sweep_file).searched:
        layout.keep_aside(folder)
    if folder.exists():
        glrnn("resume", str(folder))
    else:
        glrnn("sweep", str(sweep_file), "--out", str(folder), "--ranks-per-worker", "2")
    collected = glrnn("collect", str(folder))
    best = layout.RunFolder(Path(collected["best"]["path"]))
    out = OUT / f"{folder.name}.hdf5"
    glrnn("predict", str(best.root), str(DATA), "--out", str(out))
    paths, predicted, simulated = [], [], []
    with h5py.File(out) as file, h5py.File(DATA) as data:
        column = list(data.attrs["inputs"]).index(TRIAXIAL.control)
        for name in (f"{pressure}/{kind}" for pressure in file for kind in file[pressure]):
            paths.append(data[f"{name}/inputs"][file[f"{name}/samples"][:]][:, :, column])
            predicted.append(file[f"{name}/outputs"][:])
            simulated.append(file[f"{name}/simulated"][:])
    stats = layout.read_json(best.train_stats)
    return Found(
        trial=collected["best"]["config"],
        states=collected["trials"],
        epochs=layout.read_json(best.provenance)["epochs"],
        scale=np.asarray(stats["labels_std"], "float64"),
        labels=stats["label_names"],
        paths=np.concatenate(paths).astype("float64"),
        predicted=np.concatenate(predicted).astype("float64"),
        simulated=np.concatenate(simulated).astype("float64"),
    )


def has_reversed(paths: np.ndarray) -> np.ndarray:
    """Return whether the load has turned round before each step, shape (n, n_steps)."""
    return np.arange(paths.shape[1]) > np.array([branch_ends(path)[1] for path in paths])[:, None]


def draw_loops(found: dict[str, Found], n_steps: int) -> None:
    """Draw q over the axial strain for six test sequences, from a small error of the shipped way to a large one."""
    lstm = found["lstm"]
    q = lstm.labels.index("q")
    errors = (((lstm.predicted - lstm.simulated)[:, -n_steps:] / lstm.scale) ** 2).mean(axis=(1, 2))
    order = np.argsort(errors, kind="stable")
    shares = (0.1, 0.25, 0.4, 0.6, 0.75, 0.9)
    figure = Figure(figsize=(10.5, 6.2), layout="constrained")
    for axis, share in zip(figure.subplots(2, 3).ravel(), shares, strict=True):
        row = order[int(share * len(order))]
        strain = lstm.paths[row, -n_steps:]
        axis.plot(strain, lstm.simulated[row, -n_steps:, q], color="0.35", lw=2.4, label="simulated (DEM)")
        for name in COLOURS:
            values = found[name].predicted[row, -n_steps:, q]
            axis.plot(strain, values, color=COLOURS[name], lw=1.2, ls="--", label=NAMES[name])
        axis.set_title(f"{share:.0%} of the tests have a smaller error", fontsize="small")
        axis.set_xlabel(TRIAXIAL.input_label(TRIAXIAL.control))
        axis.set_ylabel("q [MPa]")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(RESULTS / "cyclic.png", dpi=110)


def point_of(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )


def test_the_shipped_way_is_no_worse_than_others_beyond_noise_and_better_than_the_same_network_without_the_history():
    found = {"lstm": best_of(SWEEP_FILE, SWEEP)}
    found |= {name: best_of(sweep_file_of(name), OUT / name) for name in CHANGES}
    lstm = found["lstm"]
    n_steps = min(each.predicted.shape[1] for each in found.values())
    for each in found.values():
        np.testing.assert_array_equal(each.paths, lstm.paths)
        np.testing.assert_allclose(each.simulated[:, -n_steps:], lstm.simulated[:, -n_steps:], rtol=1e-6)
    later = has_reversed(lstm.paths)[:, -n_steps:]
    errors = {
        name: (((each.predicted - each.simulated)[:, -n_steps:] / lstm.scale) ** 2).mean(axis=2)
        for name, each in found.items()
    }
    # Of each test sequence: errors at its steps are not independent of each other.
    excess = {name: of_name.mean(axis=1) - errors["lstm"].mean(axis=1) for name, of_name in errors.items()}
    noise = {name: each.std(ddof=1) / np.sqrt(len(each)) for name, each in excess.items()}
    r2 = {
        name: metrics_per_label(each.predicted[:, -n_steps:], each.simulated[:, -n_steps:], each.labels)
        for name, each in found.items()
    }
    draw_loops(found, n_steps)
    n_trials, last = sum(lstm.states.values()), lstm.paths.shape[1] - 1
    about = f"""
        Errors of the {len(lstm.paths)} test sequences of tests/data/cyclic.hdf5 (split by sequences, seed 42), all
        groups, steps {last + 1 - n_steps} to {last}, which all networks predict: of each search the one trial with the
        best validation loss. The first row is sweeps/dem_cyclic.yaml. The others are the same sweep file
        ({n_trials} trials each, as many epochs, the same parameters, labels and optimizer) with the strains alone, with
        dense layers in place of the LSTM, or both; dense layers see the steps of a window side by side, not one after
        the other. The last column is the difference to the first row, over the test sequences, with its standard error;
        another seed of the trainings moves the rows, too. The emulator of Gaussian processes does not apply,
        because each sequence has a load path of its own."""
    lines = [
        *textwrap.wrap(" ".join(about.split()), 118),
        "",
        "| | trials | epochs | MSE in units of the raw labels' deviation | before the first reversal | after it | "
        "difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in found.items():
        states = ", ".join(f"{count} {state}" for state, count in each.states.items() if count)
        parts = (errors[name], errors[name][~later], errors[name][later])
        cells = " | ".join(f"{part.mean():.3f}" for part in parts)
        more = "" if name == "lstm" else f"{excess[name].mean():+.3f} ± {noise[name]:.3f}"
        lines.append(f"| {NAMES[name]} | {states} | {each.epochs} | {cells} | {more} |")
    lines += ["", "R² of each label:", "", f"| label | {' | '.join(NAMES.values())} |", f"|---|{'---|' * len(NAMES)}"]
    for label in lstm.labels:
        lines.append(f"| {label} | {' | '.join(format(r2[name][label]['r2'], '.3f') for name in found)} |")
    lines += ["", "The best trials:", ""]
    lines += [f"- {NAMES[name]}: {point_of(each.trial)}." for name, each in found.items()]
    lines += ["", "![Simulated and predicted q over the axial strain of six test sequences](cyclic.png)"]
    (RESULTS / "cyclic.md").write_text("\n".join(lines) + "\n")
    assert excess["plain"].mean() > BEYOND_NOISE * noise["plain"]
    for name in CHANGES:
        assert excess[name].mean() > -BEYOND_NOISE * noise[name], name
