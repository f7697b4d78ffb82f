"""Refusals of W&B's server in the log of its client."""

from __future__ import annotations

import json
from pathlib import Path

from glrnn_hpc.tracking.refusals import RefusalLog

WORDS = "run me/dem/r1 was previously created and deleted; try a new run name"


def line(run: str, status: int = 409, body: object = None) -> str:
    content = {"level": "INFO", "msg": "api: retrying HTTP error", "sync_path": run, "status": status}
    return json.dumps({**content, "body": json.dumps(body or {"errors": [{"message": WORDS}]})}) + "\n"


def test_a_run_that_is_refused_again_and_again_is_told_with_the_words_of_the_server(tmp_path: Path):
    log = tmp_path / "wandb" / "logs" / "debug-sync.1.log"
    log.parent.mkdir(parents=True)
    refusals = RefusalLog(tmp_path)
    assert refusals.read() == {}
    begun = line("/a/run-r1.wandb")
    log.write_text(line("/a/run-r1.wandb") + "no JSON\n[3]\n" + line("/a/run-r2.wandb", 429) * 3 + begun[:20])
    assert refusals.read() == {}, "it may be of two requests at the same time"
    with log.open("a") as file:
        file.write(begun[20:] + line("/a/run-r1.wandb") + line("/a/run-r3.wandb", body="no words") * 3)
    reason = f"the server refuses it with status 409: {WORDS}"
    expected = {Path("/a/run-r1.wandb"): reason}
    expected[Path("/a/run-r3.wandb")] = 'the server refuses it with status 409: "no words"'
    assert refusals.read() == expected
    assert refusals.read() == expected, "nothing is counted twice"
