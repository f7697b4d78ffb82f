"""Send logs of offline runs to the server by `wandb sync`, in bounded time, and ask the server whether it has them.

The client's word is not enough: `wandb sync` ends with status 0 in any case, retries for minutes in silence while the
server is away, and leaves its mark beside a log even if the server refused the history or a file of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glrnn_hpc.errors import TrackingError
from glrnn_hpc.tracking.bounded_calls import Errands
from glrnn_hpc.tracking.offline_log import Log
from glrnn_hpc.tracking.run import say
from glrnn_hpc.tracking.server import require_server

logger = logging.getLogger(__name__)

_POLL = 0.2

#: Seconds to wait for an answer of the server; login nodes may be busy.
ANSWER = 10.0

#: A busy server may miss one question.
_MOST_UNANSWERED = 2

#: Of the client's variables those that would change what it does, or hide what it says.
_MISLEADING = ("WANDB_MODE", "WANDB_SILENT", "WANDB_QUIET", "WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_RESUME")


@dataclass(frozen=True)
class Patience:
    """How long things are waited for, in seconds.

    Attributes
    ----------
    stall : float
        Without a word of the client, until the server is asked whether it is there.
    silence : float
        Without a word of the client while the server is there, until the client is ended.
    confirmation : float
        Until the server shows what it was sent.
    """

    stall: float = 20.0
    silence: float = 900.0
    confirmation: float = 30.0


def send(logs: Sequence[Path], url: str, patience: Patience, while_sending: Callable[[], None]) -> list[str]:
    """Send logs by one process of the client; return what it said.

    Parameters
    ----------
    logs : sequence of Path
        All of different runs.
    url : str
        Of the server.
    patience : Patience
        How long the client is waited for.
    while_sending : callable
        Called several times a second.

    Raises
    ------
    TrackingError
        If the server is gone, or the client says nothing for too long; some of the logs may have been sent.
    """
    with tempfile.TemporaryDirectory(prefix="glrnn-sync-") as folder:
        return _send(logs, url, folder, patience, while_sending)


def _send(
    logs: Sequence[Path], url: str, folder: str, patience: Patience, while_sending: Callable[[], None]
) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if key not in _MISLEADING}
    # The client's own logs would lie in the current folder.
    environment |= {"WANDB_BASE_URL": url, "WANDB_DIR": folder, "PYTHONUNBUFFERED": "1"}
    said: list[str] = []
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "wandb",
            "sync",
            "--include-online",
            "--include-synced",
            *(str(log.resolve()) for log in logs),
        ],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    reader = threading.Thread(target=_read, args=(process, said), daemon=True)
    reader.start()
    try:
        _watch(process, said, patience, while_sending)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(timeout=5)
    return said


def _read(process: subprocess.Popen[str], said: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            said.append(line.rstrip())
            logger.debug("%s", said[-1])


def _watch(
    process: subprocess.Popen[str], said: list[str], patience: Patience, while_sending: Callable[[], None]
) -> None:
    n_lines, n_unanswered, since = 0, 0, time.monotonic()
    asked = since
    while process.poll() is None:
        time.sleep(_POLL)
        while_sending()
        now = time.monotonic()
        if len(said) > n_lines:
            n_lines, since, asked, n_unanswered = len(said), now, now, 0
        if now - since > patience.silence:
            raise TrackingError(f"wandb sync has said nothing for {patience.silence:g} s; it was ended.")
        if now - asked > patience.stall:
            n_unanswered = _ask_again(n_unanswered)
            asked = time.monotonic()


def _ask_again(n_unanswered: int) -> int:
    """Ask whether the server is there; return how often it has not answered, one after the other."""
    try:
        require_server(ANSWER)
        return 0
    except TrackingError:
        if n_unanswered + 1 >= _MOST_UNANSWERED:
            raise
        return n_unanswered + 1


class Server:
    """The W&B server, as its public API shows it.

    Raises
    ------
    TrackingError
        If it cannot be reached, or there is no key for it.
    """

    def __init__(self, seconds: float = 20.0) -> None:
        self.url = require_server(ANSWER)
        self._errands, self._seconds = Errands(), seconds
        try:
            self._api = self._errands.run(_api, seconds)
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(f"W&B's server {self.url} cannot be asked: {say(error)}") from error

    def path(self, run: Log) -> str:
        """Return entity/project/id of a run."""
        return f"{run.entity or self._api.default_entity}/{run.project or 'uncategorized'}/{run.run_id}"

    def missing(self, runs: Iterable[tuple[Log, Path]], seconds: float) -> list[str]:
        """Return for each run what the server lacks of it, an empty text if nothing; asked again until `seconds`.

        Parameters
        ----------
        runs : iterable of (Log, Path)
            With the folder of each run's files.
        seconds : float
            A server takes a while until it shows what it has received.
        """
        waiting = dict(enumerate(runs))
        lacks = dict.fromkeys(waiting, "")
        end, pause = time.monotonic() + seconds, 0.5
        while waiting:
            for key, (run, files) in list(waiting.items()):
                lacks[key] = self._ask(run, files)
                if not lacks[key]:
                    del waiting[key]
            if time.monotonic() + pause > end:
                break
            time.sleep(pause if waiting else 0)
            pause *= 2
        return [lacks[key] for key in sorted(lacks)]

    def _ask(self, run: Log, files: Path) -> str:
        try:
            return str(self._errands.run(lambda: self._lacks(run, files), self._seconds))
        except TrackingError as error:
            return f"the server does not show it: {error}"

    def _lacks(self, run: Log, files: Path) -> str:
        try:
            self._api.flush()
            found = self._api.run(self.path(run))
            n_rows, state = int(found.history_line_count or 0), str(found.state)
            sizes = {file.name: int(file.size or 0) for file in found.files()}
        except Exception as error:
            return f"the server does not show it: {say(error)}"
        if n_rows < run.n_rows:
            return f"the server has {n_rows} of the {run.n_rows} rows of its history"
        if state == "running":
            return "the server was not told that it has ended"
        for name in sorted(run.files):
            local = files / name
            # Servers that keep their files elsewhere may not know a size.
            if name not in sizes or (sizes[name] and local.exists() and sizes[name] != local.stat().st_size):
                return f"the server has no whole {name}"
        return ""


def _api() -> Any:
    import wandb

    return wandb.Api(timeout=10)
