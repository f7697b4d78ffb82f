"""Structure of a model: what decides its computation, without its weights and the names that Keras counts up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import keras

#: Entries of a layer's configuration that hold references to layers, each a list of name, node and tensor.
_REFERENCES = ("input_layers", "output_layers")


def structure_of(model: keras.Model) -> str | None:
    """Return a text that two models share only if they compute the same with the same weights.

    It holds the configuration of every layer with its dtype, the shapes of the inputs and the connections. Initializers
    are left out, because they decide weights alone. Layers are numbered, because Keras counts up the names of layers
    that have none of their own.

    Parameters
    ----------
    model : keras.Model
        A built model.

    Returns
    -------
    str or None
        None if a layer does not tell its configuration.
    """
    try:
        config = model.get_config()
        shapes = [(tensor.name, str(tensor.shape), str(tensor.dtype)) for tensor in model.inputs]
        content = _numbered({"class": _class_of(model), "config": config, "inputs": shapes}, {})
        return json.dumps(content, sort_keys=True, default=_refuse)
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return None


def _class_of(model: keras.Model) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _numbered(value: Any, numbers: dict[str, int], key: str = "") -> Any:
    """Return a configuration with numbers for the names of layers, without initializers."""
    if isinstance(value, Mapping):
        names = _names_in(value)
        return {
            str(name): _number(item, numbers) if name in names else _numbered(item, numbers, str(name))
            for name, item in value.items()
            if not str(name).endswith("_initializer")
        }
    if isinstance(value, list | tuple):
        if key == "keras_history" or (key in _REFERENCES and value and isinstance(value[0], str)):
            return [_number(value[0], numbers), *value[1:]]
        return [_numbered(item, numbers, key if key in _REFERENCES else "") for item in value]
    return value


def _names_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the entries of a configuration that hold the name of a layer.

    Other objects have names too, such as the policy of a dtype, which decide something.
    """
    is_layer = "trainable" in config or "batch_shape" in config or "inbound_nodes" in config
    return ("name",) if is_layer and isinstance(config.get("name"), str) else ()


def _number(name: str, numbers: dict[str, int]) -> int:
    return numbers.setdefault(name, len(numbers))


def _refuse(value: Any) -> None:
    raise TypeError(f"{type(value).__name__} has no form in JSON")
