"""Results of a finished sweep: its trials, the best model verified and exported, the best run with its data."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from glrnn_hpc import layout, predict
from glrnn_hpc.collector.collect import collect
from glrnn_hpc.errors import ConfigError, ModelError, SweepError
from glrnn_hpc.launch import run_sweep
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.study import creation
from glrnn_hpc.summary.status import summarize
from glrnn_hpc.worker import devices
from tests.conftest import write_steps
from tests.losses import losses_of
from tests.sweep.sweeps import owners, spec_of


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> layout.SweepFolder:
    """Run six trials on two MPI ranks."""
    root = tmp_path_factory.mktemp("done")
    return run_sweep(spec_of(write_steps(root / "a.hdf5")), root / "sweep", ranks_per_worker=2)


def test_two_ranks_share_the_trials_and_train_each_once(done: layout.SweepFolder):
    summary = summarize(done.root)
    assert summary["state"] == "finished"
    assert summary["trials"] == {"finished": 6, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert len(owners(done)) == 6
    assert {rank for _, rank in owners(done)} == {0, 1}
    lines = [json.loads(line) for line in done.worker("local-000").utilisation.read_text().splitlines()]
    assert {line["rank"] for line in lines} == {0, 1}
    seconds = [line["seconds"] for line in lines]
    work = sum(each.get("fit", 0.0) + each.get("evaluate", 0.0) for each in seconds)
    assert summary["utilisation"] == pytest.approx(work / sum(sum(each.values()) for each in seconds))
    assert {(line["threads"], line["gpu"]) for line in lines} == {(max(1, devices.n_cpus() // 2), None)}
    for number in range(6):
        trial = done.trial(number)
        assert {path.name for path in trial.root.iterdir()} == {
            "config.yaml",
            "metrics.csv",
            "train_stats.json",
            "model-best.keras",
            "lease-1.json",
            "result.json",
        }
        assert layout.read_json(trial.result)["epochs"] == 2


def test_the_best_trial_is_verified_and_exported(done: layout.SweepFolder, tmp_path: Path):
    found = collect(done.root, top=3)
    values = [row["value"] for row in summarize(done.root)["table"]]
    assert found["best"]["value"] == min(values)
    assert len(found["top"]) == 3
    best = done.best
    names = {path.name for path in best.root.iterdir()}
    assert names == {"config.yaml", "train_stats.json", "metrics.csv", "model-best.keras", "provenance.json"}
    assert losses_of(best.root)["val_loss"] == pytest.approx(min(values), rel=1e-5)
    assert layout.read_json(best.provenance)["trial"] == found["best"]["number"]
    again = collect(done.root)
    assert again["best"]["number"] == found["best"]["number"]


def test_a_model_that_does_not_give_its_logged_loss_is_refused(done: layout.SweepFolder, tmp_path: Path):
    copy = layout.SweepFolder(tmp_path / "copy")
    shutil.copytree(done.root, copy.root)
    ranking = collect(copy.root)["top"]
    best, second = (copy.trial(ranking[place]["number"]) for place in (0, 1))
    (best.root / "model-best.keras").write_bytes((second.root / "model-best.keras").read_bytes())
    (second.root / "model-best.keras").write_bytes(b"broken")
    found = collect(copy.root)
    assert [row["number"] for row in found["refused"]] == [ranking[0]["number"], ranking[1]["number"]]
    assert found["best"]["number"] == ranking[2]["number"]
    third = copy.trial(ranking[2]["number"])
    model, stats, own = predict.get_pretrained_model(third.root)
    model.set_weights([weights * np.nan for weights in model.get_weights()])
    model.save(third.root / "model-best.keras")
    assert collect(copy.root)["best"]["number"] == ranking[3]["number"]
    with pytest.raises(ModelError, match="gives values that are not finite"):
        predict.predict_file(third.root, own["raw_data"], tmp_path / "p.hdf5")
    for number in range(6):
        (copy.trial(number).root / "model-best.keras").write_bytes(b"broken")
    with pytest.raises(SweepError, match="none of 6 finished trials can be verified"):
        collect(copy.root)


@pytest.fixture
def copied(done: layout.SweepFolder, tmp_path: Path) -> layout.SweepFolder:
    """Return a copy of the finished sweep without an export."""
    shutil.copytree(done.root, tmp_path / "copied", ignore=shutil.ignore_patterns("best"))
    return layout.SweepFolder(tmp_path / "copied")


def exchange_models(sweep: layout.SweepFolder, first: int, second: int) -> None:
    one, other = (sweep.trial(number).root / layout.MODEL_WHOLE for number in (first, second))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def test_the_best_run_of_a_sweep_comes_with_sequences_that_it_never_saw(copied: layout.SweepFolder):
    number = summarize(copied.root)["best"]["number"]
    model, data, stats, best = predict.get_best_run_from_sweep(copied.root)
    assert best == predict.get_pretrained_model(copied.trial(number).root)[2]
    inputs, labels = next(iter(data))
    assert (len(list(data)), inputs["inputs"].shape, inputs["params"].shape) == (3, (12, 3), (4,))
    # Value == step number, and 1000 more in the second column.
    original = labels.numpy() * stats["std"] + stats["mean"]
    np.testing.assert_allclose(original, np.arange(12)[:, None] + [0, 1000], atol=1e-3)
    predicted = predict.predict_macroscopics(model, data, stats, best).numpy()
    assert predicted.shape == (3, 12 - best["window_size"], 2)


#: As GrainLearning's documentation shows it, where the sweep is entity/project/id.
PREDICT_FROM_SWEEP = """
import glrnn_hpc.predict as predict_rnn
from glrnn_hpc import preprocessor

model, data, train_stats, config = predict_rnn.get_best_run_from_sweep(SWEEP)
config['raw_data'] = DATA
preprocessor_TC = preprocessor.PreprocessorTriaxialCompression(**config)
data, _ = preprocessor_TC.prepare_datasets()
predictions = predict_rnn.predict_macroscopics(
    model, data['test'], train_stats, config, batch_size=256, single_batch=True)
"""


def test_the_documented_script_predicts_from_a_sweep(copied: layout.SweepFolder, tmp_path: Path):
    (tmp_path / "predict_from_sweep.py").write_text(PREDICT_FROM_SWEEP)
    names = {"SWEEP": str(copied.root), "DATA": str(write_steps(tmp_path / "mine.hdf5"))}
    found = runpy.run_path(str(tmp_path / "predict_from_sweep.py"), names, "__main__")
    assert found["predictions"].shape == (3, 12 - found["config"]["window_size"], 2)


def test_the_best_run_is_the_export_unless_a_better_trial_finished_since(copied: layout.SweepFolder):
    collect(copied.root)
    ranking = [row["number"] for row in collect(copied.root)["top"]]
    for path in copied.trial(ranking[0]).root.glob("model-best.*"):
        path.unlink()
    predict.get_best_run_from_sweep(copied.root)
    provenance = layout.read_json(copied.best.provenance)
    layout.write_json(copied.best.provenance, {**provenance, "trial": ranking[1]})
    with pytest.raises(ModelError, match=f"trials/{ranking[0]}: holds neither"):
        predict.get_best_run_from_sweep(copied.root)


def test_the_best_run_is_not_one_that_collect_refused(copied: layout.SweepFolder):
    first, second, third = (row["number"] for row in collect(copied.root, top=3)["top"])
    exchange_models(copied, first, second)
    assert collect(copied.root)["best"]["number"] == third
    best = predict.get_best_run_from_sweep(copied.root)[3]
    assert best == predict.get_pretrained_model(copied.trial(third).root)[2]


def test_the_best_run_comes_without_data_that_have_changed_or_are_gone(tmp_path: Path, caplog):
    data = write_steps(tmp_path / "a.hdf5")
    sweep = run_sweep(spec_of(data, n_trials=1, epochs=1), tmp_path / "sweep", ranks_per_worker=1)
    write_steps(data, n_samples=19)
    assert predict.get_best_run_from_sweep(str(sweep.root))[1] is None
    assert "trial 0 is loaded without its test data" in caplog.text
    assert "a.hdf5: holds other sequences than the model was trained on" in caplog.text
    data.unlink()
    assert predict.get_best_run_from_sweep(sweep.root)[1] is None
    assert "a.hdf5: there is no such file" in caplog.text


def test_the_best_run_of_what_is_no_sweep_here_is_refused(tmp_path: Path):
    with pytest.raises(SweepError, match="is not a sweep folder"):
        predict.get_best_run_from_sweep(tmp_path)
    folder = creation.create(tmp_path / "sweep", spec_of(tmp_path / "a.hdf5"), 6, LaunchPlan())
    with pytest.raises(SweepError, match="no trial has finished yet; `glrnn status"):
        predict.get_best_run_from_sweep(folder.root)


def test_the_best_run_comes_as_grainlearning_2_0_5_returns_it(copied: layout.SweepFolder):
    """With the arguments of that version three values, else the four of the documentation; a keyword decides too."""
    four = predict.get_best_run_from_sweep(copied.root)
    assert len(four) == 4
    three = predict.get_best_run_from_sweep(copied.root, with_data=False)
    assert [type(value) for value in three] == [type(four[0]), dict, dict]
    assert three[2] == four[3]
    own = PreprocessorTriaxialCompression(**four[3])
    assert len(predict.get_best_run_from_sweep(str(copied.root), preprocessor=own)) == 3
    data = predict.get_best_run_from_sweep(copied.root, preprocessor=own, with_data=True)[1]
    assert len(list(data)) == 3


def test_an_order_ranks_the_runs_by_any_metric(copied: layout.SweepFolder):
    results = {number: layout.read_json(copied.trial(number).result)["metrics"] for number in range(6)}
    by_test = sorted(results, key=lambda number: results[number]["test_mae"])
    for order, number in (("+summary_metrics.test_mae", by_test[0]), ("-test_mae", by_test[-1])):
        _, _, found = predict.get_best_run_from_sweep(copied.root, order=order)
        assert found == predict.get_pretrained_model(copied.trial(number).root)[2]
    with pytest.raises(ConfigError, match=r"has a value of nosuch; they have loss, mae, test_loss, test_mae, val_loss"):
        predict.get_best_run_from_sweep(copied.root, "+nosuch")
    with pytest.raises(ConfigError, match=r"order: '\+config.lstm_units' names no metric; give \+NAME"):
        predict.get_best_run_from_sweep(copied.root, "+config.lstm_units")
