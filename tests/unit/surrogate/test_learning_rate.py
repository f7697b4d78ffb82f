"""Schedules of the learning rate: a function of the epochs that are done, seen by the optimizer and in the metrics."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.config import RunConfig, parse
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.surrogate.learning_rate import rate_of_epoch
from glrnn_hpc.train import Outcome, run_training


def configured(**keys: Any) -> RunConfig:
    return parse(RunConfig, {"raw_data": "x", **keys})


def test_the_cosine_falls_from_the_whole_rate_to_nearly_nothing_in_the_last_epoch():
    config = configured(learning_rate=0.2, learning_rate_schedule="cosine", epochs=4)
    rates = [rate_of_epoch(config, [1.0] * n) for n in range(4)]
    assert rates == pytest.approx([0.2, 0.1 + 0.1 * math.sqrt(0.5), 0.1, 0.1 - 0.1 * math.sqrt(0.5)])
    long = configured(learning_rate=0.2, learning_rate_schedule="cosine", epochs=100)
    assert 0 < rate_of_epoch(long, [1.0] * 99) < 1e-4
    assert rate_of_epoch(configured(learning_rate=0.2, learning_rate_schedule="cosine", epochs=1), []) == 0.2


@pytest.mark.parametrize(
    ("losses", "factor"),
    [
        ([], 1),
        ([5.0, 6.0], 1),
        ([5.0, 6.0, 5.0], 0.1),  # an equal loss is no better one
        ([5.0, 6.0, 4.0, 4.5], 1),  # a better one between them
        ([5.0, 6.0, 7.0, 8.0], 0.1),  # the count begins anew after a fall
        ([5.0, 6.0, 7.0, 8.0, 9.0], 0.01),
        ([5.0, 6.0, 7.0, 3.0, 4.0, 4.0], 0.01),
    ],
)
def test_the_rate_falls_after_so_many_epochs_without_a_better_val_loss(losses: list[float], factor: float):
    keys = {"learning_rate_schedule": "plateau", "plateau_factor": 0.1, "plateau_epochs": 2}
    assert rate_of_epoch(configured(learning_rate=0.5, **keys), losses) == pytest.approx(0.5 * factor)
    assert rate_of_epoch(configured(learning_rate=0.5), losses) == 0.5


class Rates(keras.callbacks.Callback):
    """Record the rate of the optimizer at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[set[float]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(set())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.epochs[-1].add(float(self.model.optimizer.learning_rate))


@pytest.fixture
def trained(tiny: Any, tmp_path: Path) -> Any:
    def run(callbacks: Any = (), **keys: Any) -> Outcome:
        config = parse(RunConfig, tiny(**keys))
        preprocessor = PreprocessorTriaxialCompression(**config.as_dict())
        return run_training(preprocessor, config, layout.RunFolder(tmp_path / "run"), callbacks=callbacks)

    return run


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_the_optimizer_has_the_rate_that_the_metrics_show(schedule: str, trained: Any, tmp_path: Path):
    rates = Rates()
    # At this rate the loss goes up and down, so that a plateau comes.
    keys = {"epochs": 8, "patience": 8, "plateau_epochs": 1, "learning_rate": 0.3}
    outcome = trained([rates], learning_rate_schedule=schedule, **keys)
    with (tmp_path / "run/metrics.csv").open() as file:
        shown = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert outcome.history.history["learning_rate"] == shown
    assert shown[0] == 0.3
    assert len(set(shown)) > 2
    assert [len(each) for each in rates.epochs] == [1] * 8
    np.testing.assert_array_equal(np.array(shown, "float32"), [*map(min, rates.epochs)])
    config = parse(RunConfig, {"raw_data": "x", "learning_rate_schedule": schedule, **keys})
    losses = outcome.history.history["val_loss"]
    assert shown == [rate_of_epoch(config, losses[:epoch]) for epoch in range(8)]
    # It is no measure of the best model.
    assert "learning_rate" not in outcome.metrics


def test_a_constant_rate_is_no_metric(trained: Any):
    assert list(trained().history.history) == ["loss", "mae", "val_loss", "val_mae"]


def test_a_plateau_longer_than_the_patience_is_refused():
    with pytest.raises(ConfigError, match="plateau_epochs=3 must be below patience=3: the training would stop before"):
        configured(learning_rate_schedule="plateau", plateau_epochs=3, patience=3)
    assert configured(plateau_epochs=3, patience=3).learning_rate_schedule == "constant"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"learning_rate_schedule": "cosin"}, r"config.learning_rate_schedule: .*'constant', 'cosine' or 'plateau'"),
        ({"plateau_factor": 1}, "config.plateau_factor: .*less than 1"),
        ({"plateau_epochs": 0}, "config.plateau_epochs: .*greater than or equal to 1"),
    ],
)
def test_schedules_that_are_unknown_or_never_fall_are_refused(keys: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        configured(**keys)
