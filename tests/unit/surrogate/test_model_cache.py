"""Models that a worker keeps between trials train as new ones would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from glrnn_hpc import layout, train
from glrnn_hpc.config import ADAM_KEYS, RunConfig, parse
from glrnn_hpc.gather import DeviceCopies
from glrnn_hpc.models.registry import build_network
from glrnn_hpc.models.structure import structure_of
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.surrogate import model_cache
from glrnn_hpc.surrogate.model_cache import ModelCache


class Broken(Exception):
    pass


class Break(keras.callbacks.Callback):
    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        raise Broken


@pytest.fixture
def trained(tmp_path: Path, tiny: Any) -> Any:
    """Return a function that trains a configuration and returns its final weights and losses."""

    def run(
        models: ModelCache, folder: str, callbacks: Any = (), copies: Any = None, **keys: Any
    ) -> tuple[list[Any], list[float]]:
        config = parse(RunConfig, tiny(**keys))
        preprocessor = PreprocessorTriaxialCompression(**config.as_dict())
        root = layout.RunFolder(tmp_path / folder)
        outcome = train.run_training(preprocessor, config, root, models=models, callbacks=callbacks, copies=copies)
        return outcome.history.model.get_weights(), outcome.history.history["val_loss"]

    return run


def assert_equal(found: tuple[list[Any], list[float]], expected: tuple[list[Any], list[float]]) -> None:
    assert found[1] == expected[1]
    assert all(np.array_equal(a, b) for a, b in zip(found[0], expected[0], strict=True))


def count(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    class Counted(model_cache.Compiled):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(model_cache, "Compiled", Counted)
    return made


def test_a_kept_model_trains_to_the_same_bits_as_a_new_one(trained: Any, monkeypatch):
    keys = {"seed": 7, "learning_rate": 0.01, "beta_1": 0.8, "amsgrad": True}
    expected = trained(ModelCache(), "new", **keys)
    made = count(monkeypatch)
    kept = ModelCache()
    others = {"seed": 1, "learning_rate": 0.5, "beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1}
    trained(kept, "before", **{**keys, **others, "batch_size": 7, "window_step": 2})
    assert_equal(trained(kept, "after", **keys), expected)
    assert len(made) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"lstm_units": 5},
        {"window_size": 4},
        {"dense_units": 3},
        {"amsgrad": True},
        {"add_pressure": False},
        {"label_scaling": "physical"},
        {"inputs": ["e_z"]},
    ],
)
def test_what_a_trace_holds_is_not_shared(other: dict[str, Any], trained: Any, monkeypatch):
    expected = trained(ModelCache(), "new", **other)
    made = count(monkeypatch)
    kept = ModelCache()
    trained(kept, "before")
    assert_equal(trained(kept, "after", **other), expected)
    assert len(made) == 2


def test_a_training_that_was_broken_off_leaves_nothing_to_the_next(trained: Any, monkeypatch):
    expected = trained(ModelCache(), "new", train_frac=0.5)
    made = count(monkeypatch)
    kept = ModelCache()
    with pytest.raises(Broken):
        trained(kept, "broken", [Break()])
    assert_equal(trained(kept, "after", train_frac=0.5), expected)
    assert len(made) == 2


@pytest.mark.parametrize(
    "keys",
    [
        {"use_ema": True},
        {"ema_momentum": 0.9, "learning_rate_schedule": "cosine", "weight_decay": 0.1},
        {"ema_momentum": 0.9, "ema_overwrite_frequency": 5},
        {"learning_rate_schedule": "plateau", "plateau_epochs": 1, "learning_rate": 0.3},
        # After a training whose rate fell.
        {"ema_momentum": 0.5, "weight_decay": 0.1},
    ],
    ids=str,
)
def test_a_kept_model_begins_with_a_new_average_and_the_whole_rate(keys: dict[str, Any], trained: Any, monkeypatch):
    keys = {"epochs": 3, "batch_size": 8, **keys}
    expected = trained(ModelCache(), "new", **keys)
    made = count(monkeypatch)
    kept = ModelCache()
    constants = {name: keys[name] for name in ("use_ema", "ema_overwrite_frequency") if name in keys}
    others = {"seed": 1, "learning_rate_schedule": "cosine", "epochs": 4}
    others |= {name: 0.3 for name in ("ema_momentum", "weight_decay") if name in keys}
    trained(kept, "before", **constants, **others)
    assert_equal(trained(kept, "after", **keys), expected)
    assert len(made) == 1


def test_only_so_many_are_kept_the_latest_ones(trained: Any, monkeypatch):
    monkeypatch.setattr(model_cache, "_CAPACITY", 2)
    made = count(monkeypatch)
    kept = ModelCache()
    for number, units in enumerate((2, 3, 2, 4, 2, 3)):
        trained(kept, str(number), lstm_units=units)
    # 3 had to go when 4 came: 2 was used after it.
    assert len(made) == 4


def test_a_model_trains_on_batches_of_a_device_to_the_same_bits(trained: Any, monkeypatch):
    keys = {"seed": 3, "standardize_inputs": True, "batch_size": 7}
    expected = trained(ModelCache(), "memory", **keys)
    made = count(monkeypatch)
    kept, copies = ModelCache(), DeviceCopies("CPU:0")
    # Of other sequences, so that a trace that held them would be found out.
    trained(kept, "before", copies=copies, **{**keys, "train_frac": 0.5, "seed": 1})
    assert_equal(trained(kept, "device", copies=copies, **keys), expected)
    # And back: the kept model takes whole batches again.
    assert_equal(trained(kept, "after", **keys), expected)
    assert len(made) == 1


#: Another value of each key that is a constant of the traced training.
CONSTANTS = {
    "network": "gru",
    "window_size": 4,
    "lstm_units": 5,
    "dense_units": 3,
    "amsgrad": True,
    "weight_decay": 0.1,
    "clipnorm": 1.0,
    "clipvalue": 1.0,
    "global_clipnorm": 1.0,
    "use_ema": True,
    "ema_overwrite_frequency": 3,
    "loss_scale_factor": 2.0,
    "gradient_accumulation_steps": 2,
}
SHAPES = {"num_input_features": 3, "num_params": 4, "num_labels": 2}


def key_of(shapes: dict[str, int] = SHAPES, **keys: Any) -> str:
    config = parse(RunConfig, {"raw_data": "x", "window_size": 3, "lstm_units": 4, "dense_units": 4, **keys})
    key = model_cache.cache_key(build_network(config, shapes), config, shapes)
    assert key is not None
    return key


def test_no_two_trainings_with_other_constants_share_a_model():
    assert set(ADAM_KEYS) - {"beta_1", "beta_2", "epsilon", "ema_momentum"} <= set(CONSTANTS)
    keys = [key_of(), *(key_of(**{name: value}) for name, value in CONSTANTS.items())]
    keys += [key_of({**SHAPES, name: size + 1}) for name, size in SHAPES.items()]
    assert len(set(keys)) == len(keys)


def test_trainings_that_differ_in_variables_share_a_model():
    others = {"seed": 1, "learning_rate": 0.5, "batch_size": 7, "epochs": 3, "patience": 9, "window_step": 2}
    others |= {"learning_rate_schedule": "plateau", "plateau_epochs": 3, "plateau_factor": 0.1}
    assert key_of(**others, beta_1=0.5, beta_2=0.7, epsilon=0.1) == key_of()
    assert key_of(ema_momentum=0.5) == key_of(use_ema=True) != key_of()
    for name in ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm"):
        assert key_of(**{name: 0.1}) == key_of(**{name: 0.2})


def own(policy: str = "float32", name: str | None = None, units: int = 2, function: str = "tanh") -> keras.Model:
    inputs = keras.Input((3,), name="inputs")
    hidden = keras.layers.Dense(units, function, dtype=policy, name=name)(inputs)
    return keras.Model({"inputs": inputs}, keras.layers.Dense(2)(hidden))


def test_names_that_keras_counts_up_do_not_matter_and_all_else_does():
    structure = structure_of(own())
    assert structure == structure_of(own()) == structure_of(own(name="anything"))
    # A name of a layer that is the name of something else, too.
    assert len({structure, structure_of(own("float64")), structure_of(own("float64", "float32"))}) == 2
    assert len({structure, structure_of(own(units=3)), structure_of(own(function="relu", name="tanh"))}) == 3


class Silent(keras.layers.Layer):
    """A layer with a number that its configuration cannot show."""

    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor

    def call(self, values: Any) -> Any:
        return self.factor() * values


def test_a_model_that_does_not_tell_its_configuration_is_not_cached():
    inputs = keras.Input((3,), name="inputs")
    assert structure_of(keras.Model({"inputs": inputs}, Silent(lambda: 2.0)(inputs))) is None
