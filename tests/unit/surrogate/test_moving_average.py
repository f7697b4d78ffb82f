"""A moving average of the weights is what is validated, kept and tested; the training goes on from the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from glrnn_hpc import layout, predict
from glrnn_hpc.config import RunConfig, parse
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.train import Outcome, run_training
from tests.losses import losses_of

#: Some hundred steps, so that the average is far from the weights.
KEYS = {"epochs": 4, "batch_size": 4, "standardize_inputs": True, "learning_rate": 0.01}


class Record(keras.callbacks.Callback):
    """Record the weights after each step, and those in the model at the end of each epoch."""

    def __init__(self, stop_after: int = 99) -> None:
        super().__init__()
        self._stop_after = stop_after
        self.steps: list[list[Any]] = []
        self.n_steps: list[int] = []
        self.validated: list[list[Any]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(self.model.get_weights())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.n_steps.append(len(self.steps))
        self.validated.append(self.model.get_weights())
        if epoch + 1 == self._stop_after:
            self.model.stop_training = True

    def average_after(self, n_steps: int, momentum: float) -> list[Any]:
        average = self.steps[0]
        for weights in self.steps[1:n_steps]:
            average = [momentum * old + (1 - momentum) * new for old, new in zip(average, weights, strict=True)]
        return average


@pytest.fixture
def trained(tiny: Any, tmp_path: Path) -> Any:
    def run(folder: str, callbacks: Any = (), **keys: Any) -> Outcome:
        config = parse(RunConfig, tiny(**{**KEYS, **keys}))
        preprocessor = PreprocessorTriaxialCompression(**config.as_dict())
        return run_training(preprocessor, config, layout.RunFolder(tmp_path / folder), callbacks=callbacks)

    return run


def assert_close(found: list[Any], expected: list[Any]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def are_equal(found: list[Any], expected: list[Any]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("stop_after", [99, 2])
def test_the_average_is_validated_kept_and_tested_and_the_training_goes_on_from_the_weights(
    stop_after: int, trained: Any, tmp_path: Path
):
    raw, averaged = Record(stop_after), Record(stop_after)
    plain = trained("plain", [raw])
    outcome = trained("average", [averaged], use_ema=True, ema_momentum=0.95)
    assert outcome.epochs == min(4, stop_after)
    # The weights of each step and the loss of the training are those of a training without an average.
    assert len(raw.steps) == len(averaged.steps) > 30
    assert all(are_equal(one, other) for one, other in zip(averaged.steps, raw.steps, strict=True))
    assert outcome.history.history["loss"] == plain.history.history["loss"]
    for n_steps, validated in zip(averaged.n_steps, averaged.validated, strict=True):
        assert_close(validated, averaged.average_after(n_steps, 0.95))
        assert not are_equal(validated, averaged.steps[n_steps - 1])
    best = averaged.validated[outcome.best_epoch - 1]
    assert are_equal(outcome.history.model.get_weights(), best)
    assert are_equal(predict.get_pretrained_model(tmp_path / "average")[0].get_weights(), best)
    found = losses_of(tmp_path / "average")
    assert found == pytest.approx({name: outcome.metrics[name] for name in found}, rel=1e-6)
    assert outcome.metrics["val_loss"] != plain.metrics["val_loss"]


def test_early_stopping_waits_for_the_average(trained: Any):
    # At this rate the weights jump about, and their average goes on to improve.
    keys = {"epochs": 20, "patience": 3, "learning_rate": 0.05}
    outcome = trained("average", ema_momentum=0.97, **keys)
    assert trained("plain", **keys).epochs < outcome.epochs == outcome.best_epoch + 3 < 20


def test_where_the_average_overwrites_the_weights_they_are_validated_as_in_keras(trained: Any):
    # Less often than there are steps: never.
    never = trained("never", use_ema=True, ema_momentum=0.95, ema_overwrite_frequency=100_000)
    plain = trained("plain")
    assert never.history.history == plain.history.history
    assert are_equal(never.history.model.get_weights(), plain.history.model.get_weights())
    record = Record()
    trained("often", [record], use_ema=True, ema_momentum=0.95, ema_overwrite_frequency=1)
    # After each step the weights are the average, and the next one begins there.
    assert are_equal(record.validated[0], record.steps[record.n_steps[0] - 1])


@pytest.mark.parametrize(
    ("keys", "is_kept"),
    [
        ({}, False),
        ({"use_ema": True}, True),
        ({"use_ema": False}, False),
        ({"ema_momentum": 0.9}, True),
        ({"ema_overwrite_frequency": 7}, True),
        ({"use_ema": False, "ema_momentum": 0.9, "ema_overwrite_frequency": 7}, False),
    ],
    ids=str,
)
def test_one_key_of_the_average_is_enough_unless_use_ema_is_false(keys: dict[str, Any], is_kept: bool):
    config = parse(RunConfig, {"raw_data": "x", **keys})
    assert config.keeps_average is is_kept
    assert keras.optimizers.Adam(**config.adam_arguments()).use_ema is is_kept
    # What was given is what is written.
    assert "use_ema" not in keys or config.as_dict()["use_ema"] == keys["use_ema"]
