"""Pruning of a training by hyperband at the bands of a sweep."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from glrnn_hpc.search.hyperband import BandReport
from glrnn_hpc.worker.trainer import Pruning
from tests.unit.study.test_study import make, owner


@pytest.fixture
def pruning(tmp_path: Path) -> Pruning:
    """Return the callback of a trial in a sweep with a band at epoch 2, where another trial had 1.0."""
    seen = make(tmp_path / "sweep", 2, early_terminate={"type": "hyperband", "max_iter": 6, "s": 1, "eta": 3})
    claims = [seen.claim(owner()) for _ in range(2)]
    assert not seen.report(claims[0].number, BandReport(2, 1.0, 1.0))
    callback = Pruning(seen, claims[1].number)
    callback.set_model(keras.Model())
    callback.model.stop_training = False
    callback.set_params({"epochs": 4})
    return callback


def test_a_trial_that_is_worse_at_a_band_is_stopped(pruning: Pruning):
    for epoch in range(2):
        assert not pruning.is_pruned
        pruning.on_epoch_end(epoch, {"val_loss": 5.0})
    assert pruning.is_pruned
    assert pruning.model.stop_training


@pytest.mark.parametrize("by", ["number", "patience"])
def test_a_trial_whose_last_epoch_is_a_band_is_finished(by: str, pruning: Pruning):
    if by == "number":
        pruning.set_params({"epochs": 2})
    pruning.on_epoch_end(0, {"val_loss": 5.0})
    pruning.model.stop_training = by == "patience"
    pruning.on_epoch_end(1, {"val_loss": 5.0})
    assert not pruning.is_pruned
    assert pruning._study._trials()[1].intermediate_values == {2: 5.0}, "others are compared with it"
