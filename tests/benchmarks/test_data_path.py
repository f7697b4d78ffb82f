"""Cost of the way from a file to the first batch, in time and memory, here and with GrainLearning."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.conftest import CONTACT_KEYS, INPUT_KEYS, OUTPUT_KEYS
from tests.mpi.test_matrix import command, environment

RESULTS = Path(__file__).parent / "results"
N_SAMPLES, N_STEPS = 20_000, 200


def write(path: Path) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, keys in (("contact_params", CONTACT_KEYS), ("inputs", INPUT_KEYS), ("outputs", OUTPUT_KEYS)):
            file.attrs[name] = list(keys)
            steps = () if name == "contact_params" else (N_STEPS,)
            file[f"0.2e6/drained/{name}"] = rng.random((N_SAMPLES, *steps, len(keys)))
    return path


def run(start: list[str], program: str, path: Path) -> dict[str, Any]:
    arguments = [*start, "-m", "tests.benchmarks.data_path", program, str(path)]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_from_the_file_to_the_first_batch(tmp_path: Path):
    path = write(tmp_path / "data.hdf5")
    size = N_SAMPLES * N_STEPS * (len(INPUT_KEYS) + len(OUTPUT_KEYS)) * 4 / 1e6
    rows, ours = [], {}
    for stack in ("mpich", "openmpi"):
        for n_ranks in (1, 2):
            found = ours[stack, n_ranks] = run(command(stack, n_ranks), "ours", path)
            rows.append(
                f"| {n_ranks} ranks, {'MPI-IO' if stack == 'openmpi' else 'serial h5py'} | {found['filled']:.2f} | "
                f"{found['filled'] / found['fromfile']:.1f} | {found['batch']:.2f} | {found['memory'] / 1e6:.0f} |"
            )
    peer = run([sys.executable], "peer", path)
    rows.append(f"| GrainLearning 2.0.5, 1 process | | | {peer['batch']:.2f} | {peer['memory'] / 1e6:.0f} |")
    best = ours["mpich", 2]
    lines = [
        f"{N_SAMPLES} sequences of {N_STEPS} steps, 3 inputs and 7 outputs in float64, contiguous; window 20. Medians",
        "of 5 for ours, one run of the peer. Time from opening the file to filled arrays with statistics, its ratio to",
        "numpy.fromfile of as many bytes in the same run, time to the first batch, memory added on the node",
        f"(the data are {size:.0f} MB in float32).",
        "",
        "| | filled [s] | x fromfile | first batch [s] | memory [MB] |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"2 ranks against the peer's process: {peer['batch'] / best['batch']:.0f} times faster, "
        f"{peer['memory'] / best['memory']:.0f} times less memory (the peer adds as much per process).",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "data_path.md").write_text("\n".join(lines) + "\n")
    # Not the times, which depend on who else is on the machine, but what they are beside the peer's in the same run.
    assert peer["batch"] / best["batch"] >= 20
    assert peer["memory"] / best["memory"] >= 20
    assert max(found["memory"] for found in ours.values()) / 1e6 <= 1.5 * size + 100
