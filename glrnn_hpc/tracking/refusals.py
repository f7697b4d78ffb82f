"""Refusals of W&B's server that its client tries again in silence, such as of a run that was deleted there.

The client prints nothing of them, for ever so long; they are in the log that it writes for itself.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

#: Answer to a run whose id belongs to one that was deleted.
_CONFLICT = 409

#: Answers after which a run counts as refused; one may be of two requests at the same time.
_MOST_ANSWERS = 3

_LONGEST_REASON = 300


class RefusalLog:
    """Refusals in the log that `wandb sync` writes below its folder.

    Parameters
    ----------
    folder : Path
        WANDB_DIR of the client.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._positions: dict[Path, int] = {}
        self._counts: Counter[Path] = Counter()
        self._reasons: dict[Path, str] = {}

    def read(self) -> dict[Path, str]:
        """Read what was added; return the logs of the runs that the server refuses, with its words."""
        for path in self._folder.glob("wandb/logs/debug-sync*.log"):
            with path.open("rb") as file:
                file.seek(self._positions.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):  # it is being written
                        break
                    self._positions[path] = self._positions.get(path, 0) + len(line)
                    self._take(line)
        return {run: self._reasons[run] for run, count in self._counts.items() if count >= _MOST_ANSWERS}

    def _take(self, line: bytes) -> None:
        try:
            content = json.loads(line)
        except ValueError:
            return
        if not isinstance(content, dict) or content.get("status") != _CONFLICT or "sync_path" not in content:
            return
        run = Path(str(content["sync_path"]))
        self._counts[run] += 1
        self._reasons[run] = f"the server refuses it with status {_CONFLICT}: {_message(content.get('body'))}"


def _message(body: object) -> str:
    """Return the server's words in an answer to GraphQL, else the whole answer."""
    try:
        text = str(json.loads(str(body))["errors"][0]["message"])
    except (ValueError, KeyError, IndexError, TypeError):
        text = str(body)
    return " ".join(text.split())[:_LONGEST_REASON]
