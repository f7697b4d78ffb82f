from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tracking.server import WandbServer


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WandbServer]:
    server = WandbServer(tmp_path_factory.mktemp("openwandb"))
    yield server
    server.close()


@pytest.fixture
def server(_server: WandbServer, monkeypatch: pytest.MonkeyPatch, anew: None) -> Iterator[WandbServer]:
    """Return the server of this session, as the one that the client of this process and its children finds."""
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in _server.environment.items():
        monkeypatch.setenv(name, value)
    yield _server
    _server.proxy.recorder.faults.clear()
