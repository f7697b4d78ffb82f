"""`glrnn sync` of single runs: the real client, a real server, and servers that refuse or die."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb

from glrnn_hpc import layout
from glrnn_hpc.errors import TrackingError
from glrnn_hpc.tracking.sync import SyncOutcome, sync
from glrnn_hpc.tracking.sync_marks import read_marks
from glrnn_hpc.tracking.upload import SyncTimeouts
from tests.tracking.answers import Answers
from tests.tracking.server import WandbServer

RUNS = ("r0", "r1", "r2", "killed")
MODEL = b"weights" * 100
TIMEOUTS = SyncTimeouts(stall=3, silence=20, confirmation=4)


def write_runs(root: str, *run_ids: str) -> None:
    """Write runs of 3 rows and a file each, and die before the last one is finished."""
    import wandb

    settings = wandb.Settings(silent=True, x_disable_stats=True, console="off", disable_git=True)
    for run_id in run_ids:
        folder = Path(root, run_id)
        folder.mkdir()
        run = wandb.init(mode="offline", dir=folder, id=run_id, project="p", config={"a": 1}, settings=settings)
        is_last = run_id == run_ids[-1]
        # The client writes its log in blocks of 32 KiB.
        for epoch in range(1, 1001 if is_last else 4):
            run.log({"loss": 1 / epoch}, step=epoch)
        model = Path(run.dir) / "model.txt"
        model.write_bytes(MODEL)
        run.save(str(model), base_path=run.dir, policy="now")
        if is_last:
            (log,) = folder.glob("wandb/offline-run-*/*.wandb")
            while log.stat().st_size < 32768:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        run.finish()


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return folders of offline runs, made once by the real client: r0 .. r2 of 3 rows each, and `killed`."""
    root = tmp_path_factory.mktemp("written")
    maker = multiprocessing.get_context("spawn").Process(target=write_runs, args=(str(root), *RUNS))
    maker.start()
    maker.join()
    assert maker.exitcode == -signal.SIGKILL
    return root


@pytest.fixture
def offline(written: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Return a maker of a folder as `glrnn train` leaves it, with copies of some of these runs."""

    def make(*names: str) -> Path:
        folder = tmp_path / "out"
        for name in names:
            (found,) = (written / name / "wandb").glob("offline-run-*")
            shutil.copytree(found, folder / "wandb" / found.name)
        return folder

    return make


@pytest.fixture
def other(tmp_path: Path, server: WandbServer) -> Iterator[WandbServer]:
    """Return another server than the one that is set."""
    other = WandbServer(tmp_path / "other")
    yield other
    other.close()


def states(outcomes: list[SyncOutcome]) -> list[str]:
    return [outcome.state for outcome in outcomes]


def marks(folder: Path) -> list[Path]:
    return [*folder.glob("wandb/*/synced.json"), *folder.glob("wandb/*/*.synced")]


def test_a_run_arrives_whole_and_is_not_sent_again(server: WandbServer, offline):
    folder = offline("r0")
    (outcome,) = sync(folder, timeouts=TIMEOUTS)
    assert (outcome.state, outcome.path) == ("synced", "default/p/r0")
    sent = server.proxy.recorder.runs_of("p")["r0"]
    assert (sent.config, sent.state, sent.files["model.txt"]) == ({"a": 1}, "finished", MODEL)
    assert [row["loss"] for row in sent.history] == [1, 1 / 2, pytest.approx(1 / 3)]
    kept = server.asked("/api/v2/runs/r0")["run"]
    assert (kept["state"], kept["config"]["a"], kept["summary"]["loss"]) == (
        "finished",
        {"value": 1},
        pytest.approx(1 / 3),
    )
    assert server.asked("/api/v2/runs/r0/metrics")["keys"] == ["loss"]

    n_operations = len(server.proxy.recorder.operations)
    (again,) = sync(folder)
    assert (again.state, again.reason) == ("skipped", f"synced already: default/p/r0 on {server.proxy.url}")
    assert len(server.proxy.recorder.operations) == n_operations, "the server was not even asked"
    (mark,) = folder.glob("wandb/*/synced.json")
    for broken in ("", "3", "[{}]"):
        mark.write_text(broken)
        (asked,) = sync(folder, timeouts=TIMEOUTS)
        assert (asked.state, asked.reason) == ("skipped", "the server has it already")


def refuse(status: int, method: str, part: str) -> Callable[[str, str, bytes], int | None]:
    return lambda of, path, body: status if of == method and (part in path or part.encode() in body) else None


@pytest.mark.parametrize(
    ("status", "method", "part", "lack"),
    [
        (403, "PUT", "/model.txt", "the server has no whole model.txt"),
        (404, "POST", "/file_stream", "the server has 0 of the 3 rows of its history.*Fatal error while uploading"),
        (400, "POST", "createRunFiles", "the server has no whole model.txt"),
        (500, "POST", "/file_stream", "wandb sync has said nothing for 20 s"),
    ],
    ids=["file refused", "history refused", "files refused", "server broken"],
)
def test_what_the_client_says_it_has_sent_is_not_believed(
    server: WandbServer, offline, status: int, method: str, part: str, lack: str
):
    folder = offline("r1")
    server.proxy.recorder.forget("r1")
    server.proxy.recorder.faults.append(refuse(status, method, part))
    try:
        (outcome,) = sync(folder, timeouts=TIMEOUTS)
        said = outcome.reason
        assert outcome.state == "failed"
    except TrackingError as error:
        said = str(error)
    assert re.search(lack, said), said
    assert marks(folder) == []

    server.proxy.recorder.faults.clear()
    assert states(sync(folder, timeouts=TIMEOUTS)) == ["synced"]
    assert len(server.proxy.recorder.runs_of("p")["r1"].history) == 3


def test_a_run_that_was_deleted_on_the_server_is_named_soon_and_the_others_are_sent(server: WandbServer, offline):
    folder = offline("r0", "r1", "r2")
    for name in ("r0", "r1", "r2"):
        server.proxy.recorder.forget(name)
    words = "run default/p/r1 was previously created and deleted; try a new run name"

    def deleted(method: str, path: str, body: bytes) -> tuple[int, str] | None:
        return (409, words) if b"upsertBucket" in body and json.loads(body)["variables"]["name"] == "r1" else None

    server.proxy.recorder.faults.append(deleted)
    began = time.monotonic()
    outcomes = sync(folder)
    assert time.monotonic() - began < 60, "the client alone tries it for many minutes"
    assert states(outcomes) == ["synced", "failed", "synced"]
    assert outcomes[1].reason == f"default/p/r1: the server refuses it with status 409: {words}"
    assert len(marks(folder)) == 4


def test_a_server_that_cannot_be_asked_is_not_believed(server: WandbServer, offline, monkeypatch):
    folder = offline("r1")
    with monkeypatch.context() as patch:
        patch.delattr(Answers, "_Run")  # which openwandb itself does not know
        (outcome,) = sync(folder, timeouts=TIMEOUTS)
    assert (outcome.state, marks(folder)) == ("failed", [])
    assert "the server does not show it" in outcome.reason
    assert states(sync(folder, timeouts=TIMEOUTS)) == ["synced"]


def test_a_mark_of_the_client_alone_is_checked_before_it_is_believed(server: WandbServer, offline):
    folder = offline("r0", "r2")
    assert states(sync(folder, timeouts=TIMEOUTS)) == ["synced", "synced"]
    for mark in folder.glob("wandb/*/synced.json"):
        mark.unlink()
    server.proxy.recorder.forget("r2")
    first, second = sync(folder, timeouts=TIMEOUTS)
    assert (first.state, first.reason) == ("skipped", "the server has it already")
    assert second.state == "synced"
    assert len(marks(folder)) == 4


def test_a_run_that_one_server_has_is_sent_to_another_and_both_are_known(
    server: WandbServer, other: WandbServer, offline, monkeypatch
):
    def turn_to(chosen: WandbServer) -> None:
        for name, value in chosen.environment.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # the client of this process keeps what it has read

    folder = offline("r0")
    server.proxy.recorder.forget("r0")
    assert states(sync(folder, timeouts=TIMEOUTS)) == ["synced"]
    here, there = server.proxy.url, other.proxy.url
    turn_to(other)
    (planned,) = sync(folder, is_dry=True)
    assert (planned.state, planned.reason) == ("would sync", f"is on {here}, not known to be on {there}")
    assert other.proxy.recorder.operations == [], "a dry run asks no server"

    run_folder = layout.WandbRunFolder(next(folder.glob("wandb/*-r0")))
    other.proxy.recorder.faults.append(refuse(403, "PUT", "/model.txt"))
    assert states(sync(folder, timeouts=TIMEOUTS)) == ["failed"]
    assert [mark.server for mark in read_marks(run_folder)] == [here], "a failure there changes nothing here"
    other.proxy.recorder.faults.clear()
    (outcome,) = sync(folder, timeouts=TIMEOUTS)
    assert (outcome.state, outcome.path) == ("synced", "default/p/r0")
    sent = other.proxy.recorder.runs_of("p")["r0"]
    assert (len(sent.history), sent.state, sent.files["model.txt"]) == (3, "finished", MODEL)
    assert other.asked("/api/v2/runs/r0")["run"]["state"] == "finished"
    assert server.proxy.recorder.runs_of("p")["r0"].n_lines == 3, "nothing went to the first one again"

    known = [(mark.server, mark.path) for mark in read_marks(run_folder)]
    assert known == [(here, "default/p/r0"), (there, "default/p/r0")]
    for each in (other, server):
        turn_to(each)
        n_operations = len(each.proxy.recorder.operations)
        (again,) = sync(folder)
        assert (again.state, again.reason) == ("skipped", f"synced already: default/p/r0 on {each.proxy.url}")
        assert len(each.proxy.recorder.operations) == n_operations


def test_runs_that_were_cut_off_are_sent_only_when_asked_for(server: WandbServer, offline):
    folder = offline("killed", "r0")
    outcomes = {outcome.name.rpartition("-")[2]: outcome for outcome in sync(folder, timeouts=TIMEOUTS)}
    assert (outcomes["killed"].state, outcomes["killed"].reason) == ("skipped", "is not finished")
    assert outcomes["r0"].state == "synced"
    assert "killed" not in server.proxy.recorder.runs_of("p")

    outcomes = {each.name.rpartition("-")[2]: each for each in sync(folder, include_unfinished=True, timeouts=TIMEOUTS)}
    assert (outcomes["killed"].state, outcomes["r0"].state) == ("synced", "skipped"), outcomes
    assert server.proxy.recorder.runs_of("p")["killed"].state == "failed"
    assert 1 <= len(server.proxy.recorder.runs_of("p")["killed"].history) < 1000
    assert all("killed" not in str(mark) for mark in marks(folder)), "more of it may come"


def test_a_broken_log_is_named_and_the_others_are_sent(server: WandbServer, offline):
    folder = offline("killed", "r0")
    (broken,) = folder.glob("wandb/*-killed/*.wandb")
    broken.write_bytes(broken.read_bytes()[:7])
    outcomes = {each.name.rpartition("-")[2]: each for each in sync(folder, include_unfinished=True, timeouts=TIMEOUTS)}
    assert (outcomes["killed"].state, outcomes["r0"].state) == ("failed", "synced")
    assert f"{broken}: is empty or broken" in outcomes["killed"].reason


def test_a_dry_run_needs_no_server_and_changes_nothing(offline, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    folder = offline("killed", "r0")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    found = {each.name.rpartition("-")[2]: each.state for each in sync(folder, is_dry=True)}
    assert found == {"killed": "skipped", "r0": "would sync"}
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_two_syncs_of_one_folder_do_not_send_it_twice(server: WandbServer, offline):
    folder = offline("r0")
    lock = layout.SweepFolder(folder).sync_lock
    holder = subprocess.Popen(["flock", str(lock), "sleep", "60"])
    try:
        while not lock.exists() or not _is_locked(lock):
            time.sleep(0.05)
        with pytest.raises(TrackingError, match="another `glrnn sync` is at work here"):
            sync(folder, timeouts=TIMEOUTS)
    finally:
        holder.kill()
        holder.wait()
    assert marks(folder) == []


def _is_locked(lock: Path) -> bool:
    return subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False).returncode != 0


def glrnn(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glrnn_hpc", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_says_what_it_has_done(server: WandbServer, offline):
    folder = offline("r0", "killed")
    ran = glrnn("sync", str(folder), "--dry-run", "--json")
    content = json.loads(ran.stdout)
    assert (ran.returncode, content["synced"], content["would_sync"], content["skipped"]) == (0, 0, 1, 1)
    ran = glrnn("sync", str(folder), "--json")
    content = json.loads(ran.stdout)
    assert (ran.returncode, content["synced"], content["skipped"], content["failed"]) == (0, 1, 1, 0)
    assert {run["state"] for run in content["runs"]} == {"synced", "skipped"}
    ran = glrnn("sync", str(folder))
    assert ran.returncode == 0
    assert "skipped (is not finished)" in ran.stdout
    assert "0 synced, 2 skipped, 0 failed" in ran.stdout


def test_without_network_or_key_it_says_so_within_seconds_and_marks_nothing(server: WandbServer, offline, tmp_path):
    folder = offline("r0")
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hanging = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for variables, words in (
            ({"WANDB_BASE_URL": "http://127.0.0.1:9"}, "cannot be reached"),
            ({"WANDB_BASE_URL": hanging}, "cannot be reached"),
            ({"WANDB_API_KEY": "0" * 40}, "does not know the API key"),
            ({"WANDB_API_KEY": "", "HOME": str(tmp_path)}, "there is no API key"),
        ):
            started = time.monotonic()
            ran = glrnn("sync", str(folder), **variables)
            assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
            assert words in ran.stderr
            assert time.monotonic() - started < 30
    assert marks(folder) == []


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(TrackingError, match=r"holds no run of W&B; the folder of a sweep or of a training"):
        sync(tmp_path)
