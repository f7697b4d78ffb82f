"""Sweep files that are edited after their sweep was made, and the resume that takes the edit over or refuses it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
from typer.testing import CliRunner

from glrnn_hpc import cli, config, layout
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.launch import resume_sweep, run_sweep
from glrnn_hpc.records.sweep_state import read_sweep_state
from glrnn_hpc.records.train_stats import write_train_stats
from glrnn_hpc.search import samplers
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.status import summarize
from tests.conftest import write_steps
from tests.unit.study.test_study import owner, settle

EARLY = {"type": "hyperband", "min_iter": 2}


def make(root: Path, method: str = "random", **other: Any) -> layout.SweepFolder:
    """Make a sweep without workers."""
    parameters = {
        "raw_data": str(write_steps(root / "a.hdf5")),
        "window_size": {"values": [3, 4, 5]},
        "lstm_units": {"values": [4, 8]},
        "epochs": {"value": 2},
    }
    content = {"method": method, "name": "night", "run_cap": 4, "early_terminate": EARLY, **other}
    content |= {"metric": {"name": "val_loss", "goal": "minimize"}, "parameters": parameters}
    return run_sweep(load_sweep(content), root / "sweep", n_workers=0, wandb="disabled")


def edit(folder: layout.SweepFolder, **changes: Any) -> None:
    """Change keys of the sweep's file by their paths; None takes a key away."""
    content = config.load_yaml(folder.sweep)
    for path, value in changes.items():
        *outer, key = path.split("__")
        place = content
        for name in outer:
            place = place[name]
        place[key] = value
        if value is None:
            del place[key]
    folder.sweep.write_text(config.dump_yaml(content), encoding="utf-8")


def finish(folder: layout.SweepFolder, n_trials: int) -> list[dict[str, Any]]:
    """Finish trials as a rank does; return their points."""
    seen = SweepStudy(folder)
    points = []
    for number in range(n_trials):
        claim = seen.claim(owner(f"w{number}"))
        settle(seen, claim, value=1.0 + number)
        points.append(claim.point)
    return points


@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        (
            {"parameters__window_size": {"values": [3, 4, 6]}},
            ["parameters.window_size: {'values': [3, 4, 5]} at the start, {'values': [3, 4, 6]} now"],
        ),
        ({"parameters__epochs": {"value": 3}}, ["parameters.epochs: {'value': 2} at the start, {'value': 3} now"]),
        (
            {"parameters__dense_units": {"values": [4, 8]}, "parameters__lstm_units": None},
            [
                "parameters.lstm_units: {'values': [4, 8]} at the start, nothing now",
                "parameters.dense_units: nothing at the start, {'values': [4, 8]} now",
            ],
        ),
        ({"parameters__pressure": {"value": "0.2e6"}}, ["parameters.pressure: nothing at the start"]),
        (
            {"metric__name": "val_mae", "metric__goal": "maximize"},
            ["metric.name: val_loss at", "metric.goal: minimize at"],
        ),
        ({"early_terminate": {**EARLY, "min_iter": 1}}, ["early_terminate: {'type': 'hyperband', 'min_iter': 2"]),
        ({"seed": 7}, ["seed: 42 at the start, 7 now"]),
    ],
)
def test_an_edit_that_would_mix_trials_is_refused_with_the_difference_and_what_was_made_goes_on(
    method: str, changes: dict[str, Any], differences: list[str], tmp_path: Path
):
    folder = make(tmp_path, method)
    points = finish(folder, 2)
    made, state = SweepStudy(folder).spec, folder.state.read_bytes()
    edit(folder, **changes)
    with pytest.raises(ConfigError) as refused:
        resume_sweep(folder.root, n_workers=0)
    for difference in differences:
        assert difference in str(refused.value)
    assert f"{folder.sweep}: was changed after the sweep was made" in str(refused.value)
    assert folder.state.read_bytes() == state
    # Workers that a requeue or a script starts, and the commands, go on with what was made.
    assert SweepStudy(folder).spec == made
    points += finish(folder, 2)
    if method != "bayes":
        assert points == [samplers.point_of(made, index) for index in range(4)]
    assert all(set(point) == {"window_size", "lstm_units"} for point in points)
    assert {point["window_size"] for point in points} <= {3, 4, 5}
    summary = summarize(folder.root)
    assert (summary["metric"], summary["trials"]["finished"], summary["best"]["number"]) == ("val_loss", 4, 0)


def test_another_method_is_refused_and_the_command_says_it_with_status_2(tmp_path: Path):
    folder = make(tmp_path)
    edit(folder, method="grid")
    done = CliRunner().invoke(cli.app, ["resume", str(folder.root), "--workers", "0"])
    assert isinstance(done.exception, ConfigError)
    assert "method: random at the start, grid now" in str(done.exception)


def test_what_may_change_is_taken_over_and_written_down(tmp_path: Path):
    folder = make(tmp_path)
    finish(folder, 2)
    edit(folder, run_cap=6, name="day", early_terminate=None)
    resume_sweep(folder.root, n_workers=0)
    seen, state = SweepStudy(folder), read_sweep_state(folder)
    assert (state.n_trials, len(seen.slots())) == (6, 6)
    assert (seen.spec.run_cap, seen.spec.labels["name"], seen.spec.early_terminate) == (6, "day", None)
    assert sorted(state.edits) == [
        "early_terminate: {'type': 'hyperband', 'min_iter': 2, 'eta': 3, 'strict': False} at the start, nothing now",
        "name: night at the start, day now",
        "run_cap: 4 at the start, 6 now",
    ]
    resume_sweep(folder.root, n_workers=0)
    assert read_sweep_state(folder).edits == state.edits, "an edit is taken over once"
    edit(folder, run_cap=3)
    with pytest.raises(ConfigError, match="run_cap: 3: the sweep has 6 trials already; their number can only grow"):
        resume_sweep(folder.root, n_workers=0)
    edit(folder, run_cap=None)
    resume_sweep(folder.root, n_workers=0)
    assert read_sweep_state(folder).n_trials == 6


def test_another_spelling_or_order_is_no_change(tmp_path: Path):
    folder = make(tmp_path)
    content = config.load_yaml(folder.sweep)
    content["parameters"] = dict(reversed(content["parameters"].items()))
    content["parameters"]["epochs"] = "2"
    folder.sweep.write_text("# a comment\n" + config.dump_yaml(content), encoding="utf-8")
    made = SweepStudy(folder).spec
    resume_sweep(folder.root, n_workers=0)
    assert read_sweep_state(folder).edits == ()
    assert [samplers.point_of(SweepStudy(folder).spec, k) for k in range(4)] == [
        samplers.point_of(made, k) for k in range(4)
    ]


def test_a_file_that_is_broken_stops_a_resume_and_nothing_else(tmp_path: Path):
    folder = make(tmp_path)
    folder.sweep.write_text("method: [", encoding="utf-8")
    assert len(finish(folder, 1)) == 1
    with pytest.raises(ConfigError, match="not valid YAML"):
        resume_sweep(folder.root, n_workers=0)


def test_data_that_moved_are_taken_and_other_data_are_not(tmp_path: Path):
    from glrnn_hpc.preprocessor.from_file import preprocessor_of_file
    from glrnn_hpc.search.sweep import trial_config

    folder = make(tmp_path)
    (point,) = finish(folder, 1)
    data = Path(SweepStudy(folder).spec.data_file)
    preprocessor = preprocessor_of_file(trial_config(SweepStudy(folder).spec, point).as_dict())
    stats = {"num_input_features": 1, "num_params": 1, "num_labels": 1, "fingerprint": preprocessor.fingerprint()}
    write_train_stats(folder.trial(0).train_stats, stats)
    moved = Path(shutil.move(data, tmp_path / "moved.hdf5"))
    edit(folder, parameters__raw_data=str(moved))
    resume_sweep(folder.root, n_workers=0)
    assert SweepStudy(folder).spec.data_file == str(moved)
    assert read_sweep_state(folder).edits == (
        f"parameters.raw_data: {{'value': '{data}'}} at the start, {{'value': '{moved}'}} now",
    )
    other = write_steps(tmp_path / "other.hdf5", n_samples=9)
    edit(folder, parameters__raw_data={"value": str(other)})
    with pytest.raises(DataError, match="holds other sequences than the model was trained on"):
        resume_sweep(folder.root, n_workers=0)


def test_data_that_moved_are_those_of_every_choice_of_groups_and_of_a_preprocessor_of_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from glrnn_hpc.preprocessor.from_file import preprocessor_of_file

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_moves.py").write_text(
        "from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression\n\n\n"
        "class Own(PreprocessorTriaxialCompression):\n    pass\n"
    )
    groups = ("0.2e6", "1.0e6")
    data = write_steps(tmp_path / "a.hdf5", groups=tuple(f"{each}/drained" for each in groups))
    other = Path(shutil.copy(data, tmp_path / "b.hdf5"))
    with h5py.File(other, "r+") as file:
        file["1.0e6/drained/contact_params"][0, 0] += 1
    for name, preprocessor in (("shipped", {}), ("own", {"preprocessor": "my_moves:Own"})):
        keys = {"raw_data": str(data), "window_size": 3, "pressure": {"values": list(groups)}, **preprocessor}
        spec = load_sweep({"method": "grid", "parameters": keys})
        folder = run_sweep(spec, tmp_path / name, n_workers=0, wandb="disabled")
        for number, point in enumerate(finish(folder, 2)):
            fingerprint = preprocessor_of_file({"raw_data": str(data), "window_size": 3, **point}).fingerprint()
            stats = {"num_input_features": 1, "num_params": 1, "num_labels": 1, "fingerprint": fingerprint}
            write_train_stats(folder.trial(number).train_stats, stats)
        edit(folder, parameters__raw_data=str(other))
        with pytest.raises(DataError, match=r"b\.hdf5: holds other sequences .* the data of trial 1 back"):
            resume_sweep(folder.root, n_workers=0)
