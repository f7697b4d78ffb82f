"""One Slurm cluster of two nodes for the whole test session."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cluster.sh")


def _free_port() -> int:
    """Return the first of a row of ports that nobody uses; the cluster takes some from there on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return min(int(probe.getsockname()[1]), 65000)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start the cluster; return the variables with which srun and sbatch reach it."""
    # The path of a socket is limited to some 100 characters.
    root = tmp_path_factory.mktemp("slurm")
    settings = {"DIR": root / "c", "NODES": 2, "CPUS": 4, "GPUS": 2, "ACCT": "none", "BASEPORT": _free_port()}
    variables = {**os.environ, **{f"SLURM_CLUSTER_{name}": str(value) for name, value in settings.items()}}
    started = subprocess.run(["bash", SCRIPT, "start"], env=variables, capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stdout + started.stderr
    consent = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    # More ranks than cores: those that wait must let the others work.
    patience = {"OMPI_MCA_mpi_yield_when_idle": "1"}
    yield {**variables, **consent, **patience, "SLURM_CONF": str(root / "c/etc/slurm.conf")}
    subprocess.run(["bash", SCRIPT, "stop", "--purge"], env=variables, check=True)
