from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glrnn_hpc import layout
from glrnn_hpc.errors import ConfigError, SweepError
from glrnn_hpc.search import leases, samplers, study, workers
from glrnn_hpc.search.space import Parameter, grid_points
from glrnn_hpc.search.sweep import load_sweep


def sweep(**other: Any) -> dict[str, Any]:
    parameters = {
        "raw_data": {"value": "a.hdf5"},
        "window_size": {"values": [3, 5]},
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "lstm_units": {"min": 4, "max": 9},
        "train_frac": {"min": 0.5, "max": 0.6},
        "pressure": {"values": ["All", ["0.2e6", "0.5e6"]]},
    }
    base = {"method": "random", "metric": {"name": "val_loss", "goal": "minimize"}, "run_cap": 4}
    return {**base, "parameters": parameters, **other}


def test_the_inverse_cdf_keeps_to_the_definition_of_each_distribution():
    integers = Parameter.from_config("lstm_units", {"min": 4, "max": 7})
    assert [integers.ppf(u) for u in (0, 0.24, 0.26, 0.74, 0.76, 1)] == [4, 4, 5, 6, 7, 7]
    log = Parameter.from_config("learning_rate", {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2})
    assert log.ppf(0.5) == pytest.approx(1e-3)
    bounds = [log.ppf(0), log.ppf(1)]
    assert bounds == pytest.approx([1e-4, 1e-2])
    assert 1e-4 <= bounds[0] < bounds[1] <= 1e-2
    assert Parameter.from_config("train_frac", {"min": 0.5, "max": 0.7}).ppf(0.25) == pytest.approx(0.55)
    choices = Parameter.from_config("window_size", {"values": [3, 5, 8]})
    assert [choices.ppf(u) for u in (0, 0.34, 0.99, 1)] == [3, 5, 8, 8]
    assert Parameter.from_config("epochs", 7).ppf(0.3) == 7


def test_a_grid_is_the_product_in_a_fixed_order_and_refuses_continuous_keys():
    parameters = [
        Parameter.from_config("window_size", {"values": [3, 5]}),
        Parameter.from_config("lstm_units", {"min": 1, "max": 2}),
    ]
    points = grid_points(parameters)
    assert points[:3] == [
        {"window_size": 3, "lstm_units": 1},
        {"window_size": 3, "lstm_units": 2},
        {"window_size": 5, "lstm_units": 1},
    ]
    assert len(points) == 4
    with pytest.raises(ConfigError, match="parameters.learning_rate: a grid needs a finite set, uniform is continuous"):
        grid_points([Parameter.from_config("learning_rate", {"min": 0.1, "max": 0.2})])


def test_a_sweep_reads_back_as_it_was_resolved(tmp_path: Path):
    spec = load_sweep(sweep(name="night", project="sand"))
    path = tmp_path / "sweep.yaml"
    from glrnn_hpc.config import dump_yaml

    path.write_text(dump_yaml(spec.as_dict()))
    assert load_sweep(path) == spec
    assert spec.n_trials() == 4
    assert spec.n_trials(9) == 9


def test_a_grid_has_no_more_trials_than_points():
    spec = load_sweep(
        sweep(method="grid", run_cap=None, parameters={"raw_data": "a", "window_size": {"values": [3, 5]}})
    )
    assert spec.n_trials() == 2
    assert spec.n_trials(1) == 1


WRONG = [
    ({"method": "bayess"}, "method: 'bayess' is not one of"),
    ({"method": "randon"}, "did you mean random"),
    ({"method": None}, "method: this key is required"),
    ({"method": "bayes"}, "bayes is not supported by this version yet"),
    ({"early_terminate": {"type": "hyperband"}}, "early_terminate: not supported by this version yet"),
    ({"metod": "random"}, "metod: unknown key; did you mean method"),
    ({"metric": {"name": "val_acc"}}, "'val_acc' is never logged; choose one of loss, mae, val_loss, val_mae"),
    ({"metric": {"name": "val_loss", "goal": "max"}}, "metric.goal: 'max' is not one of"),
    ({"metric": {"nam": "val_loss"}}, "metric.nam: unknown key; did you mean name"),
    ({"metric": "val_loss"}, "metric: a mapping with name and goal is needed"),
    ({"run_cap": 0}, "run_cap: an integer of at least 1 is needed, 0"),
    ({"run_cap": True}, "run_cap: an integer of at least 1 is needed, True"),
    ({"parameters": []}, "parameters: a mapping"),
    ({"parameters": {"lstm_unit": 3}}, "parameters.lstm_unit: unknown key; did you mean lstm_units"),
    ({"parameters": {"lstm_units": {"valeus": [1]}}}, "parameters.lstm_units.valeus: unknown key; did you mean values"),
    ({"parameters": {"lstm_units": {}}}, "parameters.lstm_units: give value, values, or min and max"),
    ({"parameters": {"lstm_units": {"min": 3}}}, "parameters.lstm_units.max: this key is required for uniform"),
    ({"parameters": {"lstm_units": {"min": 3, "max": 3}}}, "min=3 must be below max=3"),
    ({"parameters": {"lstm_units": {"min": "a", "max": 3}}}, "parameters.lstm_units.min: a finite number is needed"),
    ({"parameters": {"lstm_units": {"values": []}}}, "parameters.lstm_units.values: a list"),
    ({"parameters": {"lstm_units": {"values": [1], "min": 2}}}, "min: this key does not belong to categorical"),
    ({"parameters": {"lstm_units": {"distribution": "unifrom", "min": 1, "max": 2}}}, "did you mean uniform"),
    ({"parameters": {"learning_rate": {"distribution": "log_uniform_values", "min": 0, "max": 1}}}, "positive bounds"),
    ({"parameters": {"lstm_units": {"distribution": "int_uniform", "min": 1.5, "max": 4}}}, "needs an integer, 1.5"),
    (
        {"parameters": {"raw_data": "a", "window_size": {"values": [3, 0]}}},
        r"parameters.window_size: .*\(0 was given\)",
    ),
    ({"parameters": {"window_size": {"values": [3, 5]}}}, "parameters.raw_data: this key is required"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_sweep_file_names_the_key(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        load_sweep(sweep(**change))


def test_a_random_sweep_without_a_number_of_trials_is_refused():
    with pytest.raises(ConfigError, match="run_cap: a random search needs a number of trials"):
        load_sweep(sweep(run_cap=None)).n_trials()


def test_random_points_depend_on_the_number_of_the_trial_alone():
    spec = load_sweep(sweep())
    assert samplers.point_of(spec, 2) == samplers.point_of(load_sweep(sweep(run_cap=99)), 2)
    assert samplers.point_of(spec, 2) != samplers.point_of(load_sweep(sweep(seed=7)), 2)


@pytest.fixture
def folder(tmp_path: Path) -> layout.SweepFolder:
    return study.create(tmp_path / "sweep", load_sweep(sweep()), 4, {"workers": 1, "ranks_per_worker": 1})


def test_every_slot_is_claimed_once_and_has_the_point_of_its_number(folder: layout.SweepFolder):
    first, second = study.SweepStudy(folder), study.SweepStudy(folder)
    claims = [claim for _ in range(3) for each in (first, second) if (claim := each.claim("w", "host", 0))]
    assert [claim.number for claim in claims] == [0, 1, 2, 3]
    assert [claim.point for claim in claims] == [samplers.point_of(first.spec, number) for number in range(4)]
    assert first.claim("w", "host", 0) is None
    assert {slot.state for slot in second.slots()} == {"running"}


def test_only_trials_of_dead_workers_are_adopted_and_the_first_owner_is_fenced_off(folder: layout.SweepFolder):
    owner = study.SweepStudy(folder)
    claim = owner.claim("slow", "host", 0)
    assert owner.adopt("new", "host", 0, lambda job: False) is None
    adopted = owner.adopt("new", "host", 1, lambda job: job == "slow")
    assert adopted.number == claim.number == 0
    assert (adopted.lease.generation, adopted.point) == (2, claim.point)
    assert not claim.lease.publish({"state": "failed"})
    assert adopted.lease.publish({"state": "finished", "value": 1.0})
    assert not adopted.lease.publish({"state": "failed"})
    owner.tell(0, layout.read_json(adopted.lease.folder.result))
    owner.tell(0, {"state": "failed"})
    assert owner.slots()[0].value == 1.0


def test_a_result_that_was_published_but_not_told_is_told_by_the_adopter(folder: layout.SweepFolder):
    owner = study.SweepStudy(folder)
    owner.claim("dead", "host", 0).lease.publish({"state": "finished", "value": 0.5})
    assert owner.adopt("new", "host", 0, lambda job: True) is None
    assert owner.slots()[0].state == "finished"


def test_a_trial_that_was_claimed_but_never_leased_is_adopted(folder: layout.SweepFolder, monkeypatch):
    owner = study.SweepStudy(folder)
    monkeypatch.setattr(leases, "take", lambda *_: None)  # the claimant dies before it takes the lease
    assert owner.claim("dead", "host", 0) is None
    monkeypatch.undo()
    assert owner.adopt("new", "host", 0, lambda job: False).number == 0


def test_the_sweep_is_finished_when_every_slot_is_final(folder: layout.SweepFolder):
    owner = study.SweepStudy(folder)
    for state in ("finished", "failed", "finished", "finished"):
        assert not owner.is_finished()
        owner.tell(owner.claim("w", "host", 0).number, {"state": state, "value": 1.0})
    assert owner.is_finished()


def test_a_folder_that_is_taken_is_refused_and_left_alone(folder: layout.SweepFolder, tmp_path: Path):
    spec = load_sweep(sweep())
    with pytest.raises(SweepError, match="holds a sweep already; `glrnn resume"):
        study.create(folder.root, spec, 4, {})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(SweepError, match="is not an empty folder"):
        study.create(tmp_path / "mine", spec, 4, {})
    (tmp_path / "empty").mkdir()
    assert study.create(tmp_path / "empty", spec, 4, {}).sweep.exists()
    with pytest.raises(SweepError, match="is not a sweep folder"):
        study.SweepStudy(layout.SweepFolder(tmp_path / "mine"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine", "sweep"]


def test_a_sweep_that_cannot_be_made_leaves_nothing(tmp_path: Path):
    with pytest.raises(TypeError):
        study.create(tmp_path / "sweep", load_sweep(sweep()), 1, {"workers": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_worker_is_alive_while_one_of_its_processes_is(tmp_path: Path):
    sweep_folder = layout.SweepFolder(tmp_path)
    folder = sweep_folder.worker("w")
    folder.root.mkdir(parents=True)
    assert not workers.is_alive(folder)
    assert not workers.is_dead(sweep_folder, "w")
    me = workers.this_process()
    workers.register(folder, [workers.Process(me.host, me.pid, "another start"), me])
    assert workers.is_alive(folder)
    workers.register(folder, [workers.Process(me.host, me.pid, "another start")])
    assert workers.is_dead(sweep_folder, "w")
    workers.register(folder, [workers.Process("elsewhere", 1, "?")])
    assert workers.is_alive(folder)
    layout.write_json(folder.ended, {"status": 0})
    assert workers.is_dead(sweep_folder, "w")
    assert json.loads(folder.record.read_text())["ranks"][0]["host"] == "elsewhere"
