"""Ensembles of the sweeps behind the shipped models against their best single models and Gaussian processes.

SURROGATES=folder is where the sweeps go, runs/surrogates by default: one that is there is collected again, not run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from glrnn_hpc.baseline.fit import NoBaseline, baseline_key, fit_baseline
from glrnn_hpc.config import dump_yaml, load_yaml
from glrnn_hpc.preprocessor.from_file import FilePreprocessor
from glrnn_hpc.preprocessor.splits import split_ids

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
OUT = Path(os.environ.get("SURROGATES", ROOT / "runs" / "surrogates"))

#: Seeds of the searches.
SEEDS = (42, 1, 2)

#: Members that are picked, as for the shipped models, which together must not be larger than 4 MB.
N_MEMBERS = {"dem_all": 8, "dem_drained": 4, "dem_undrained": 4, "dem_cyclic": 4}

#: The first step that is compared.
FIRST_STEP = 10

#: Models of a sweep.
KINDS = ("ensemble", "single")

#: Labels per model, in the order of the data.
LABELS = ("e", "p", "q", "f0", "a_c", "a_n", "a_t")


@dataclass(frozen=True)
class Found:
    """Errors of one sweep's models on the test split, in units of the deviations of the training labels.

    Attributes
    ----------
    ensemble, single : ndarray, shape (n_labels,)
        Mean squared errors of the ensemble, and of its member with the least error on the validation split.
    coverage : ndarray, shape (n_labels,)
        Parts of the test values within the 90 % intervals.
    baseline : ndarray, shape (n_labels,), or str
        Mean squared errors of the Gaussian processes of `glrnn collect`, fitted to the compared steps; or why there are
        none.
    """

    ensemble: np.ndarray
    single: np.ndarray
    coverage: np.ndarray
    baseline: np.ndarray | str


def glrnn(*arguments: str, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    command = [sys.executable, "-m", "glrnn_hpc", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode in allowed, arguments
    return json.loads(done.stdout)


def swept(name: str, seed: int) -> Path:
    """Run a sweep with a seed of its search, or what is left of it."""
    folder = OUT / f"{name}-{seed}"
    if folder.exists():
        glrnn("resume", str(folder))
        return folder
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{name}-{seed}.yaml"
    file.write_text(dump_yaml({**load_yaml(ROOT / "sweeps" / f"{name}.yaml"), "seed": seed}))
    glrnn("sweep", str(file), "--out", str(folder), "--ranks-per-worker", "2")
    return folder


def deviations(config: dict[str, Any], experiment_type: str | None) -> np.ndarray:
    """Return the deviations of the labels over the training split, or over its sequences of one type."""
    preprocessor = FilePreprocessor(**{**config, "raw_data": str(ROOT / config["raw_data"])})
    sequences = preprocessor.all_sequences()
    labels = sequences.arrays()[2][:, sequences.pad_length :]
    train = split_ids(len(labels), config["train_frac"], config["val_frac"], 42)["train"]
    if experiment_type is not None:
        shapes = preprocessor.groups()
        types = np.repeat([shape.experiment_type for shape in shapes], [shape.n_samples for shape in shapes])
        train = train[types[train] == experiment_type]
    return labels[train].astype("float64").std(axis=(0, 1))


def predicted(folder: Path, data: str, experiment_type: str | None) -> dict[str, np.ndarray]:
    """Return what `glrnn predict` writes of the test split, (n, steps from the first compared one, n_labels)."""
    out = OUT / "predictions.hdf5"
    glrnn("predict", str(folder), data, "--out", str(out))
    found: dict[str, list[np.ndarray]] = {}
    with h5py.File(out) as file:
        for group in (file[pressure][kind] for pressure in file for kind in file[pressure]):
            if experiment_type in (None, group.name.rpartition("/")[2]):
                n_steps = group["outputs"].shape[1]
                first = FIRST_STEP - (n_steps_of(data) - n_steps)
                for name in ("outputs", "simulated", "lower", "upper"):
                    if name in group:
                        found.setdefault(name, []).append(group[name][:, first:].astype("float64"))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def n_steps_of(data: str) -> int:
    with h5py.File(ROOT / data) as file:
        pressure = file[sorted(file)[0]]
        return int(pressure[sorted(pressure)[0]]["outputs"].shape[1])


def examined(name: str, seed: int, experiment_type: str | None) -> Found:
    """Return the errors of a sweep's ensemble, of its best member, and of the baseline."""
    folder = swept(name, seed)
    found = glrnn("collect", str(folder), "--ensemble", str(N_MEMBERS[name]), allowed=(0, 3))
    single = folder / "trials" / str(found["ensemble"]["best_single"]["number"])
    config = load_yaml(single / "config.yaml")
    divisor = deviations(config, experiment_type)
    of_all, of_single = (predicted(each, config["raw_data"], experiment_type) for each in (folder / "best", single))
    errors = [((each["outputs"] - each["simulated"]) / divisor) ** 2 for each in (of_all, of_single)]
    is_inside = (of_all["simulated"] >= of_all["lower"]) & (of_all["simulated"] <= of_all["upper"])
    means = (each.mean(axis=(0, 1)) for each in errors)
    return Found(*means, is_inside.mean(axis=(0, 1)), baseline_of(config, divisor, experiment_type))


def baseline_of(config: dict[str, Any], divisor: np.ndarray, experiment_type: str | None) -> np.ndarray | str:
    """Return the errors of Gaussian processes on the compared steps, or why there are none."""
    if experiment_type is not None:
        return "the errors of Gaussian processes are those of both types of tests"
    preprocessor = FilePreprocessor(**{**config, "raw_data": str(ROOT / config["raw_data"])})
    data = preprocessor.prepare_arrays()
    try:
        key = baseline_key(data.train_stats, preprocessor.config, FIRST_STEP)
        fit = fit_baseline(data, preprocessor.config, preprocessor.experiment, key)
    except NoBaseline as error:
        return str(error)
    return (np.array([fit.rmse[label] for label in LABELS]) / divisor) ** 2


@pytest.mark.parametrize(
    ("name", "experiment_type", "most_ensemble", "most_single"),
    [
        ("dem_all", None, 0.037, 0.043),
        ("dem_drained", "drained", 0.050, None),
        ("dem_undrained", None, None, None),
        ("dem_cyclic", None, None, None),
    ],
)
def test_an_ensemble_of_a_sweep(
    name: str, experiment_type: str | None, most_ensemble: float | None, most_single: float | None
):
    found = [examined(name, seed, experiment_type) for seed in SEEDS]
    (RESULTS / f"surrogates_{name}.md").write_text(table(name, experiment_type, found))
    ensemble, single = (statistics.median(getattr(each, kind).mean() for each in found) for kind in KINDS)
    if most_ensemble is not None:
        assert ensemble <= most_ensemble
    if most_single is not None:
        assert single <= most_single
    compared = [each for each in found if not isinstance(each.baseline, str)]
    if compared:
        assert statistics.median(each.ensemble.mean() / each.baseline.mean() for each in compared) <= 0.92
        # Of labels that are exact both errors are rounding.
        of_labels = np.median([each.ensemble / np.maximum(each.baseline, 1e-6) for each in compared], axis=0)
        assert (of_labels <= 1.05).all(), dict(zip(LABELS, of_labels, strict=True))


def table(name: str, experiment_type: str | None, found: list[Found]) -> str:
    """Return the page of a model: errors, baseline and coverage per label, medians over the seeds of the search."""
    of_type = ""
    if experiment_type is not None:
        of_type = f" Only the {experiment_type} sequences count, in units of the {experiment_type} labels."
    seeds = ", ".join(map(str, SEEDS))
    about = f"""
        `sweeps/{name}.yaml` with the search seeds {seeds}: an ensemble of {N_MEMBERS[name]} picks against the member
        with the least error on the validation split, steps {FIRST_STEP} on, mean squared errors in units of the
        deviations of the raw labels in the training split.{of_type} Medians over the seeds stand in the rows of
        labels. The baseline is the Gaussian processes of `glrnn collect`, fitted to the same sequences and to these
        steps."""
    lines = textwrap.wrap(" ".join(about.split()), 118)
    lines += ["", "| seed | ensemble | single | baseline |", "|---|---|---|---|"]
    for seed, each in zip(SEEDS, found, strict=True):
        baseline = "-" if isinstance(each.baseline, str) else f"{each.baseline.mean():.4f}"
        lines.append(f"| {seed} | {each.ensemble.mean():.4f} | {each.single.mean():.4f} | {baseline} |")
    if isinstance(found[0].baseline, str):
        lines += ["", f"No baseline: {found[0].baseline}."]
    lines += [
        "",
        "| label | ensemble | single | baseline | within the 90 % interval (each seed) |",
        "|---|---|---|---|---|",
    ]
    for place, label in enumerate(LABELS):
        cells = [f"{np.median([getattr(each, kind)[place] for each in found]):.4f}" for kind in KINDS]
        known = [each.baseline[place] for each in found if not isinstance(each.baseline, str)]
        cells.append(f"{np.median(known):.4f}" if known else "-")
        coverages = [each.coverage[place] for each in found]
        cells.append(f"{np.median(coverages):.1%} ({', '.join(f'{each:.1%}' for each in coverages)})")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
