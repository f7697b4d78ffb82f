"""Cost of logging the trials of a sweep to W&B, offline: pairs with and without, one after the other."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from glrnn_hpc.launch import run_sweep
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.summary.status import summarize
from glrnn_hpc.tracking.offline_runs import offline_runs

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).parents[1] / "data" / "triaxial.hdf5"
N_PAIRS = 3
N_TRIALS = 2
EPOCHS = 25


def run(root: Path, mode: str) -> list[Counter[str]]:
    """Return how the time of each trial went: the first of its rank, then a later one."""
    keys: dict[str, Any] = {"raw_data": str(DATA), "add_e0": True, "standardize_inputs": True, "window_size": 10}
    keys |= {"lstm_units": 50, "dense_units": 50, "epochs": EPOCHS, "patience": EPOCHS, "seed": {"values": [1, 2]}}
    spec = load_sweep({"method": "grid", "run_cap": N_TRIALS, "parameters": keys})
    folder = run_sweep(spec, root, ranks_per_worker=1, wandb=mode)
    assert summarize(root)["trials"]["finished"] == N_TRIALS
    (worker,) = folder.all_workers()
    trials, seconds = [], Counter[str]()
    for line in map(json.loads, worker.utilisation.read_text().splitlines()):
        seconds.update(line["seconds"])
        if line["trial"] is not None:
            trials.append(seconds)
            seconds = Counter()
    # A trial's end is logged after its line was written: it is in the next one.
    trials[-1]["track"] += seconds["track"]
    if mode == "offline":
        assert all(offline_runs(folder.trial(number))[-1].state == "finished" for number in range(N_TRIALS))
    return trials


def seconds_of(trial: Counter[str]) -> float:
    """Return the time of a trial without what comes once in the life of a rank."""
    return sum(seconds for kind, seconds in trial.items() if kind not in ("import", "read", "idle", "wait"))


def test_the_cost_of_tracking(tmp_path: Path):
    rows = []
    for number in range(N_PAIRS):
        modes = ("offline", "disabled") if number % 2 else ("disabled", "offline")
        found = {mode: run(tmp_path / f"{number}-{mode}", mode) for mode in modes}
        for place in range(N_TRIALS):
            told, plain = found["offline"][place], found["disabled"][place]
            rows.append((place, seconds_of(plain), seconds_of(told), told["track"]))
            # Time of the calls, and of what follows elsewhere in the rank: imports at the same time.
            rows[-1] += (told["read"] - plain["read"],)
    lines = [
        f"{N_PAIRS} pairs of sweeps of two equal trials (LSTM 50, window 10, batches of 256, {EPOCHS} epochs) on one",
        "rank, told to W&B offline and not, in turn; medians. `tracking` is the time that the rank gives to it: to",
        "start a run, tell its epochs, keep its files and end it. W&B's client is imported and its service started",
        "once for a rank, while the data are read and the first trial begins.",
        "",
        "| trial | not told [s] | told [s] | ratio of the pairs | tracking [s] | part | reading longer by [s] |",
        "|---|---|---|---|---|---|---|",
    ]
    for place, name in enumerate(("first of its rank", "later")):
        chosen = [row for row in rows if row[0] == place]
        plain, told, tracking, reading = (statistics.median(column) for column in list(zip(*chosen, strict=True))[1:])
        ratio = statistics.median(row[2] / row[1] for row in chosen)
        shown = f"{plain:.2f} | {told:.2f} | {ratio:.3f} | {tracking:.3f} | {tracking / told:.2%} | {reading:+.2f}"
        lines.append(f"| {name} | {shown} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tracking.md").write_text("\n".join(lines) + "\n")
    # Other programs make the pairs differ by more than tracking does: the time that is given to it is the measure.
    for place, limit in ((0, 1.0), (1, 0.0)):
        _, _, told, tracking, _ = zip(*[row for row in rows if row[0] == place], strict=True)
        assert statistics.median(tracking) < limit + 0.02 * statistics.median(told)
