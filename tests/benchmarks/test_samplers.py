"""Points that bayes and random find: 60 trials on 4 ranks, on a fixed objective of 6 mixed parameters."""

from __future__ import annotations

import math
import statistics
from collections import deque
from pathlib import Path
from typing import Any

import optuna

from glrnn_hpc.search import samplers
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep

RESULTS = Path(__file__).parent / "results"
N_SEEDS, N_TRIALS, N_RANKS = 20, 60, 4

PARAMETERS = {
    "raw_data": "none.hdf5",
    "learning_rate": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1},
    "lstm_units": {"distribution": "q_log_uniform_values", "min": 8, "max": 256, "q": 8},
    "window_size": {"min": 3, "max": 40},
    "batch_size": {"values": [64, 128, 256, 512]},
    "weight_decay": {"distribution": "log_normal", "mu": -8, "sigma": 2},
    "beta_1": {"distribution": "beta", "a": 9, "b": 1.5},
}


def objective(point: dict[str, Any]) -> float:
    """Return a smooth loss with its least value 0 at 2e-3, 64, 12, 256, e^-7, 0.9; two of the six interact."""
    rate = math.log10(point["learning_rate"] / 2e-3)
    units = math.log2(point["lstm_units"] / 64)
    window = (point["window_size"] - 12) / 15
    batch = {64: 0.4, 128: 0.15, 256: 0.0, 512: 0.2}[point["batch_size"]]
    decay = (math.log(point["weight_decay"]) + 7) / 4
    return rate**2 + 0.3 * (units + rate) ** 2 + window**2 + batch + 0.3 * decay**2 + 4 * (point["beta_1"] - 0.9) ** 2


def best_of(spec: SweepSpec) -> float:
    """Return the best value of a sweep whose trials end in the order in which they began, four at a time."""
    study = optuna.create_study(direction="minimize")
    values: list[float] = []
    running: deque[tuple[optuna.Trial, dict[str, Any]]] = deque()
    for index in range(N_TRIALS):
        if spec.method == "bayes":
            study.sampler = samplers.make_sampler(spec, index)
            trial = study.ask()
            running.append((trial, samplers.suggest(trial, spec.searched)))
        else:
            running.append((study.ask(), samplers.point_of(spec, index)))
        if len(running) == N_RANKS or index == N_TRIALS - 1:
            for _ in range(len(running) if index == N_TRIALS - 1 else 1):
                trial, point = running.popleft()
                values.append(objective(point))
                study.tell(trial, values[-1])
    assert len(values) == N_TRIALS
    return min(values)


def test_bayes_finds_better_points_than_random():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metric = {"name": "val_loss", "goal": "minimize"}
    found: dict[str, list[float]] = {"random": [], "bayes": []}
    for seed in range(N_SEEDS):
        for method in found:
            content = {"method": method, "metric": metric, "run_cap": N_TRIALS, "seed": seed, "parameters": PARAMETERS}
            found[method].append(best_of(load_sweep(content)))
    lines = [
        f"Best value after {N_TRIALS} trials on {N_RANKS} ranks, {N_SEEDS} seeds, 6 parameters; the least value is 0.",
        "",
        "| method | median | lower quartile | upper quartile |",
        "|---|---|---|---|",
    ]
    for method, values in found.items():
        lower, median, upper = statistics.quantiles(values, n=4)
        lines.append(f"| {method} | {median:.4f} | {lower:.4f} | {upper:.4f} |")
    n_better = sum(bayes < chance for bayes, chance in zip(found["bayes"], found["random"], strict=True))
    lines += ["", f"bayes was better with {n_better} of {N_SEEDS} seeds."]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "samplers.md").write_text("\n".join(lines) + "\n")
    assert statistics.median(found["bayes"]) < statistics.median(found["random"])
