"""Confirmation that W&B's server has the whole of an offline run.

The mark of W&B's client is not enough: it leaves it even if the server refused the history or a file of the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glrnn_hpc.errors import TrackingError, one_line
from glrnn_hpc.tracking.bounded_calls import BoundedCalls
from glrnn_hpc.tracking.offline_log import OfflineLog
from glrnn_hpc.tracking.server import require_server
from glrnn_hpc.tracking.upload import ANSWER_SECONDS


class RunConfirmation:
    """Comparison of offline runs with what W&B's server shows of them.

    Raises
    ------
    TrackingError
        If it cannot be reached, or there is no key for it.
    """

    def __init__(self, seconds: float = 20.0) -> None:
        self.url = require_server(ANSWER_SECONDS)
        self._calls, self._seconds = BoundedCalls(), seconds
        try:
            self._api = self._calls.call(_api, seconds)
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(f"W&B's server {self.url} cannot be asked: {one_line(error)}") from error

    def path(self, run: OfflineLog) -> str:
        """Return entity/project/id of a run."""
        return f"{run.entity or self._api.default_entity}/{run.project or 'uncategorized'}/{run.run_id}"

    def missing(self, runs: Iterable[tuple[OfflineLog, Path]], seconds: float) -> list[str]:
        """Return for each run what the server lacks of it, an empty text if nothing.

        Parameters
        ----------
        runs : iterable of (OfflineLog, Path)
            With the folder of each run's files.
        seconds : float
            The server is asked again until then: it takes a while until it shows what it has received.
        """
        waiting = dict(enumerate(runs))
        missing = dict.fromkeys(waiting, "")
        end, pause = time.monotonic() + seconds, 0.5
        while waiting:
            for key, (run, files) in list(waiting.items()):
                missing[key] = self._missing_of(run, files)
                if not missing[key]:
                    del waiting[key]
            if time.monotonic() + pause > end:
                break
            time.sleep(pause if waiting else 0)
            pause *= 2
        return [missing[key] for key in sorted(missing)]

    def _missing_of(self, run: OfflineLog, files: Path) -> str:
        try:
            return self._calls.call(lambda: self._compare(run, files), self._seconds)
        except TrackingError as error:
            return f"the server does not show it: {error}"

    def _compare(self, run: OfflineLog, files: Path) -> str:
        try:
            self._api.flush()
            shown = self._api.run(self.path(run))
            n_rows, state = int(shown.history_line_count or 0), str(shown.state)
            sizes = {file.name: int(file.size or 0) for file in shown.files()}
        except Exception as error:
            return f"the server does not show it: {one_line(error)}"
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
