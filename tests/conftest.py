"""Shared data of the tests: small files whose values can be told by heart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdist.scheduler import LoadScopeScheduling

from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.experiments.triaxial import TRIAXIAL

CONTACT_KEYS, INPUT_KEYS, OUTPUT_KEYS = (
    TRIAXIAL.column_names(kind) for kind in ("contact_params", "inputs", "outputs")
)

DATA = Path(__file__).parent / "data"
#: First on the PYTHONPATH of commands and jobs, it makes their workers sleep in place of training.
SLEEPERS = Path(__file__).parent / "sleepers"

# Sweeps tell W&B of their trials unless told otherwise; the tests of that say so.
os.environ.setdefault("WANDB_MODE", "disabled")

#: Folders whose tests share what is dear to start: a server, sweeps on it.
SHARING = ("tracking",)

#: Folders whose tests start ranks by the dozen: coverage makes what a rank imports cost 1.4 times as much, and the
#: ranks of tests/sweep are measured in the same lines. Those of tests/slurm leave it to the cluster.
UNMEASURED = ("drills", "tracking")


class _Scheduling(LoadScopeScheduling):
    """Give the tests of a file to one process, and those of a folder if they share something.

    The files of tests/slurm go to whoever is free: each process starts a cluster of its own when it needs one, and both
    work at a time.

    Marks of `xdist_group` would say the same, but pytest 9.2 does not let pytest-xdist 3.8 read them.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        folder = Path(path).parent
        return str(folder) if folder in (Path("tests") / name for name in SHARING) else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Scheduling(config, log)


def write_steps(
    path: Path, n_samples: int = 20, n_steps: int = 12, groups: tuple[str, ...] = ("0.2e6/drained",)
) -> Path:
    """Write a file in which every value of inputs and outputs is its step number, plus 1000 per output column."""
    steps = np.arange(float(n_steps))[None, :, None].repeat(n_samples, axis=0)
    rng = np.random.default_rng(0)
    write_file(
        path,
        {
            name: (rng.random((n_samples, 2)), steps.repeat(3, axis=2), np.concatenate([steps, steps + 1000], axis=2))
            for name in groups
        },
        contact_params=["E", "v"],
        inputs=INPUT_KEYS,
        outputs=["e", "p"],
    )
    return path


@pytest.fixture(scope="module", autouse=True)
def _unmeasured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start the processes of some tests without coverage."""
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent in (DATA.parent / name for name in UNMEASURED):
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


@pytest.fixture
def steps_file(tmp_path: Path) -> Path:
    """Return a file whose values are step numbers."""
    return write_steps(tmp_path / "steps.hdf5")


@pytest.fixture
def real_file() -> Path:
    """Return the real DEM data."""
    return DATA / "triaxial.hdf5"


@pytest.fixture
def sleeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the workers that this test starts sleep for a tenth of a second per epoch in place of training."""
    paths = [str(SLEEPERS), str(DATA.parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("SLEEPERS_EPOCH", "0.1")


@pytest.fixture
def anew() -> Iterator[None]:
    """Let W&B's client read the environment in this test, and again after it: it keeps what it has read."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def tiny(steps_file: Path) -> Callable[..., dict[str, Any]]:
    """Return a maker of configurations whose training takes a second."""

    def make(**other: Any) -> dict[str, Any]:
        small = {"raw_data": str(steps_file), "window_size": 3, "lstm_units": 4, "dense_units": 4}
        return {**small, "epochs": 2, "batch_size": 32, **other}

    return make
