"""Weights of GrainLearning's network, by the names of its layers, from every file that Keras 2 and 3 write them to."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc.errors import GlrnnError, ModelError

Array = NDArray[Any]

#: Layers in the order of the model; the weights of each by their own names, such as kernel.
Layers = dict[str, dict[str, Array]]

_DENSE = ("kernel", "bias")
_LSTM = ("kernel", "recurrent_kernel", "bias")

#: What decides what the layers compute: where a file says otherwise, the network is not the one that is rebuilt.
_DENSE_SETTINGS = {"use_bias": True}
_LSTM_SETTINGS = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "return_sequences": False,
    "go_backwards": False,
    "stateful": False,
    "time_major": False,
}
_ACTIVATIONS = {"state_h": "tanh", "state_c": "tanh", "dense": "relu", "response": "linear"}

_STATES = ("state_h", "state_c")


def read_weights(path: Path, window_size: int) -> dict[str, list[Array]]:
    """Read the weights of the network that GrainLearning's `rnn_model` makes.

    Parameters
    ----------
    path : path
        An HDF5 file of Keras (whole model or weights, of Keras 2 or 3), or the `saved_model.pb` of a SavedModel folder.
    window_size : int
        Of the configuration; a whole model must agree with it.

    Returns
    -------
    dict
        Of each layer of `models.rnn_model` (state_h, state_c, lstm, dense, response) its weights in Keras' order.

    Raises
    ------
    ModelError
        If the file is broken, or holds another network.
    """
    try:
        if path.name == "saved_model.pb":
            return _ours(path, _from_saved_model(path.parent))
        with h5py.File(path, "r") as file:
            if "layer_names" in file.get("model_weights", file).attrs:
                layers = _from_layers(file.get("model_weights", file))
                names = _names(path, layers)
                if "model_config" in file.attrs:
                    _check_network(path, json.loads(file.attrs["model_config"]), names, window_size)
                return _ours(path, layers)
            return _ours(path, _from_paths(path, file))
    except GlrnnError:
        raise
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: the weights cannot be read: {reason}") from error


def _from_layers(group: Any) -> Layers:
    """Read the form of Keras 2: a group per layer, which says the names of its weights."""
    return {
        name: {_last(weight): group[name][weight][...] for weight in map(_text, group[name].attrs["weight_names"])}
        for name in map(_text, group.attrs["layer_names"])
    }


def _from_paths(path: Path, file: Any) -> Layers:
    """Read the form of Keras 3 (and of Keras 2.12 on for .weights.h5): groups by class, numbered in the model's order.

    Keras 3 notes the layer's own name too. Where it is missing the order tells: state_h is the first Dense.
    """
    if "layers" not in file:
        raise ModelError(f"{path}: is no file of weights of Keras; it holds {', '.join(file) or 'nothing'}.")
    layers: Layers = {}
    for group in sorted(file["layers"].values(), key=lambda group: _number(group.name)):
        weights = group["cell/vars"] if "cell" in group else group["vars"]
        named = group["vars"].attrs.get("name")
        if len(weights):
            kinds = _LSTM if "cell" in group else _DENSE
            name = _text(named) if named is not None else group.name.rpartition("/")[2]
            layers[name] = {kind: weights[str(k)][...] for k, kind in enumerate(kinds)}
    if not set(_STATES) & set(layers):
        dense = [name for name in layers if "recurrent_kernel" not in layers[name]]
        renamed = dict(zip(dense, _STATES, strict=False))
        layers = {renamed.get(name, name): weights for name, weights in layers.items()}
    return layers


def _from_saved_model(folder: Path) -> Layers:
    """Read the checkpoint of a SavedModel, whose object graph names the variables; nothing in it is run."""
    # Here, because it is a part of TensorFlow that nothing else needs.
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    prefix = folder / "variables" / "variables"
    if not prefix.with_suffix(".index").exists():
        raise ModelError(
            f"{folder}: saved_model.pb has no weights without variables/variables.index, which is missing."
        )
    reader = tf.train.load_checkpoint(str(prefix))
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    layers: Layers = {}
    attributes = [item for node in graph.nodes for item in node.attributes]
    for item in sorted(attributes, key=lambda item: _number(item.checkpoint_key.partition("/")[0], "-")):
        # The optimizer's variables and the metrics have names of their own, or lie below `optimizer`.
        if "OPTIMIZER" in item.checkpoint_key or not item.checkpoint_key.startswith(("layer", "variables/")):
            continue
        layer, _, weight = item.full_name.partition("/")
        layers.setdefault(layer, {})[_last(weight)] = reader.get_tensor(item.checkpoint_key)
    return layers


def _names(path: Path, layers: Mapping[str, Mapping[str, Array]]) -> dict[str, str]:
    """Return the name in the file of each layer of ours."""
    weighted = {name: weights for name, weights in layers.items() if weights}
    recurrent = [name for name, weights in weighted.items() if "recurrent_kernel" in weights]
    # By their place, not by their names: Keras numbers through a whole session, so that they may be dense_9, dense_10.
    dense = [name for name in weighted if name not in (*recurrent, *_STATES)]
    if not set(_STATES) <= set(weighted) or len(recurrent) != 1 or len(dense) != 2:
        raise ModelError(
            f"{path}: holds another network than GrainLearning's rnn_model makes, and only that one can be rebuilt: "
            "needed are Dense layers state_h and state_c, one LSTM and two more Dense layers; "
            f"it has {', '.join(weighted) or 'none with weights'}."
        )
    return {"state_h": "state_h", "state_c": "state_c", "lstm": recurrent[0], "dense": dense[0], "response": dense[1]}


def _ours(path: Path, layers: Mapping[str, Mapping[str, Array]]) -> dict[str, list[Array]]:
    weights = {}
    for ours, name in _names(path, layers).items():
        kinds = _LSTM if ours == "lstm" else _DENSE
        if set(layers[name]) != set(kinds):
            raise ModelError(
                f"{path}: {name} has the weights {', '.join(layers[name])}; {', '.join(kinds)} are needed."
            )
        weights[ours] = [np.asarray(layers[name][kind], "float32") for kind in kinds]
        if not all(np.isfinite(values).all() for values in weights[ours]):
            raise ModelError(f"{path}: the weights of {name} are not finite; the model is of no use.")
    return weights


def _check_network(path: Path, description: Mapping[str, Any], names: Mapping[str, str], window_size: int) -> None:
    """Refuse a whole model whose layers have the names of ours but compute something else."""
    layers = {layer["config"]["name"]: layer["config"] for layer in description["config"]["layers"]}
    nodes = {layer["config"]["name"]: layer["inbound_nodes"] for layer in description["config"]["layers"]}
    for ours, name in names.items():
        settings = _LSTM_SETTINGS if ours == "lstm" else {**_DENSE_SETTINGS, "activation": _ACTIVATIONS[ours]}
        for key, value in settings.items():
            if layers[name].get(key, value) != value:
                raise ModelError(
                    f"{path}: {name} has {key}={layers[name][key]!r}; only networks with {value!r} can be rebuilt."
                )
    for name, layer in layers.items():
        shape = list(layer.get("batch_input_shape") or layer.get("batch_shape") or [])
        if len(shape) == 3 and shape[1] not in (None, window_size):
            raise ModelError(f"{path}: {name} takes {shape[1]} steps, but window_size of its folder is {window_size}.")
    inputs = [name for name in _strings(nodes[names["lstm"]]) if name in _STATES]
    if inputs != list(_STATES):
        raise ModelError(f"{path}: the LSTM starts from {', '.join(inputs) or 'nothing'}, not from state_h, state_c.")


def _strings(nested: Any) -> list[str]:
    """Return the strings in nested lists and mappings in their order; the layers that a node is called with."""
    if isinstance(nested, str):
        return [nested]
    if isinstance(nested, Mapping):
        nested = list(nested.values())
    return [text for item in nested for text in _strings(item)] if isinstance(nested, Sequence) else []


def _number(name: str, separator: str = "_") -> int:
    """Return the number at the end of a name; Keras gives the first of a kind none."""
    digits = re.search(rf"{separator}(\d+)$", name)
    return int(digits[1]) if digits else 0


def _last(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
