"""Tests that run on all ranks of an mpiexec at once; every test is collective."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from glrnn_hpc.data import ranks


@pytest.fixture(scope="session")
def world() -> Iterator[ranks.Ranks]:
    """Return all ranks."""
    world = ranks.world()
    yield world
    world.free()


@pytest.fixture
def node(world: ranks.Ranks) -> Iterator[ranks.Ranks]:
    """Return all ranks as a node of their own, whose shared arrays go with the test."""
    node = world.on_node()
    yield node
    node.free()


@pytest.fixture
def folder(world: ranks.Ranks) -> Iterator[Path]:
    """Return one temporary folder for all ranks."""
    path = Path(world.bcast(tempfile.mkdtemp() if world.rank == 0 else None))
    yield path
    world.barrier()
    if world.rank == 0:
        shutil.rmtree(path)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """End all ranks when a test fails on one of them: the others would wait for it for ever."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        world = ranks.world()
        sys.stderr.write(f"\nrank {world.rank} of {world.size}: {item.nodeid}\n{report.longreprtext}\n")
        sys.stderr.flush()
        world.abort(1)
