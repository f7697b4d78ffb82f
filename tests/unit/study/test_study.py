from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glrnn_hpc import layout, processes
from glrnn_hpc.errors import SweepError
from glrnn_hpc.records.ownership import Owner
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.records.trial_result import TrialOutcome, TrialResult
from glrnn_hpc.search import samplers
from glrnn_hpc.search.sweep import load_sweep
from glrnn_hpc.study import creation, leases, study


def sweep(**other: Any) -> dict[str, Any]:
    parameters = {
        "raw_data": {"value": "a.hdf5"},
        "window_size": {"values": [3, 5]},
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        "lstm_units": {"min": 4, "max": 9},
        "pressure": {"values": ["All", ["0.2e6", "0.5e6"]]},
    }
    base = {"method": "random", "metric": {"name": "val_loss", "goal": "minimize"}, "run_cap": 4}
    return {**base, "parameters": parameters, **other}


def owner(job: str = "w", rank: int = 0) -> Owner:
    return Owner(job, rank, processes.this_process())


def make(root: Path, n_trials: int = 4, **other: Any) -> study.SweepStudy:
    return study.SweepStudy(creation.create(root, load_sweep(sweep(**other)), n_trials, LaunchPlan()))


def result(claim: study.Claim, state: Any = "finished", **outcome: Any) -> TrialResult:
    return claim.result_of(TrialOutcome(state=state, **outcome), started=0.0, seconds=1.0)


def settle(seen: study.SweepStudy, claim: study.Claim, state: str = "finished", **outcome: Any) -> None:
    assert claim.lease.publish(result(claim, state, **outcome))
    seen.settle(claim.number)


@pytest.fixture
def seen(tmp_path: Path) -> study.SweepStudy:
    return make(tmp_path / "sweep")


def test_every_slot_is_claimed_once_and_has_the_point_of_its_number(seen: study.SweepStudy):
    second = study.SweepStudy(seen.folder)
    claims = [claim for _ in range(3) for each in (seen, second) if (claim := each.claim(owner()))]
    assert sorted(claim.number for claim in claims) == [0, 1, 2, 3]
    assert all(claim.point == samplers.point_of(seen.spec, claim.number) for claim in claims)
    assert seen.claim(owner()) is None
    assert {slot.state for slot in second.slots()} == {"running"}
    assert [slot.params for slot in second.slots()] == [samplers.point_of(seen.spec, number) for number in range(4)]


def test_only_trials_of_dead_owners_are_adopted_and_the_first_owner_is_fenced_off(seen: study.SweepStudy):
    claim = seen.claim(owner("slow"))
    assert seen.adopt(owner("new"), lambda _: False) is None
    adopted = seen.adopt(owner("new"), lambda holder: holder.job == "slow")
    assert adopted.number == claim.number == 0
    assert (adopted.lease.generation, adopted.point) == (2, claim.point)
    assert not claim.lease.publish(result(claim, "failed"))
    settle(seen, adopted, value=1.0)
    assert not adopted.lease.publish(result(adopted, "failed"))
    assert seen.slots()[0].value == 1.0
    seen.settle(0)  # whoever finds the result may settle it again
    assert seen.slots()[0].value == 1.0


def test_an_adopter_never_takes_the_trial_of_a_faster_adopter(seen: study.SweepStudy):
    seen.claim(owner("dead"))
    faster = []

    def dead_but_taken(holder: Owner) -> bool:
        faster.append(leases.take(seen.folder.trial(0), owner("faster"), 2))
        return holder.job == "dead"

    assert seen.adopt(owner("slower"), dead_but_taken) is None
    assert faster[0].is_newest()


def test_a_result_that_was_published_but_not_settled_is_settled_by_the_adopter(seen: study.SweepStudy):
    claim = seen.claim(owner("dead"))
    model = claim.lease.folder.generation(1).model(weights_only=False)
    model.write_bytes(b"model")
    claim.lease.publish(result(claim, value=0.5))
    assert seen.adopt(owner("new"), lambda _: True) is None
    assert seen.slots()[0].state == "finished"
    assert claim.lease.folder.model(weights_only=False).read_bytes() == b"model"
    assert not model.parent.exists()


def test_a_trial_that_was_claimed_but_never_leased_is_adopted(seen: study.SweepStudy, monkeypatch):
    monkeypatch.setattr(leases, "take", lambda *_: None)  # the claimant dies before it takes the lease
    assert seen.claim(owner("dead")) is None
    monkeypatch.undo()
    assert seen.adopt(owner("new"), lambda _: False).number == 0


def test_a_trial_that_was_released_is_adopted_without_waiting(seen: study.SweepStudy):
    claim = seen.claim(owner("first"))
    assert seen.adopt_released(owner("new")) is None
    seen.release(claim)
    assert seen.slots()[0].is_released
    adopted = seen.adopt_released(owner("new"))
    assert (adopted.number, adopted.lease.generation) == (0, 2)
    assert seen.adopt_released(owner("other")) is None
    assert not seen.slots()[0].is_released


def test_the_sweep_is_finished_when_every_slot_is_final(seen: study.SweepStudy):
    for state in ("finished", "failed", "pruned", "finished"):
        assert not seen.is_finished()
        settle(seen, seen.claim(owner()), state, value=1.0)
    assert seen.is_finished()
    assert [slot.state for slot in seen.slots()] == ["finished", "failed", "pruned", "finished"]


ADDER = """
import sys
from pathlib import Path
from glrnn_hpc import layout
from glrnn_hpc.study.study import SweepStudy

seen = SweepStudy(layout.SweepFolder(Path(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
print(seen.add_slots(150), len(seen.retry_failed()), flush=True)
"""


def test_those_that_add_trials_at_once_add_each_of_them_once(seen: study.SweepStudy):
    settle(seen, seen.claim(owner()), "failed")
    command = [sys.executable, "-c", ADDER, str(seen.folder.root)]
    adders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for adder in adders:
        assert adder.stdout.readline() == "ready\n"
    for adder in adders:
        adder.stdin.write("\n")
        adder.stdin.flush()
    added = [adder.communicate(timeout=120)[0].split() for adder in adders]
    assert sum(int(slots) for slots, _ in added) == 146
    assert sorted(repeated for _, repeated in added) == ["0", "0", "1"]
    assert len(seen.slots()) == 151
    while seen.claim(owner()) is not None:
        pass
    points = [slot.params for slot in seen.slots() if slot.state == "running"]
    assert sorted(map(str, points)) == sorted(str(samplers.point_of(seen.spec, number)) for number in range(150))


@pytest.mark.parametrize(("goal", "values"), [("minimize", [0.3, 0.1]), ("maximize", [0.01, 0.2])])
def test_a_value_as_good_as_the_target_ends_the_sweep(goal: str, values: list[float], tmp_path: Path):
    seen = make(tmp_path / "sweep", metric={"name": "val_loss", "goal": goal, "target": 0.15})
    settle(seen, seen.claim(owner()), value=values[0])
    assert layout.read_json(seen.folder.state)["state"] == "running"
    settle(seen, seen.claim(owner()), value=values[1])
    state = layout.read_json(seen.folder.state)
    assert (state["state"], state["reason"]) == ("finished", f"trial 1 reached metric.target=0.15 with {values[1]}")
    assert [slot.state for slot in seen.slots()] == ["finished", "finished", "waiting", "waiting"]


def test_a_target_is_not_forgotten_when_its_publisher_dies_before_it_ends_the_sweep(tmp_path: Path, monkeypatch):
    seen = make(tmp_path / "sweep", metric={"name": "val_loss", "goal": "minimize", "target": 0.15})
    claim = seen.claim(owner())
    with monkeypatch.context() as dying:
        dying.setattr(seen, "end", lambda _: None)
        settle(seen, claim, value=0.1)
    assert layout.read_json(seen.folder.state)["state"] == "running"
    assert seen.claim(owner()) is None
    assert layout.read_json(seen.folder.state)["reason"] == "trial 0 reached metric.target=0.15 with 0.1"


def test_trials_that_were_added_a_moment_ago_keep_the_sweep_running(tmp_path: Path):
    seen = make(tmp_path / "sweep", 1)
    settle(seen, seen.claim(owner()), value=1.0)
    seen.add_slots(2)
    seen.end_if_finished()
    assert layout.read_json(seen.folder.state)["state"] == "running"
    settle(seen, seen.claim(owner()), value=1.0)
    seen.end_if_finished()
    assert layout.read_json(seen.folder.state)["reason"] == "every trial is final"
    assert not Path(f"{seen.folder.state}.lock").exists()


def test_a_trial_that_kills_every_owner_fails(seen: study.SweepStudy):
    seen.claim(owner())
    for _ in range(4):
        assert seen.adopt(owner(), lambda _: True) is not None
    assert seen.adopt(owner(), lambda _: True) is None
    slot = seen.slots()[0]
    assert slot.state == "failed"
    assert "its worker died 5 times before an epoch was done" in layout.read_json(seen.folder.trial(0).result)["error"]


def test_a_trial_with_an_epoch_between_deaths_never_fails_by_them(seen: study.SweepStudy):
    claim = seen.claim(owner())
    for _ in range(8):
        seen.folder.trial(0).checkpoint_file(claim.lease.generation).touch()
        claim = seen.adopt(owner(), lambda _: True)
        assert claim is not None


def test_failed_trials_get_another_try_with_the_same_point(seen: study.SweepStudy):
    claims = [seen.claim(owner()) for _ in range(4)]
    for claim, state in zip(claims, ("failed", "finished", "failed", "finished"), strict=True):
        settle(seen, claim, state, value=1.0)
    assert seen.retry_failed() == [0, 2]
    assert [slot.state for slot in seen.slots()][:4] == ["retried", "finished", "retried", "finished"]
    again = [seen.claim(owner()) for _ in range(2)]
    assert [claim.point for claim in again] == [claims[0].point, claims[2].point]
    settle(seen, again[0], "failed")
    settle(seen, again[1], "finished", value=1.0)
    assert seen.retry_failed() == [4]
    assert seen.add_slots(4) == 0
    assert seen.add_slots(5) == 1
    assert [seen.claim(owner()).point for _ in range(2)] == [claims[0].point, samplers.point_of(seen.spec, 4)]


@pytest.mark.parametrize(("impute", "value"), [("best", 0.2), ("worst", 0.9), ("latest", 0.4)])
def test_the_search_by_bayes_imputes_failed_trials_and_nobody_else_sees_it(impute: str, value: float, tmp_path: Path):
    metric = {"name": "val_loss", "goal": "minimize", "impute": impute}
    seen = make(tmp_path / "sweep", method="bayes", metric=metric)
    for known in (0.9, 0.2, 0.4):
        settle(seen, seen.claim(owner()), value=known)
    settle(seen, seen.claim(owner()), "failed")
    assert seen._trials()[3].value == value
    assert (seen.slots()[3].state, seen.slots()[3].value) == ("failed", None)


def test_bayes_learns_from_what_is_finished_and_keeps_its_points_in_units(tmp_path: Path):
    parameters = {
        "raw_data": "a.hdf5",
        "learning_rate": {"distribution": "log_normal", "mu": -6, "sigma": 2},
        "batch_size": {"distribution": "q_log_uniform_values", "min": 16, "max": 512, "q": 16},
        "lstm_units": {"min": 4, "max": 64},
        "window_size": {"values": [3, 5, 8], "probabilities": [0.2, 0.5, 0.3]},
    }
    metric = {"name": "val_loss", "goal": "minimize"}
    seen = make(tmp_path / "sweep", 60, method="bayes", metric=metric, parameters=parameters)
    errors = []
    for _ in range(60):
        claim = seen.claim(owner())
        error = (claim.point["lstm_units"] - 40) ** 2 / 1000 + (claim.point["window_size"] != 5)
        errors.append(error)
        settle(seen, claim, value=error)
    assert np.median(errors[-20:]) < 0.5 * np.median(errors[:20])
    for slot in seen.slots():
        assert set(slot.params) == {"learning_rate", "batch_size", "lstm_units", "window_size"}
        assert slot.params["batch_size"] % 16 == 0
        assert slot.params["window_size"] in (3, 5, 8)
    assert len({slot.params["learning_rate"] for slot in seen.slots()}) == 60


def test_bayes_takes_trials_that_run_into_account(tmp_path: Path):
    rate = {"distribution": "log_uniform_values", "min": 1e-5, "max": 1}
    metric = {"name": "val_loss", "goal": "minimize"}
    points = []
    for n_running in (0, 4):
        parameters = {"raw_data": "a.hdf5", "learning_rate": rate}
        seen = make(tmp_path / str(n_running), 24, method="bayes", metric=metric, parameters=parameters)
        for _ in range(15):
            claim = seen.claim(owner())
            settle(seen, claim, value=abs(np.log10(claim.point["learning_rate"]) + 3))
        for _ in range(n_running):
            seen.claim(owner())
        # The same sampler, with the same random numbers.
        ask = study.optuna.load_study(
            study_name="sweep", storage=seen._storage, sampler=samplers.make_sampler(seen.spec, 99)
        ).ask
        points.append(samplers.suggest(ask(), seen.spec.searched)["learning_rate"])
    assert points[0] != points[1]


def test_cma_es_may_take_the_place_of_tpe(tmp_path: Path):
    metric = {"name": "val_loss", "goal": "minimize"}
    parameters = {
        "raw_data": "a.hdf5",
        "learning_rate": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1},
        "epsilon": {"distribution": "log_normal", "mu": -10},
        "window_size": {"values": [3, 5]},
    }
    seen = make(tmp_path / "sweep", 80, method="bayes", metric=metric, sampler="cmaes", parameters=parameters)
    errors = []
    for _ in range(80):
        claim = seen.claim(owner())
        errors.append(abs(np.log10(claim.point["learning_rate"]) + 2) + abs(np.log(claim.point["epsilon"]) + 9))
        settle(seen, claim, value=errors[-1])
    assert np.median(errors[-20:]) < 0.7 * np.median(errors[:20])


def test_ranks_that_ask_bayes_at_once_draw_different_points(tmp_path: Path):
    metric = {"name": "val_loss", "goal": "minimize"}
    seen = make(tmp_path / "sweep", 8, method="bayes", metric=metric)
    rates = {seen.claim(owner()).point["learning_rate"] for _ in range(8)}
    assert len(rates) == 8


def test_a_folder_that_is_taken_is_refused_and_left_alone(seen: study.SweepStudy, tmp_path: Path):
    spec = load_sweep(sweep())
    with pytest.raises(SweepError, match="holds a sweep already; `glrnn resume"):
        creation.create(seen.folder.root, spec, 4, LaunchPlan())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(SweepError, match="is not an empty folder"):
        creation.create(tmp_path / "mine", spec, 4, LaunchPlan())
    (tmp_path / "empty").mkdir()
    assert creation.create(tmp_path / "empty", spec, 4, LaunchPlan()).sweep.exists()
    with pytest.raises(SweepError, match="is not a sweep folder"):
        study.SweepStudy(layout.SweepFolder(tmp_path / "mine"))
    with pytest.raises(SweepError, match="the sweep's folder cannot be made: .*File exists"):
        creation.create(tmp_path / "mine" / "thesis.tex" / "sweep", spec, 4, LaunchPlan())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine", "sweep"]


def test_a_sweep_that_cannot_be_made_leaves_nothing(tmp_path: Path):
    with pytest.raises(TypeError):
        creation.create(tmp_path / "sweep", load_sweep(sweep()), 1, LaunchPlan(profile={"account": object()}))
    assert list(tmp_path.iterdir()) == []
