"""A real PostgreSQL on loopback for the session, from Debian's package."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _bin() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.fail("PostgreSQL's server is missing: apt-get install postgresql")
    return Path(on_path).parent


def _as_postgres() -> list[str]:
    # The server refuses to run as root; Debian's package brings a user for it.
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Start a server and return its URL without the name of a database."""
    binaries = _bin()
    root = Path(tempfile.mkdtemp(prefix="glrnn-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(root, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = root / "data"
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "glrnn", "--auth=trust", "-E", "UTF8", "--no-sync"]
    subprocess.run([*_as_postgres(), *initdb], check=True, capture_output=True, cwd=root)
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {root} -c fsync=off -c max_connections=100"
    control = [*_as_postgres(), str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(root / "log")]
    subprocess.run([*control, "-o", options, "start"], check=True, capture_output=True, cwd=root)
    try:
        yield f"postgresql://glrnn@127.0.0.1:{port}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=root)
        shutil.rmtree(root)


@pytest.fixture
def database(server: str) -> str:
    """Make an empty database and return its URL."""
    import psycopg

    name = f"d{secrets.token_hex(4)}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


@pytest.fixture(params=["journal", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Return where a study is stored: None for the journal file, else a database."""
    return request.getfixturevalue("database") if request.param == "postgresql" else None
