"""Sample sweeps and trials, and the boxes of texts in a figure."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from glrnn_hpc.report.trials import Trial
from glrnn_hpc.search.space import Parameter
from glrnn_hpc.search.spec import SweepSpec

PARAMETERS = {
    "learning_rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    "pressure": {"values": ["All", ["0.2e6", "0.5e6"], ["0.2e6", "1.0e6"]]},
    "use_ema": {"values": [True, False]},
    "gradient_accumulation_steps": {"min": 1, "max": 8},
    "ema_overwrite_frequency": {"min": 1, "max": 1000},
    "a_long_name_of_a_preprocessors_key": {"distribution": "normal", "mu": 1e6, "sigma": 1e5},
    "dense_units": {"distribution": "q_log_uniform_values", "q": 8, "min": 8, "max": 512},
    "experiment_type": {"values": ["drained", "undrained", "All"]},
    "weight_decay": {"distribution": "inv_log_uniform_values", "min": 1e-8, "max": 1e-2},
    "loss_scale_factor": {"min": 0.001, "max": 0.002},
    "add_experiment_type": {"values": [True, False]},
    "many_choices": {"values": list(range(40))},
}


def spec_of(names: list[str] | None = None, goal: Any = "minimize", **other: Any) -> SweepSpec:
    chosen = PARAMETERS if names is None else {name: PARAMETERS[name] for name in names}
    parameters = tuple(Parameter.from_config(name, mapping) for name, mapping in chosen.items())
    return SweepSpec("random", "val_loss", goal, parameters, **other)


def trials_of(spec: SweepSpec, n_trials: int) -> list[Trial]:
    """Return trials whose value is their learning rate, every tenth one failed and every fourth one stopped."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(n_trials):
        point = {each.name: each.ppf(float(rng.uniform(0.01, 0.99))) for each in spec.searched}
        state = "failed" if number % 10 == 9 else "pruned" if number % 4 == 3 else "finished"
        value = None if state == "failed" else float(point["learning_rate"])
        history = () if value is None else (4 * value, 2 * value, value)[: 2 if state == "pruned" else 3]
        found.append(Trial(number, state, point, value, history))
    return found


def boxes(figure: Figure, labels: list[Any]) -> list[Any]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return [label.get_window_extent(renderer) for label in labels if label.get_text()]


def assert_apart(found: list[Any]) -> None:
    assert len(found) > 1
    assert [pair for pair in combinations(found, 2) if pair[0].overlaps(pair[1])] == []
