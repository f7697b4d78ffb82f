"""Collection of the best trial: verification, export, refusals, comparison of sweeps."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import cli, config, layout, predict
from glrnn_hpc.collector import collect as collect_module
from glrnn_hpc.collector import verification
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.data import shared
from glrnn_hpc.data.hdf5 import write_file
from glrnn_hpc.errors import ConfigError, DataError, RecordError, StorageError, SweepError
from glrnn_hpc.launch import resume_sweep, run_sweep
from glrnn_hpc.models.lstm import rnn_model
from glrnn_hpc.preprocessor.splits import split_ids
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation, liveness
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.summary.cost import group_errors
from glrnn_hpc.versions import software
from tests.conftest import INPUT_KEYS

N_SAMPLES, N_STEPS = 20, 12

#: With the last learning rate the training diverges.
RATES = [1e-3, 3e-3, 1e-2, 3e-2, 1e30]


def write_data(path: Path, seed: int = 0, factor: float = 1) -> Path:
    """Write sequences whose labels depend on the load and on E, and are constant in the last column."""
    rng = np.random.default_rng(seed)
    params = rng.random((N_SAMPLES, 2))
    inputs = np.cumsum(rng.random((N_SAMPLES, N_STEPS, 3)), axis=1)
    labels = np.stack(
        [factor * inputs[..., 2] * params[:, :1], inputs[..., 0] + 100, np.full((N_SAMPLES, N_STEPS), 7.0)], axis=2
    )
    names = {"contact_params": ["E", "v"], "inputs": INPUT_KEYS, "outputs": ["e", "p", "constant"]}
    write_file(path, {"0.2e6/drained": (params, inputs, labels)}, **names)
    return path


def spec_of(data: Path, metric: str = "val_loss", goal: str = "minimize", **parameters: Any) -> SweepSpec:
    fixed = {"raw_data": str(data), "lstm_units": 4, "dense_units": 4, "epochs": 2, "batch_size": 32, "window_size": 3}
    keys = {**fixed, "learning_rate": {"values": RATES}, **parameters}
    content = {"method": "grid", "metric": {"name": metric, "goal": goal}, "parameters": keys}
    return load_sweep({**content, "name": "rates"})


def swept(root: Path, spec: SweepSpec, **more: Any) -> layout.SweepFolder:
    return run_sweep(spec, root, cluster="debug", ranks_per_worker=1, **more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> layout.SweepFolder:
    """Run a grid of four trials that finish and one that fails; the data lie beside it."""
    root = tmp_path_factory.mktemp("collect")
    return swept(root / "sweep", spec_of(write_data(root / "a.hdf5")))


@pytest.fixture
def copied(whole: layout.SweepFolder, tmp_path: Path) -> layout.SweepFolder:
    """Return a copy of the sweep and its data, which may be damaged."""
    return copy_of(whole, tmp_path / "copied")


def copy_of(sweep: layout.SweepFolder, root: Path) -> layout.SweepFolder:
    shutil.copytree(sweep.root, root, ignore=shutil.ignore_patterns("best"))
    data = root.parent / "a.hdf5"
    if not data.exists():
        shutil.copyfile(sweep.root.parent / "a.hdf5", data)
    copy = layout.SweepFolder(root)
    for path in (copy.sweep, *copy.trials.glob("*/config.yaml")):
        path.write_text(path.read_text().replace(str(sweep.root.parent / "a.hdf5"), str(data)))
    return copy


def ranking_of(sweep: layout.SweepFolder) -> list[int]:
    slots = [slot for slot in SweepStudy(sweep).slots() if slot.value is not None]
    return [slot.number for slot in sorted(slots, key=lambda slot: slot.value)]


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    content = layout.read_json(path)
    edit(content)
    path.write_text(json.dumps(content))


def test_the_best_are_verified_on_both_splits_and_the_data_are_read_once(whole: layout.SweepFolder, monkeypatch):
    reads = []

    def counted(*args: Any, **kwargs: Any) -> shared.DemData:
        reads.append(args)
        return shared.read_data(*args, **kwargs)

    monkeypatch.setattr(collect_module, "read_data", counted)
    found = collect(whole.root, top=3)
    assert len(reads) == 1
    assert [row["number"] for row in found["top"]] == ranking_of(whole)[:3]
    for row in found["top"]:
        assert set(row["recomputed"]) == {"val_loss", "val_mae", "test_loss", "test_mae"}
        for name, value in row["recomputed"].items():
            assert value == pytest.approx(row["metrics"][name], rel=1e-5)
    assert found["best"]["number"] == ranking_of(whole)[0]
    assert found["refused"] == []


def test_the_export_says_where_it_comes_from_and_for_what_it_holds(whole: layout.SweepFolder, tmp_path: Path):
    data = whole.root.parent / "a.hdf5"
    found = collect(whole.root, top=1)
    provenance = layout.read_json(whole.best.provenance)
    assert (provenance["format"], provenance["trial"], provenance["seed"], provenance["split_seed"]) == (
        1,
        found["best"]["number"],
        42,
        42,
    )
    assert provenance["sweep"] == {
        **{"name": "rates", "folder": str(whole.root), "method": "grid", "metric": "val_loss", "goal": "minimize"},
        **{"seed": 42, "n_trials": len(RATES)},
    }
    assert provenance["data"]["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert provenance["data"]["groups"] == ["0.2e6/drained"]
    assert provenance["data"]["sequences"] == {"train": 14, "val": 3, "test": 3}
    model, stats, _ = predict.get_pretrained_model(whole.best.root)
    assert provenance["data"]["fingerprint"] == stats["fingerprint"]
    assert (provenance["model"]["file"], provenance["model"]["weights"]) == ("model-best.keras", model.count_params())
    assert provenance["versions"]["keras"].startswith("3.")
    assert provenance["trained_on"]["job"] == "debug-000"
    assert (
        provenance["trained_with"]
        == layout.read_json(whole.trial(provenance["trial"]).result)["software"]
        == software()
    )
    # Ranges of the training split, in the order and the units of the model's columns.
    block = shared.read_data(data).groups["0.2e6/drained"]
    train = split_ids(N_SAMPLES, 0.7, 0.15, 42)["train"]
    assert [row["name"] for row in provenance["parameters"]] == ["E", "v", "pressure", "experiment_type"]
    assert [row["min"] for row in provenance["parameters"]] == pytest.approx([*block.params[train].min(axis=0), 0.2, 1])
    assert [row["max"] for row in provenance["parameters"]] == stats["params_max"]
    assert [row["max"] for row in provenance["load_features"]] == pytest.approx(block.inputs[train].max(axis=(0, 1)))
    # Each of these sequences begins with another value, and grows in steps of its own.
    paths = [(row["start"], row["step"], row["reverses"]) for row in provenance["load_features"]]
    assert paths == [(None, None, False)] * 3
    labels = {row["name"]: row for row in provenance["labels"]}
    assert {name: row["unit"] for name, row in labels.items()} == {"e": None, "p": "MPa", "constant": None}
    assert labels["p"]["min"] == pytest.approx(block.outputs[train][..., 1].min())
    assert (labels["constant"]["min"], labels["constant"]["max"]) == (7, 7)
    # The errors are those that `glrnn predict` finds.
    expected = predict.predict_file(whole.best.root, data, tmp_path / "p.hdf5")
    for name, values in expected["metrics"].items():
        assert {kind: provenance["errors"]["test"][name][kind] for kind in values} == pytest.approx(values, rel=1e-5)
    assert provenance["mse_standardised"]["test"] == pytest.approx(expected["mse_standardised"], rel=1e-5)
    for name, values in provenance["errors"]["val"].items():
        divisor = stats["std"][stats["label_names"].index(name)] or 1.0  # that of a constant
        assert values["mae_standardised"] == pytest.approx(values["mae"] / divisor)
    assert {path.name for path in whole.best.root.iterdir()} == {
        "config.yaml",
        "train_stats.json",
        "metrics.csv",
        "model-best.keras",
        "provenance.json",
    }


def test_numbers_that_the_files_do_not_give_refuse_a_trial(copied: layout.SweepFolder):
    ranking = ranking_of(copied)
    names = ["val_loss", "val_mae", "test_loss", "test_mae"]
    logged = {}
    for number, name in zip(ranking[:3], names[1:], strict=True):
        result = copied.trial(number).result
        logged[number] = layout.read_json(result)["metrics"][name] * 1.00003
        change(result, lambda content, name=name, value=logged[number]: content["metrics"].update({name: value}))
    found = collect(copied.root)
    assert [row["number"] for row in found["refused"]] == ranking[:3]
    for row, name in zip(found["refused"], names[1:], strict=True):
        value = logged[row["number"]]
        assert row["reason"] == f"{name} was logged as {value:.8g}, its files give {value / 1.00003:.8g}"
    assert found["best"]["number"] == ranking[3]
    assert layout.read_json(copied.best.provenance)["refused"] == ranking[:3]
    change(copied.trial(ranking[3]).result, lambda content: content["metrics"].pop("test_mae"))
    with pytest.raises(SweepError, match=r"none of 4 finished trials can be verified: trial .*test_mae was not logged"):
        collect(copied.root)


def test_broken_files_refuse_a_trial_and_the_next_one_is_taken(copied: layout.SweepFolder, monkeypatch, capsys):
    first, second, third, last = (copied.trial(number) for number in ranking_of(copied))
    first.result.write_text("{")
    stats = layout.read_json(second.train_stats)
    sizes = {key: value for key, value in stats.items() if key.startswith("num_")}
    rnn_model({**sizes, "num_labels": 2}, window_size=3, lstm_units=4, dense_units=4).save(
        second.model(weights_only=False)
    )
    third.model(weights_only=False).unlink()
    monkeypatch.setattr(sys, "argv", ["glrnn", "collect", str(copied.root), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == 3
    assert found["best"]["number"] == int(last.root.name)
    reasons = [row["reason"] for row in found["refused"]]
    assert reasons[0].startswith(f"{first.result}: is broken: ")
    assert "the model gives 2 labels, its train_stats.json has 3" in reasons[1]
    assert "holds neither model-best.keras nor model-best.weights.h5" in reasons[2]


def test_files_of_another_trial_or_with_other_names_refuse_a_trial(copied: layout.SweepFolder):
    first, second, third, last = (copied.trial(number) for number in ranking_of(copied))
    for name in (second.result.name, second.config.name, second.metrics.name, second.model(weights_only=False).name):
        shutil.copyfile(second.root / name, first.root / name)  # which agree among themselves
    change(second.train_stats, lambda content: content["param_names"].reverse())
    third.metrics.unlink()
    found = collect(copied.root)
    assert [row["reason"] for row in found["refused"]] == [
        f"result.json has number {second.root.name}, the study {first.root.name}",
        "train_stats.json has param_names ['experiment_type', 'pressure', 'v', 'E'], "
        "the data give ['E', 'v', 'pressure', 'experiment_type']",
        f"{third.metrics}: is missing.",
    ]
    assert found["best"]["number"] == int(last.root.name)
    assert found["best"]["value"] == found["best"]["metrics"]["val_loss"]


def test_what_does_not_show_in_the_losses_and_what_is_no_number_refuse_a_trial(copied: layout.SweepFolder):
    first, second, third, last = (copied.trial(number) for number in ranking_of(copied))
    keys = config.load_yaml(first.config)
    first.config.write_text(config.dump_yaml({**keys, "learning_rate": 0.5}))
    change(second.train_stats, lambda content: content["mean"].pop())
    change(third.result, lambda content: content["metrics"].update(test_mae=None))
    found = collect(copied.root)
    reasons = [row["reason"] for row in found["refused"]]
    assert reasons[0] == f"config.yaml has learning_rate 0.5, the study {keys['learning_rate']}"
    assert reasons[1] == f"{second.train_stats}: is broken: mean must be numbers of shape (3,)."
    assert "metrics must be numbers by name" in reasons[2]
    change(last.train_stats, lambda content: content.update(split_seed="x"))
    with pytest.raises(SweepError, match="split_seed must be a whole number, it is 'x'"):
        collect(copied.root)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.pop("epochs"), "it has no epochs"),
        (lambda content: content["point"].update(learning_rate=7), r"has point \{'learning_rate': 7\}, the study"),
        (lambda content: content["metrics"].update(val_loss=0.0), r"has val_loss 0\.0, the study [0-9]"),
    ],
)
def test_a_result_that_differs_from_the_value_in_the_study_is_refused(
    edit: Callable[[dict[str, Any]], Any], message: str, copied: layout.SweepFolder
):
    for number in ranking_of(copied):
        change(copied.trial(number).result, edit)
    with pytest.raises(SweepError, match=message):
        collect(copied.root)


def test_data_that_are_gone_or_were_changed_are_named(copied: layout.SweepFolder, monkeypatch):
    data = copied.root.parent / "a.hdf5"
    write_data(data, seed=1)
    with pytest.raises(SweepError, match=r"none of 4 .*a\.hdf5: holds other sequences .*a\.hdf5 was changed after the"):
        collect(copied.root)
    # The same parameters, and labels of another unit: standardised they would be the same.
    write_data(data, factor=1000)
    monkeypatch.setattr(verification, "_MOST_DISAGREEMENTS", 2)
    with pytest.raises(SweepError, match=r"none of the best 2 of 4 .*train_stats.json has mean \[.*was changed after"):
        collect(copied.root)
    data.unlink()
    with pytest.raises(DataError, match=r"a\.hdf5: there is no such file"):
        collect(copied.root)
    assert not copied.best.root.exists()


def test_several_sweeps_are_ranked_together(whole: layout.SweepFolder, tmp_path: Path):
    one, other = copy_of(whole, tmp_path / "one/sweep"), copy_of(whole, tmp_path / "other/sweep")
    assert one.sweep.read_text() != other.sweep.read_text()  # the same data under another name
    first, second, *_ = ranking_of(whole)
    one.trial(first).model(weights_only=False).unlink()
    with pytest.raises(ConfigError, match="--out: 2 sweeps have one best model"):
        collect([one.root, other.root])
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"--out .*full: is there and no earlier export"):
        collect([one.root, other.root], out=tmp_path / "full")
    found = collect([one.root, other.root, one.root], top=2, out=tmp_path / "new/best")
    assert (found["best"]["sweep"], found["best"]["number"]) == (str(other.root), first)
    assert [(row["sweep"], row["number"]) for row in found["top"]] == [
        (str(other.root), first),
        (str(one.root), second),
    ]
    assert [(row["sweep"], row["number"]) for row in found["refused"]] == [(str(one.root), first)]
    assert found["trials"]["finished"] == 8
    assert found["rank_hours"] == pytest.approx(sum(each["rank_hours"] for each in found["sweeps"].values()))
    assert predict.get_pretrained_model(tmp_path / "new/best")[2]["raw_data"] == str(tmp_path / "other/a.hdf5")
    assert layout.read_json(tmp_path / "new/best/provenance.json")["refused"] == []
    assert collect(one.root, top=1, out=tmp_path / "new/best")["best"]["number"] == second  # in the place of the first
    assert not one.best.root.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metric": "val_mae"}, "metric is val_mae there and val_loss here"),
        ({"goal": "maximize"}, "goal is maximize there and minimize here"),
        ({"val_frac": 0.2}, r"val_frac is 0\.2 there and 0\.15 here"),
        (
            {"pressure": {"values": ["All", "0.2e6"]}},
            r"pressure is \{'values': \['All', '0\.2e6'\]\} there and All here",
        ),
        ({"data": 1}, r"their data differ, .*b\.hdf5 \(SHA-256 .*a\.hdf5 \("),
    ],
)
def test_sweeps_that_cannot_be_compared_are_refused(
    changed: dict[str, Any], message: str, whole: layout.SweepFolder, tmp_path: Path
):
    data = whole.root.parent / "a.hdf5"
    if "data" in changed:
        data, changed = write_data(tmp_path / "b.hdf5", seed=1), {}
    other = creation.create(tmp_path / "other", spec_of(data, **changed), 1, LaunchPlan())
    with pytest.raises(SweepError, match=f"other: cannot be ranked together with .*sweep: {message}"):
        collect([whole.root, other.root], out=tmp_path / "best")


def test_all_groups_and_a_list_of_all_of_them_are_the_same_choice(whole: layout.SweepFolder, tmp_path: Path):
    listed = spec_of(whole.root.parent / "a.hdf5", pressure={"value": ["0.2e6"]}, experiment_type={"value": "drained"})
    other = creation.create(tmp_path / "other", listed, 1, LaunchPlan())
    assert collect([whole.root, other.root], out=tmp_path / "best")["best"]["sweep"] == str(whole.root)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"process": 3, "job": 1, "rank": 0, "time": "x"}'])
def test_records_of_the_workers_that_are_broken_cost_the_export_nothing(content: str, copied: layout.SweepFolder):
    trial = copied.trial(ranking_of(copied)[0])
    trial.lease(1).write_text(content)
    (worker,) = copied.all_workers()
    lines = worker.utilisation.read_text()
    with worker.utilisation.open("ab") as file:
        file.write(content.encode() + b'\n\xff\xfe\n{"rank": 0, "seconds": 3}\n{"rank": 0, "seconds": {"fit": NaN}}\n')
    found = collect(copied.root)
    assert found["best"]["number"] == int(trial.root.name)
    assert layout.read_json(copied.best.provenance)["trained_on"] is None
    assert sum(found["seconds"].values()) == pytest.approx(
        sum(sum(json.loads(line)["seconds"].values()) for line in lines.splitlines())
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is broken"),
        ("[]", "a mapping is needed"),
        ("{}", "has no state, created"),
        ('{"state": 5, "created": 1}', "state is 5, not running"),
        ('{"state": "running", "created": "yesterday"}', "created must be a finite number, it is 'yesterday'"),
    ],
)
def test_a_broken_state_is_named(content: str, message: str, copied: layout.SweepFolder):
    copied.state.write_text(content)
    with pytest.raises(RecordError, match=rf"state\.json: .*{message}"):
        collect(copied.root)


@pytest.mark.parametrize("content", ["", "nothing\n"])
def test_a_journal_that_holds_no_study_is_named(content: str, copied: layout.SweepFolder):
    copied.journal.write_text(content)
    with pytest.raises(StorageError, match=r"copied: the study of this sweep is not in its storage any more"):
        collect(copied.root)


def test_a_sweep_without_a_finished_trial_and_what_is_no_sweep_export_nothing(
    whole: layout.SweepFolder, tmp_path: Path, monkeypatch
):
    empty = creation.create(tmp_path / "empty", spec_of(whole.root.parent / "a.hdf5"), 2, LaunchPlan())
    with pytest.raises(SweepError, match="empty: no trial has finished yet"):
        collect(empty.root)
    with pytest.raises(SweepError, match="is not a sweep folder"):
        collect([whole.root, tmp_path], out=tmp_path / "best")
    with pytest.raises(ConfigError, match="--top 0: at least one"):
        collect(whole.root, top=0)
    with pytest.raises(ConfigError, match="give the folder of a sweep"):
        collect([])
    shutil.copytree(whole.best.root.parent / "trials/0", tmp_path / "run")
    with pytest.raises(ConfigError, match=r"--out .*config.yaml: is there and no earlier export"):
        collect(whole.root, out=tmp_path / "run/config.yaml")
    shutil.rmtree(tmp_path / "run")
    monkeypatch.chdir(empty.trials)
    with pytest.raises(ConfigError, match=r"--out \.: is the current folder"):
        collect(whole.root, out=Path())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_a_metric_that_shall_be_large_ranks_the_other_way_round(whole: layout.SweepFolder, tmp_path: Path):
    spec = spec_of(whole.root.parent / "a.hdf5", "val_mae", "maximize", learning_rate={"values": [1e-4, 3e-2]})
    sweep = swept(tmp_path / "sweep", spec, collect=True)
    found = collect(sweep.root)
    values = [row["value"] for row in found["top"]]
    assert values == sorted(values, reverse=True)
    assert found["best"]["metrics"]["val_mae"] == values[0]
    assert found["best"]["config"] == {"learning_rate": 1e-4}
    # What a collector that was killed, or never started, left undone.
    shutil.rmtree(sweep.best.root)
    resume_sweep(sweep.root)
    assert layout.read_json(sweep.best.provenance)["trial"] == found["best"]["number"]


def test_failures_and_cost_are_reported_while_the_sweep_goes_on(copied: layout.SweepFolder):
    seen = SweepStudy(copied)
    seen.add_slots(7)
    seen.change_state(lambda state: replace(state, state="running"))
    claim = seen.claim(Owner("far", 0, liveness.Process("far", 1, "1")))
    shutil.rmtree(claim.lease.folder.checkpoint(1))  # as when its owner brings its files up just now
    found = collect(copied.root, top=1)
    assert found["state"] == "running"
    assert found["trials"] == {"finished": 4, "pruned": 0, "failed": 1, "running": 1, "waiting": 1}
    (failure,) = found["failures"]
    assert (failure["trials"], "training diverged" in failure["error"]) == ([4], True)
    results = [layout.read_json(copied.trial(number).result) for number in range(5)]
    assert found["rank_hours"] == pytest.approx(sum(result["seconds"] for result in results) / 3600)
    assert found["rank_hours"] < found["allocated_rank_hours"]
    assert found["wall_seconds"] > max(result["started"] for result in results) - min(
        result["started"] for result in results
    )
    assert (found["prunings"], copied.best.provenance.exists()) == ({}, True)


def test_errors_that_differ_by_their_numbers_are_one_failure():
    errors = ["loss is nan in epoch 3; learning_rate=0.97", "no room", "loss is inf in epoch 12; learning_rate=1e+30"]
    assert group_errors(enumerate([*errors, None])) == [
        {"error": errors[0], "trials": [0, 2]},
        {"error": "no room", "trials": [1]},
        {"error": "its result.json is missing", "trials": [3]},
    ]
