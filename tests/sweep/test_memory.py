"""Workers that come near their memory are started anew between two trials, and no epoch is trained twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.summary.status import summarize
from tests.conftest import write_steps
from tests.sweep.sweeps import owners, spec_of


@pytest.mark.usefixtures("sleeping")
def test_a_worker_whose_ranks_are_near_their_memory_ends_between_trials_and_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SLEEPERS_EPOCH", "0.01")
    # Each trial leaves this many MB in its rank; before the first one, two ranks take some 200.
    monkeypatch.setenv("SLEEPERS_BALLAST", "300")
    spec = spec_of(write_steps(tmp_path / "a.hdf5"), 12, epochs=3)
    folder = run_sweep(spec, tmp_path / "sweep", ranks_per_worker=2, memory="700M")
    summary = summarize(folder.root)
    assert (summary["state"], summary["trials"]["finished"]) == ("finished", 12)
    assert len(owners(folder)) == 12, "no trial was begun twice"
    workers = folder.all_workers()
    full = [worker for worker in workers if worker.full.exists()]
    assert len(full) >= 4, "more often than one that dies is started again"
    assert all(layout.read_json(worker.ended)["status"] == 75 for worker in full[:-1])
    assert layout.read_json(workers[-1].ended)["status"] == 0
    assert [worker.memory_ends.exists() for worker in workers] == [worker.full.exists() for worker in workers]


def test_a_memory_that_is_no_size_is_refused_before_anything_is_made(tmp_path: Path):
    spec = spec_of(write_steps(tmp_path / "a.hdf5"))
    with pytest.raises(ConfigError, match="--memory: 'much' is no size; give what the ranks of a worker may take"):
        run_sweep(spec, tmp_path / "sweep", memory="much")
    assert not (tmp_path / "sweep").exists()
