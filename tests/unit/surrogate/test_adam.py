"""Adam whose numbers are variables steps to the bits of Keras' own, and is traced once for all of their values."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from glrnn_hpc.surrogate.adam import VariableArguments, traced_arguments

SHAPES = ((5, 3), (3,), (7,))
NUMBERS = {"learning_rate": 0.0123, "beta_1": 0.873, "beta_2": 0.9871, "epsilon": 3.3e-5}


def gradients(dtype: str) -> list[list[Any]]:
    rng = np.random.default_rng(0)
    return [[rng.normal(size=shape).astype(dtype) * 10 ** rng.uniform(-3, 1) for shape in SHAPES] for _ in range(6)]


class Steps:
    """Weights, and the traced step of an optimizer on them."""

    def __init__(self, optimizer: keras.optimizers.Adam, dtype: str) -> None:
        self.weights = [keras.Variable(np.ones(shape), dtype=dtype) for shape in SHAPES]
        optimizer.build(self.weights)
        self._variables = [*self.weights, *optimizer.variables]
        self._untrained = [variable.numpy() for variable in self._variables]
        self.traced = tf.function(lambda *each: optimizer.apply(list(each), self.weights))

    def reset(self) -> None:
        for variable, value in zip(self._variables, self._untrained, strict=True):
            variable.assign(value)

    def state_after(self, gradients: list[list[Any]]) -> list[Any]:
        for each in gradients:
            self.traced(*each)
        return [variable.numpy() for variable in self._variables]


@pytest.mark.parametrize("more", [{}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.001}], ids=str)
def test_sparse_gradients_of_a_users_embedding_step_as_in_keras(more: dict[str, Any]):
    rows, target = np.array([2, 0, 2, 2]), np.arange(12.0, dtype="float32").reshape(4, 3)

    def trained(optimizer: keras.optimizers.Adam) -> Any:
        table = keras.Variable(np.ones((5, 3)), dtype="float32")

        @tf.function
        def step() -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum((tf.gather(table.value, rows) - target) ** 2)
            gradient = tape.gradient(loss, table.value)
            assert isinstance(gradient, tf.IndexedSlices)
            optimizer.apply([gradient], [table])

        optimizer.build([table])
        for _ in range(3):
            step()
        return table.numpy()

    ours = keras.optimizers.Adam(**NUMBERS, **more)
    VariableArguments(ours)
    np.testing.assert_array_equal(trained(ours), trained(keras.optimizers.Adam(**NUMBERS, **more)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"beta_1": 0.0},
        {"amsgrad": True},
        {"weight_decay": 0.013},
        {"weight_decay": 0.0},
        {"clipnorm": 0.7},
        {"clipvalue": 0.3},
        {"global_clipnorm": 0.9},
        {"loss_scale_factor": 3.0},
        {"gradient_accumulation_steps": 2},
        {"use_ema": True, "ema_momentum": 0.913},
        {"use_ema": True, "ema_momentum": 0.0},
        {"use_ema": True, "ema_momentum": 0.913, "ema_overwrite_frequency": 2},
        {"use_ema": True, "ema_momentum": 0.913, "gradient_accumulation_steps": 2},
    ],
    ids=str,
)
def test_other_numbers_give_the_bits_of_keras_without_a_new_trace(more: dict[str, Any], dtype: str):
    arguments = {**NUMBERS, **more}
    plain = keras.optimizers.Adam(**arguments)
    expected = Steps(plain, dtype).state_after(gradients(dtype))
    before = {**arguments, "learning_rate": 0.5, "beta_1": 0.5, "beta_2": 0.7, "epsilon": 0.1}
    before |= {"ema_momentum": 0.3}
    before |= {name: 3 * more[name] for name in more if name == "weight_decay" or "clip" in name}
    assert traced_arguments(before) == traced_arguments(arguments)
    optimizer = keras.optimizers.Adam(**before)
    variable = VariableArguments(optimizer)
    steps = Steps(optimizer, dtype)
    steps.state_after(gradients(dtype)[:1])
    steps.reset()
    variable.set(arguments)
    found = steps.state_after(gradients(dtype))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert steps.traced.experimental_get_tracing_count() == 1
    # What a file of the model says of its optimizer, and how many variables are in its checkpoint, is Keras' own.
    assert {**optimizer.get_config(), "name": ""} == {**plain.get_config(), "name": ""}
    written = keras.optimizers.serialize(optimizer)
    assert (written["module"], written["class_name"]) == ("keras.optimizers", "Adam")
    assert len(optimizer.variables) == len(plain.variables)
