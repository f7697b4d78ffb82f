"""Adam whose numbers are variables of a traced training: another value of them needs no new trace.

A trace takes seconds, and memory that TensorFlow does not give back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

#: Arguments of Adam that are variables here, beside the learning rate, which is one in Keras.
_NUMBERS = ("beta_1", "beta_2", "epsilon", "ema_momentum")
#: These may be left out, and a step without them is another computation.
_OPTIONAL = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm")
#: Keras rounds these to single precision, whatever the type of the weights is.
_SINGLE = frozenset({"beta_1", "beta_2", "weight_decay"})


class VariableArguments:
    """Arguments of one optimizer as variables.

    The steps cast them to the type of the weights, which gives the bits that constants have in Keras. This replaces
    methods of the optimizer: a subclass would be named in the files of the models, and Keras alone could not load them.

    Parameters
    ----------
    optimizer : keras.optimizers.Adam
        The optimizer, before its first step.
    """

    def __init__(self, optimizer: keras.optimizers.Adam) -> None:
        self._optimizer: Any = optimizer
        self._variables: dict[str, tf.Variable] = {}
        # Of 1 - beta the bits in double precision count, too.
        for name in (*_NUMBERS, *_OPTIONAL, "rest_1", "rest_2"):
            dtype = tf.float32 if name in _SINGLE else tf.float64
            self._variables[name] = tf.Variable(0.0, dtype=dtype, trainable=False, name=name)
        self._assign()
        self._optimizer.update_step = self._update_step
        self._optimizer._clip_gradients = self._clip_gradients
        self._optimizer._apply_weight_decay = self._apply_weight_decay
        self._optimizer._update_model_variables_moving_average = self._update_average

    def set(self, arguments: Mapping[str, Any]) -> None:
        """Set the arguments and the learning rate, for an optimizer with the same `traced_arguments`."""
        defaults = keras.optimizers.Adam(**arguments).get_config()
        for name in (*_NUMBERS, *_OPTIONAL):
            setattr(self._optimizer, name, defaults[name])
        self._optimizer.learning_rate = arguments["learning_rate"]
        self._assign()

    def _assign(self) -> None:
        optimizer = self._optimizer
        for name in (*_NUMBERS, *_OPTIONAL):
            self._variables[name].assign(getattr(optimizer, name) or 0.0)
        self._variables["rest_1"].assign(1 - optimizer.beta_1)
        self._variables["rest_2"].assign(1 - optimizer.beta_2)

    def _value(self, name: str, dtype: Any) -> Any:
        return tf.cast(self._variables[name], dtype)

    def _update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Do one step of Adam in Keras' order of operations (https://doi.org/10.48550/arXiv.1412.6980)."""
        optimizer, dtype = self._optimizer, variable.dtype
        # Keras' operations, which take the sparse gradients of a user's embedding as its own Adam does.
        gradient = ops.cast(gradient, dtype)
        step = ops.cast(optimizer.iterations + 1, dtype)
        index = optimizer._get_variable_index(variable)
        mean, square = optimizer._momentums[index], optimizer._velocities[index]
        bias_1 = 1 - ops.power(self._value("beta_1", dtype), step)
        bias_2 = 1 - ops.power(self._value("beta_2", dtype), step)
        rate = ops.cast(learning_rate, dtype) * ops.sqrt(bias_2) / bias_1
        optimizer.assign_add(mean, ops.subtract(gradient, mean) * self._value("rest_1", dtype))
        optimizer.assign_add(square, ops.subtract(ops.square(gradient), square) * self._value("rest_2", dtype))
        if optimizer.amsgrad:
            largest = optimizer._velocity_hats[index]
            optimizer.assign(largest, ops.maximum(largest, square))
            square = largest
        change = ops.multiply(mean, rate) / (ops.sqrt(square) + self._value("epsilon", dtype))
        optimizer.assign_sub(variable, change)

    def _clip_gradients(self, gradients: list[Any]) -> list[Any]:
        optimizer = self._optimizer
        # Networks of a user's own may have weights of several types.
        if optimizer.clipnorm:
            return [tf.clip_by_norm(each, self._value("clipnorm", each.dtype)) for each in gradients]
        if optimizer.global_clipnorm:
            norm = ops.sqrt(ops.sum(ops.stack([ops.sum(ops.square(each)) for each in gradients])))
            largest = self._value("global_clipnorm", norm.dtype)
            # The difference lets a norm that is not finite make all gradients NaN.
            factor = largest * ops.minimum(1.0 / norm, 1.0 / largest) + (norm - norm)
            return [each * factor for each in gradients]
        if optimizer.clipvalue:
            values = [self._value("clipvalue", each.dtype) for each in gradients]
            return [ops.clip(each, -value, value) for each, value in zip(gradients, values, strict=True)]
        return gradients

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        if self._optimizer.weight_decay is None:
            return
        for variable in variables:
            if self._optimizer._use_weight_decay(variable):
                decay = self._value("weight_decay", variable.dtype)
                rate = tf.cast(self._optimizer.learning_rate, variable.dtype)
                variable.assign_sub(variable * decay * rate)

    def _update_average(self, variables: list[Any]) -> None:
        """Move the average of the weights; it begins with those after the first step, as in Keras."""
        optimizer = self._optimizer
        is_later = ops.not_equal(optimizer.iterations, 0)
        # Once for a type, not for each weight: the steps of a small network are mostly operations like these.
        shares: dict[Any, tuple[Any, Any]] = {}
        for variable, average in zip(variables, optimizer._model_variables_moving_average, strict=True):
            if average is None:  # Keras averages no weight that takes its gradient as its value.
                continue
            dtype = variable.dtype
            if dtype not in shares:
                momentum = ops.cast(is_later, dtype) * self._value("ema_momentum", dtype)
                shares[dtype] = momentum, 1 - momentum
            old, new = shares[dtype]
            average.assign(old * tf.convert_to_tensor(average) + new * tf.convert_to_tensor(variable))


def traced_arguments(arguments: Mapping[str, Any]) -> dict[str, object]:
    """Return what of the arguments of Adam decides the traced computation: all but the values of its variables."""
    config: dict[str, object] = keras.optimizers.Adam(**arguments).get_config()
    # Keras counts up the names of optimizers.
    del config["learning_rate"], config["name"]
    for name in _NUMBERS:
        del config[name]
    return config | {name: config[name] is not None for name in _OPTIONAL}
