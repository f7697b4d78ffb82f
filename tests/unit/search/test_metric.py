"""Metrics whose unit depends on what a network learns: a sweep ranks its trials by numbers that mean the same."""

from __future__ import annotations

from typing import Any

import pytest

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.search.sweep import load_sweep
from tests.unit.search.test_sweep import PARAMETERS, sweep

RAW = {"name": "val_loss_raw", "goal": "minimize"}


@pytest.mark.parametrize(
    ("keys", "metric", "message"),
    [
        (
            {"label_scaling": {"values": ["raw", "physical"]}},
            None,
            "other units where label_scaling differ, .*val_loss_raw",
        ),
        ({"exact": {"values": [True, False]}}, None, "other units where exact differ"),
        ({}, RAW, "is logged where label_scaling or exact is set; without them val_loss is the same"),
        (
            {"label_scaling": {"value": "physical"}, "standardize_outputs": False},
            RAW,
            "needs standardize_outputs: true",
        ),
    ],
)
def test_a_metric_has_one_unit_in_all_trials(keys: dict[str, Any], metric: dict[str, str] | None, message: str):
    content = sweep(parameters={**PARAMETERS, **keys}, **({"metric": metric} if metric else {}))
    with pytest.raises(ConfigError, match=f"metric.name: .*{message}"):
        load_sweep(content)


@pytest.mark.parametrize(
    "keys",
    [
        {"label_scaling": {"value": "physical"}},
        {"exact": {"value": True}},
        {"label_scaling": {"values": ["raw", "physical"]}},
    ],
)
def test_a_raw_metric_ranks_trials_whatever_their_networks_learn(keys: dict[str, Any]):
    assert load_sweep(sweep(parameters={**PARAMETERS, **keys}, metric=RAW)).metric == "val_loss_raw"
