from __future__ import annotations

import json
from pathlib import Path

import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.records.tracking_settings import TrackingSettings, read_tracking_settings
from glrnn_hpc.tracking.offline_runs import OfflineRun, offline_runs, read_offline_run
from glrnn_hpc.tracking.sync_marks import SyncMark, add_marks, read_marks

#: What version 0.1.0 wrote.
OLD_SETTINGS = {
    "mode": "offline",
    "project": "dem",
    "entity": None,
    "group": "night",
    "sweep_id": None,
    "prefix": "0a1b2c3d",
}
OLD_RECORD = {"generation": 2, "state": "given back", "epochs": 3}


def run_folder(trial: layout.TrialFolder, name: str) -> layout.WandbRunFolder:
    folder = layout.WandbRunFolder(trial.wandb / name)
    folder.root.mkdir(parents=True)
    return folder


def test_the_runs_of_a_trial_are_ordered_by_their_end_and_their_owner_not_by_their_names(tmp_path: Path):
    trial = layout.TrialFolder(tmp_path)
    states = {"offline-run-1": (3, "finished"), "offline-run-2": (4, "running"), "offline-run-3": (2, "given back")}
    for name, (generation, state) in states.items():
        OfflineRun(run_folder(trial, name), generation, state, 5).write_record()
    run_folder(trial, "offline-run-4")  # of a run that is being opened: it has no record yet
    runs = offline_runs(trial)
    assert [run.folder.root.name for run in runs] == ["offline-run-3", "offline-run-2", "offline-run-1"]
    assert [run.is_final() for run in runs] == [False, False, True]
    assert read_offline_run(runs[-1].folder) == runs[-1]


def test_records_of_version_0_1_0_are_read(tmp_path: Path):
    sweep = layout.SweepFolder(tmp_path)
    layout.write_json(sweep.tracking, OLD_SETTINGS)
    settings = read_tracking_settings(sweep)
    assert settings == TrackingSettings(**OLD_SETTINGS)
    assert settings.run_id(7) == "0a1b2c3d-7"
    folder = run_folder(sweep.trial(0), "offline-run-1")
    layout.write_json(folder.record, OLD_RECORD)
    assert read_offline_run(folder) == OfflineRun(folder, 2, "given back", 3)


def test_what_is_written_is_what_version_0_1_0_wrote_and_its_version(tmp_path: Path):
    sweep = layout.SweepFolder(tmp_path)
    TrackingSettings(**OLD_SETTINGS).write(sweep)
    folder = run_folder(sweep.trial(0), "offline-run-1")
    OfflineRun(folder, 2, "given back", 3).write_record()
    for path, old in ((sweep.tracking, OLD_SETTINGS), (folder.record, OLD_RECORD)):
        content = json.loads(path.read_text())
        assert content.pop("version") > "0.1.0"
        assert content == old


def test_a_sweep_without_settings_or_with_disabled_ones_is_not_tracked(tmp_path: Path):
    sweep = layout.SweepFolder(tmp_path)
    assert read_tracking_settings(sweep) is None
    layout.write_json(sweep.tracking, {**OLD_SETTINGS, "mode": "disabled"})
    assert read_tracking_settings(sweep) is None


def test_broken_records_are_named(tmp_path: Path):
    sweep = layout.SweepFolder(tmp_path)
    layout.write_json(sweep.tracking, {"mode": "offline"})
    with pytest.raises(RecordError, match=r"tracking\.json: is broken: it has no project, entity, group"):
        read_tracking_settings(sweep)
    folder = run_folder(sweep.trial(0), "offline-run-1")
    layout.write_json(folder.record, {**OLD_RECORD, "epochs": "three"})
    with pytest.raises(RecordError, match=r"fragment\.json: is broken: epochs must be a whole number, it is 'three'"):
        offline_runs(sweep.trial(0))


def test_the_mark_of_a_server_replaces_its_older_one_and_no_other(tmp_path: Path, caplog):
    folder = layout.WandbRunFolder(tmp_path)
    add_marks(folder, [])
    assert not folder.synced.exists()
    here, there = (
        SyncMark("http://here", "me/dem/1", "2026-01-01T00:00:00+00:00"),
        SyncMark.now("http://there", "a/b/1"),
    )
    add_marks(folder, [here])
    add_marks(folder, [there, newer := SyncMark.now("http://here", "me/dem/1")])
    assert read_marks(folder) == [newer, there]
    folder.synced.write_text("[{")
    assert read_marks(folder) == []
    assert "synced.json is broken and counts for nothing" in caplog.text
