"""Offline runs of a trial, as their owners left them."""

from __future__ import annotations

from pathlib import Path

from glrnn_hpc import layout
from glrnn_hpc.tracking.offline_runs import offline_runs


def test_the_record_of_a_released_trial_by_version_0_1_0_is_read(tmp_path: Path):
    trial = layout.TrialFolder(tmp_path)
    folder = trial.wandb / "offline-run-1"
    folder.mkdir(parents=True)
    (folder / "fragment.json").write_text('{"generation": 3, "state": "given back", "epochs": 2}')
    (run,) = offline_runs(trial)
    assert (run.generation, run.state, run.epochs, run.is_final()) == (3, "given back", 2, False)
