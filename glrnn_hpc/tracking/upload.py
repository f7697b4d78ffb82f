"""Upload of offline runs to W&B's server by `wandb sync`, a process of W&B's client, in bounded time.

The client retries for minutes in silence while the server is away. It ends with status 0 in any case: `confirmation`
asks the server what it has received.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc.errors import TrackingError
from glrnn_hpc.import_path import module_command
from glrnn_hpc.tracking.refusals import RefusalLog
from glrnn_hpc.tracking.server import require_server

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2

#: Seconds to wait for an answer of the server; login nodes may be busy.
ANSWER_SECONDS = 10.0

#: Requests in succession without an answer after which the server is gone; a busy one may miss the first.
_MOST_UNANSWERED = 2

#: Times `stall` without output after which runs that the server refuses are all that is left.
_REFUSED_STALLS = 3

#: Variables that would change what the client does, or hide its output.
_MISLEADING_VARIABLES = ("WANDB_MODE", "WANDB_SILENT", "WANDB_QUIET", "WANDB_SERVICE", "WANDB_RUN_ID", "WANDB_RESUME")


@dataclass(frozen=True)
class SyncTimeouts:
    """Times after which a sync gives up [s].

    Attributes
    ----------
    stall : float
        Without output of the client, until the server is asked whether it is there.
    silence : float
        Without output of the client while the server is there, until the client is ended.
    confirmation : float
        Until the server shows what it was sent.
    """

    stall: float = 20.0
    silence: float = 900.0
    confirmation: float = 30.0


@dataclass(frozen=True)
class Upload:
    """End of an upload.

    Attributes
    ----------
    output : list of str
        Lines that the client printed.
    refused : dict of Path to str
        Logs of the runs that the server refuses, and its words.
    """

    output: list[str]
    refused: dict[Path, str]


def upload(
    logs: Sequence[Path], url: str, timeouts: SyncTimeouts, while_uploading: Callable[[], Collection[Path]]
) -> Upload:
    """Upload logs by one process of the client, which is ended when only runs are left that the server refuses.

    Parameters
    ----------
    logs : sequence of Path
        All of different runs.
    url : str
        Of the server.
    timeouts : SyncTimeouts
        How long the client is waited for.
    while_uploading : callable
        Called several times a second; returns the logs that the client has not sent yet.

    Raises
    ------
    TrackingError
        If the server is gone, or the client prints nothing for too long; some of the logs may have been uploaded.
    """
    with tempfile.TemporaryDirectory(prefix="glrnn-sync-") as folder:
        return _upload(logs, url, folder, timeouts, while_uploading)


def _upload(
    logs: Sequence[Path],
    url: str,
    folder: str,
    timeouts: SyncTimeouts,
    while_uploading: Callable[[], Collection[Path]],
) -> Upload:
    environment = {key: value for key, value in os.environ.items() if key not in _MISLEADING_VARIABLES}
    # The client's own logs would lie in the current folder.
    environment |= {"WANDB_BASE_URL": url, "WANDB_DIR": folder, "PYTHONUNBUFFERED": "1"}
    output: list[str] = []
    refusals = RefusalLog(Path(folder))
    process = subprocess.Popen(
        [
            *module_command("wandb"),
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
    reader = threading.Thread(target=_read, args=(process, output), daemon=True)
    reader.start()
    try:
        _watch(process, output, timeouts, while_uploading, refusals)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(timeout=5)
    refused = refusals.read()
    return Upload(output, {log: refused[log.resolve()] for log in logs if log.resolve() in refused})


def _read(process: subprocess.Popen[str], output: list[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            output.append(line.rstrip())
            logger.debug("%s", output[-1])


def _watch(
    process: subprocess.Popen[str],
    output: list[str],
    timeouts: SyncTimeouts,
    while_uploading: Callable[[], Collection[Path]],
    refusals: RefusalLog,
) -> None:
    n_lines, n_unanswered, silent_since = 0, 0, time.monotonic()
    last_request = silent_since
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        pending = {log.resolve() for log in while_uploading()}
        refused = refusals.read()
        now = time.monotonic()
        if len(output) > n_lines:
            n_lines, silent_since, last_request, n_unanswered = len(output), now, now, 0
        if refused and (pending <= {*refused} or now - silent_since > _REFUSED_STALLS * timeouts.stall):
            return
        if now - silent_since > timeouts.silence:
            raise TrackingError(f"wandb sync has said nothing for {timeouts.silence:g} s; it was ended.")
        if now - last_request > timeouts.stall:
            n_unanswered = _unanswered_requests(n_unanswered)
            last_request = time.monotonic()


def _unanswered_requests(n_unanswered: int) -> int:
    """Ask whether the server is there; return how many requests in succession it has not answered."""
    try:
        require_server(ANSWER_SECONDS)
        return 0
    except TrackingError:
        if n_unanswered + 1 >= _MOST_UNANSWERED:
            raise
        return n_unanswered + 1
