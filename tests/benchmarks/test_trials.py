"""Part of a rank's time that is training, and the time between two trials."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.summary.status import summarize

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[1] / "data" / "triaxial.hdf5"
N_RANKS = 2


def run(root: Path, n_trials: int, keys: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines that the ranks wrote of their time."""
    fixed = {"raw_data": str(DATA), "add_e0": True, "standardize_inputs": True, "window_size": 10, "dense_units": 50}
    spec = load_sweep({"method": "random", "run_cap": n_trials, "parameters": {**fixed, **keys}})
    folder = run_sweep(spec, root, ranks_per_worker=N_RANKS)
    assert summarize(root)["trials"]["finished"] == n_trials
    return [
        json.loads(line)
        for worker in layout.SweepFolder(folder.root).all_workers()
        for line in worker.utilisation.read_text().splitlines()
    ]


def summed(lines: list[dict[str, Any]]) -> dict[str, float]:
    kinds = {kind for line in lines for kind in line["seconds"]}
    return {kind: sum(line["seconds"].get(kind, 0.0) for line in lines) for kind in sorted(kinds)}


def between(lines: list[dict[str, Any]]) -> tuple[int, float, float, float]:
    """Return of the trials that are not their rank's first: how many, and medians of gap, of trace, of their sum."""
    seen, pairs = set(), []
    for line in lines:
        if line["trial"] is None:
            continue
        if line["rank"] in seen:
            pairs.append((line["seconds"]["gap"], line["seconds"].get("trace", 0.0)))
        seen.add(line["rank"])
    medians = (statistics.median(each) for each in (*zip(*pairs, strict=True), [sum(pair) for pair in pairs]))
    return len(pairs), *medians


def test_the_time_of_the_ranks(tmp_path: Path):
    seeds = {"seed": {"min": 1, "max": 10**6}}
    same = run(tmp_path / "same", 16, {**seeds, "lstm_units": 50, "epochs": 25, "patience": 25})
    others = {**seeds, "lstm_units": {"min": 20, "max": 60}, "epochs": 2}
    other = run(tmp_path / "other", 16, others)
    total = summed(same)
    warm = sum(total.values()) - total["import"]
    seconds = statistics.median(sum(line["seconds"].values()) for line in same if line["trial"] is not None)
    lines = [
        f"A sweep of 16 equal trials of {seconds:.0f} s (LSTM 50, window 10, batches of 256, 25 epochs, each with its",
        f"checkpoint) on {N_RANKS} ranks of one thread, and one of 16 trials of 2 epochs whose networks differ.",
        "",
        "| part of the ranks' time after the import | |",
        "|---|---|",
        *(f"| {kind} | {total[kind] / warm:.1%} |" for kind in total if kind != "import"),
        f"| **fit and evaluate** | **{(total['fit'] + total['evaluate']) / warm:.1%}** |",
        "",
        "| between two trials, medians | number | to the first step [s] | first batches [s] | both [s] |",
        "|---|---|---|---|---|",
    ]
    for name, found in (("same shapes", same), ("other shapes", other)):
        number, gap, trace, both = between(found)
        lines.append(f"| {name} | {number} | {gap:.2f} | {trace:.2f} | {both:.2f} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "trials.md").write_text("\n".join(lines) + "\n")
