"""A W&B server for the tests: openwandb in an environment of its own, behind a proxy that knows sweeps."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tracking.proxy import Proxy

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / ".venv-openwandb" / "bin" / "openwandb"

#: The team that openwandb gives its user.
ENTITY = "default"

START = 60.0


@dataclass
class WandbServer:
    """A server and the proxy before it; what the client needs to find them is in `environment`.

    Attributes
    ----------
    folder : Path
        Where the server keeps its log; its data are in memory, as it waits for the disk at each row.
    """

    folder: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None
    proxy: Proxy = field(init=False)
    data: Path = field(init=False)

    def __post_init__(self) -> None:
        assert COMMAND.exists(), f"{COMMAND} is missing: run `make .venv-openwandb/.installed`"
        self.folder.mkdir(parents=True, exist_ok=True)
        memory = Path("/dev/shm")
        self.data = Path(tempfile.mkdtemp(prefix="openwandb-", dir=memory if memory.is_dir() else self.folder))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()
        self.proxy = Proxy(self.port, self._key(), ENTITY)

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.proxy.url, "WANDB_API_KEY": self.proxy.api_key}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, again with the data it had."""
        command = [
            COMMAND,
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--data-dir",
            str(self.data),
        ]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, text=True)
        end = time.monotonic() + START
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/login", timeout=5).close()
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.1)

    def kill(self) -> None:
        """Let the server die as with its machine: connections break, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End both."""
        self.proxy.close()
        self.kill()
        shutil.rmtree(self.data)

    def asked(self, path: str) -> Any:
        """Return what the server itself says, past the proxy."""
        return self.proxy.ask(path)

    def _key(self) -> str:
        found = re.search(r"WANDB_API_KEY=(\w+)", (self.folder / "log").read_text())
        assert found, "openwandb says its key when it starts"
        return found[1]
