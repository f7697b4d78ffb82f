"""Contract of every storage of a study, and faults that the journal file must survive."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import StorageError, SweepError
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.search.hyperband import BEST_SO_FAR, BandReport
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation, liveness, storage, study
from tests.unit.study.test_study import owner, settle, sweep


def make(root: Path, n_trials: int, url: str | None = None, **other: Any) -> study.SweepStudy:
    return study.SweepStudy(creation.create(root, load_sweep(sweep(**other)), n_trials, LaunchPlan(), url=url))


def test_slots_points_and_values_survive_a_new_process(url: str | None, tmp_path: Path):
    seen = make(tmp_path / "sweep", 3, url)
    claims = [seen.claim(owner()) for _ in range(2)]
    settle(seen, claims[0], value=0.5)
    settle(seen, claims[1], "failed", error="x")
    again = study.SweepStudy(seen.folder)
    assert [slot.state for slot in again.slots()] == ["finished", "failed", "waiting"]
    assert [slot.params for slot in again.slots()] == [claims[0].point, claims[1].point, {}]
    assert [slot.value for slot in again.slots()] == [0.5, None, None]
    assert again.retry_failed() == [1]
    assert again.add_slots(4) == 1
    assert len(seen.slots()) == 5


def test_any_process_tells_a_running_trial_of_another_one(url: str | None, tmp_path: Path):
    seen = make(tmp_path / "sweep", 1, url)
    seen.claim(owner("dead"))
    other = study.SweepStudy(seen.folder)
    adopted = other.adopt(owner("new"), lambda holder: holder.job == "dead")
    settle(other, adopted, value=2.0)
    assert seen.is_finished()
    assert seen.slots()[0].value == 2.0


def test_the_study_keeps_the_value_at_a_band_and_the_best_so_far(url: str | None, tmp_path: Path):
    rule = {"type": "hyperband", "min_iter": 1}
    seen = make(tmp_path / "sweep", 3, url, early_terminate=rule)
    claims = [seen.claim(owner()) for _ in range(3)]
    assert not seen.report(claims[0].number, BandReport(1, 0.5, 0.4))
    assert seen.report(claims[1].number, BandReport(1, 0.9, 0.6))
    assert not seen.report(claims[2].number, BandReport(1, 0.6, 0.5))
    kept = study.SweepStudy(seen.folder)._trials()
    assert [trial.intermediate_values for trial in kept] == [{1: 0.5}, {1: 0.9}, {1: 0.6}]
    assert [trial.user_attrs[BEST_SO_FAR] for trial in kept] == [0.4, 0.6, 0.5]


def test_bayes_works_on_it(url: str | None, tmp_path: Path):
    seen = make(tmp_path / "sweep", 14, url, method="bayes")
    for number in range(14):
        claim = study.SweepStudy(seen.folder).claim(owner(f"w{number}"))
        settle(seen, claim, value=claim.point["learning_rate"])
    assert all(set(slot.params) == {p.name for p in seen.spec.searched} for slot in seen.slots())


@pytest.mark.parametrize(("n_workers", "n_trials"), [(16, 160)])
def test_many_processes_take_each_trial_once(n_workers: int, n_trials: int, url: str | None, tmp_path: Path):
    seen = make(tmp_path / "sweep", n_trials, url)
    assert_a_crowd_takes_each_trial_once(seen, n_workers, n_trials)


def test_64_workers_take_1280_instant_trials_on_the_journal(tmp_path: Path):
    seen = make(tmp_path / "sweep", 64 * 20)
    assert_a_crowd_takes_each_trial_once(seen, 64, 64 * 20)
    # Read once more from the first line: no corruption, no line without an end.
    content = seen.folder.journal.read_bytes()
    assert content.endswith(b"\n")
    assert len(storage.TornTailBackend(seen.folder.journal)._log_number_offset) == 1
    assert len(list(storage.TornTailBackend(seen.folder.journal).read_logs(0))) == content.count(b"\n")


def assert_a_crowd_takes_each_trial_once(seen: study.SweepStudy, n_workers: int, n_trials: int) -> None:
    command = [sys.executable, "-m", "tests.storage.crowd", str(seen.folder.root), str(n_workers)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    slots = study.SweepStudy(seen.folder).slots()
    assert [slot.number for slot in slots] == list(range(n_trials))
    assert {slot.state for slot in slots} == {"finished"}
    assert [slot.value for slot in slots] == [float(number) for number in range(n_trials)]
    holders = collections.Counter(path.parent.name for path in seen.folder.trials.glob("*/lease-*.json"))
    assert set(holders.values()) == {1}


def test_a_database_that_cannot_be_used_is_one_message_without_its_password(tmp_path: Path):
    spec = load_sweep(sweep())
    for url, message in {
        "nonsense": "is no URL of a database",
        "postgresql://user@host:port/name": "is no URL of a database",
        "sqlite:///study.db": "SQLite's locks do not hold on shared file systems",
        "postgresql://me:secret@127.0.0.1:9/none": "cannot be used: .*refused",
        "postgresql+nodriver://me:secret@127.0.0.1:9/none": "cannot be used",
    }.items():
        with pytest.raises(SweepError, match=f"--storage: .*{message}") as raised:
            creation.create(tmp_path / "sweep", spec, 1, LaunchPlan(), url=url)
        assert "secret" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_file_with_the_url_is_for_its_owner_only(database: str, tmp_path: Path):
    seen = make(tmp_path / "sweep", 1, database)
    assert stat.S_IMODE(seen.folder.url.stat().st_mode) == 0o600
    assert not seen.folder.journal.exists()


def test_two_sweeps_share_a_database(database: str, tmp_path: Path):
    first, second = (make(tmp_path / name / "sweep", 2, database) for name in ("a", "b"))
    first.claim(owner())
    assert [slot.state for slot in second.slots()] == ["waiting", "waiting"]


@pytest.mark.parametrize("torn", [b'{"op_code":6,"torn', b'{"op_code":4}', b"\xff\x00", b"x" * 100_000])
def test_a_torn_last_line_is_cut_before_the_next_append(torn: bytes, tmp_path: Path):
    seen = make(tmp_path / "sweep", 3)
    whole = seen.folder.journal.read_bytes()
    with seen.folder.journal.open("ab") as journal:
        journal.write(torn)
    fresh = study.SweepStudy(seen.folder)
    assert [slot.state for slot in fresh.slots()] == ["waiting"] * 3
    assert fresh.claim(owner()).number == 0
    assert seen.claim(owner()).number == 1, "a reader from before goes on as well"
    content = seen.folder.journal.read_bytes()
    assert content.startswith(whole)
    assert content.endswith(b"\n")
    assert torn not in content
    assert [slot.state for slot in study.SweepStudy(seen.folder).slots()] == ["running", "running", "waiting"]


def test_a_journal_that_is_damaged_inside_is_one_message(tmp_path: Path):
    seen = make(tmp_path / "sweep", 3)
    lines = seen.folder.journal.read_bytes().splitlines(keepends=True)
    seen.folder.journal.write_bytes(b"".join([lines[0], b"{broken\n", *lines[1:]]))
    with pytest.raises(StorageError, match=r"study\.journal: is damaged and cannot be read"):
        study.SweepStudy(seen.folder)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)


def test_a_full_disk_is_one_error_and_loses_nothing(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("a small file system must be mounted: run the tests as root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    try:
        seen = make(disk / "sweep", 5)
        assert seen.claim(owner()).number == 0
        filler = disk / "filler"
        fill(filler)
        with pytest.raises(StorageError, match="the study cannot be reached: .*No space left"):
            seen.add_slots(10_000)  # what is left of the last page takes some of them
        filler.unlink()
        assert seen.folder.journal.read_bytes().endswith(b"\n"), "the part that fitted was taken back"
        again = study.SweepStudy(seen.folder)
        assert [slot.state for slot in again.slots()][:5] == ["running", *["waiting"] * 4]
        assert again.claim(owner()).number == 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


HOLDER = """
import sys, time
from glrnn_hpc.study import storage
from pathlib import Path
journal = Path(sys.argv[1])
backend = storage.TornTailBackend(journal, grace_period=3)
backend._tail_lock.acquire()
print("held", flush=True)
if sys.argv[2] == "dies":
    time.sleep(600)
# It is suspended here, in the middle of its append: it wakes up after others took the lock away.
time.sleep(float(sys.argv[3]))
held = backend._tail_lock.is_held()
backend._tail_lock.release()
print("lost" if not held else "kept", flush=True)
"""


def holder(journal: Path, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(journal), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_lock_of_a_killed_holder_is_taken_over(tmp_path: Path):
    seen = make(tmp_path / "sweep", 1)
    process = holder(seen.folder.journal, "dies")
    process.kill()
    process.wait()
    process.stdout.close()
    backend = storage.TornTailBackend(seen.folder.journal, grace_period=3)
    started = time.monotonic()
    backend.append_logs([{"op_code": 99}])
    assert 2 < time.monotonic() - started < 30
    assert not Path(f"{seen.folder.journal}.lock").exists()


def test_a_suspended_holder_notices_that_its_lock_is_another_ones_and_leaves_that_alone(tmp_path: Path):
    seen = make(tmp_path / "sweep", 1)
    process = holder(seen.folder.journal, "sleeps", "0.5")
    process.send_signal(signal.SIGSTOP)
    lock = storage.TailLock(str(seen.folder.journal), grace_period=3)
    lock.acquire()
    process.send_signal(signal.SIGCONT)
    assert process.stdout.readline() == "lost\n"
    process.wait()
    process.stdout.close()
    assert lock.is_held()
    lock.release()
    assert not Path(f"{seen.folder.journal}.lock").exists()


def test_a_holder_that_lost_its_lock_before_it_wrote_waits_for_it_again(tmp_path: Path, monkeypatch):
    seen = make(tmp_path / "sweep", 1)
    before = seen.folder.journal.read_bytes()
    thief = storage.TailLock(str(seen.folder.journal))
    cut = storage._torn_tail
    sizes = []

    def suspended_here(file: Any) -> int:
        # The first time, another one takes the lock away and holds it for a while: nothing may be written meanwhile.
        monkeypatch.setattr(storage, "_torn_tail", cut)
        Path(f"{seen.folder.journal}.lock").unlink()
        thief.acquire()

        def give_back() -> None:
            sizes.append(seen.folder.journal.stat().st_size)
            thief.release()

        threading.Timer(0.5, give_back).start()
        return cut(file)

    monkeypatch.setattr(storage, "_torn_tail", suspended_here)
    storage.TornTailBackend(seen.folder.journal).append_logs([{"op_code": 99}])
    assert sizes == [len(before)]
    assert seen.folder.journal.read_bytes() == before + b'{"op_code":99}\n'


def test_a_writer_that_wakes_up_late_overwrites_nothing(tmp_path: Path, monkeypatch):
    seen = make(tmp_path / "sweep", 1)
    before = seen.folder.journal.read_bytes()
    late = storage.TornTailBackend(seen.folder.journal)
    append = late._append

    def suspended_here(file: Any, content: bytes) -> None:
        # Past the last look at the lock: another one writes in the meantime.
        Path(f"{seen.folder.journal}.lock").unlink()
        storage.TornTailBackend(seen.folder.journal).append_logs([{"op_code": 98}])
        append(file, content)

    monkeypatch.setattr(late, "_append", suspended_here)
    late.append_logs([{"op_code": 99}])
    assert seen.folder.journal.read_bytes() == before + b'{"op_code":98}\n{"op_code":99}\n'


def test_the_journal_is_optunas_own(tmp_path: Path):
    """Whoever has Optuna can read the study without this package."""
    seen = make(tmp_path / "sweep", 2)
    settle(seen, seen.claim(owner()), value=0.25)
    backend = optuna.storages.journal.JournalFileBackend(str(seen.folder.journal))
    plain = optuna.load_study(study_name="sweep", storage=optuna.storages.JournalStorage(backend))
    assert plain.best_value == 0.25
    assert layout.read_json(seen.folder.state)["n_trials"] == 2


def test_locks_that_a_process_left_while_it_released_them_are_removed(tmp_path: Path):
    seen = make(tmp_path / "sweep", 1)
    left = [seen.folder.root / f"{name}.lock0a1b-2c.rename" for name in ("study.journal", "state.json")]
    for path in left:
        path.touch()
    liveness.clean_up(seen.folder)
    assert not any(path.exists() for path in left)
    assert seen.claim(owner("w0")) is not None
