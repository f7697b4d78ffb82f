"""Registry of networks: the built-in ones by name, a user's own function by `module:function`.

A network is one function. It takes `input_shapes` (a mapping with `num_input_features`, `num_params`, `num_labels`),
may take `window_size` and `seed`, and returns a `keras.Model` from ``{'inputs', 'params'}`` to the labels. Its other
parameters are its keys in a configuration: their names, types and defaults are those of the function.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import BeforeValidator, ConfigDict, create_model

from glrnn_hpc.config import RUN_KEYS, RunConfig, did_you_mean, not_a_bool, parse, unknown_key
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.keras_import import import_keras
from glrnn_hpc.models.shapes import shapes_of
from glrnn_hpc.references import import_reference

if TYPE_CHECKING:
    import keras

#: The key of a configuration that names a network.
KEY = "network"

#: The network of a configuration without that key.
DEFAULT = "lstm"

#: References, so that a name is known without Keras.
BUILT_IN: Mapping[str, str] = MappingProxyType(
    {"lstm": "glrnn_hpc.models.lstm:lstm", "gru": "glrnn_hpc.models.gru:gru"}
)

#: Keys of every configuration that only some networks take.
_KEYS_OF_BUILT_IN = frozenset({"lstm_units", "dense_units"})

#: Parameters of a function that are no keys of the network.
_GIVEN = ("input_shapes", "window_size", "seed")

_EXAMPLE = "my_networks:convolution"

#: A key's type and default, as pydantic takes them.
Field = tuple[Any, Any]


class _ConfigOfOwn(RunConfig):
    """Configuration with keys of a user's network, whose names are free."""

    model_config = ConfigDict(protected_namespaces=())


def is_built_in(name: object) -> bool:
    """Return whether a configuration's value of `network` runs no code of a user's own."""
    return name is None or name in BUILT_IN


def run_config(raw: Mapping[str, Any], where: str = "config", *, directory: str | Path | None = None) -> RunConfig:
    """Validate the configuration of a training, with the keys of its network.

    Parameters
    ----------
    raw : mapping
        The keys.
    where : str
        Key path for the messages.
    directory : path, optional
        Where the module of a user's network lies; by default the current folder.

    Raises
    ------
    ConfigError
        If the network or a key is unknown, or a value is not allowed.
    """
    name, where_name = raw.get(KEY), f"{where}.{KEY}"
    _check_name(name, where_name)
    if is_built_in(name):
        return parse(RunConfig, raw, where)
    own = _own_keys(_import(name, where_name, directory), f"{where_name}: {name}")
    given = dict(raw)
    for key in (_KEYS_OF_BUILT_IN - own.keys()) & raw.keys():
        # One mapping of defaults often serves all networks.
        if given.pop(key) != RunConfig.model_fields[key].default:
            raise ConfigError(f"{where}.{key}: {name} has no such key; its keys: {', '.join(own) or 'none'}.")
    for key in given.keys() - RUN_KEYS - own.keys():
        raise unknown_key(f"{where}.{key}", (RUN_KEYS - _KEYS_OF_BUILT_IN) | own.keys())
    return parse(_class_with(own), given, where)


def recorded_config(raw: Mapping[str, Any], where: str = "config") -> RunConfig:
    """Validate the configuration of a trained model; no code of a user's own runs.

    The keys of a user's network are taken as they are: they were validated before the training.

    Raises
    ------
    ConfigError
        If the network or a key is unknown, or a value is not allowed.
    """
    name = raw.get(KEY)
    _check_name(name, f"{where}.{KEY}")
    if is_built_in(name):
        return parse(RunConfig, raw, where)
    own: dict[str, Field] = {key: (Any, value) for key, value in raw.items() if key not in RUN_KEYS}
    own |= {key: (int, raw[key]) for key in _KEYS_OF_BUILT_IN & raw.keys()}
    return parse(_class_with(own), raw, where)


def run_keys(name: object, where: str = KEY, *, directory: str | Path | None = None) -> frozenset[str]:
    """Return the keys of a configuration with this network; see `run_config`."""
    _check_name(name, where)
    if is_built_in(name):
        return RUN_KEYS
    return (RUN_KEYS - _KEYS_OF_BUILT_IN) | _own_keys(_import(name, where, directory), f"{where}: {name}").keys()


def config_class(name: object, where: str = KEY, *, directory: str | Path | None = None) -> type[RunConfig]:
    """Return the class of a configuration with this network; see `run_config`."""
    _check_name(name, where)
    if is_built_in(name):
        return RunConfig
    return _class_with(_own_keys(_import(name, where, directory), f"{where}: {name}"))


def build_network(config: RunConfig, input_shapes: Mapping[str, Any]) -> keras.Model:
    """Build the network of a configuration, with initial weights.

    Parameters
    ----------
    config : RunConfig
        Names the network and holds its keys.
    input_shapes : mapping
        `num_input_features`, `num_params` and `num_labels`, such as `train_stats` holds them.

    Raises
    ------
    ConfigError
        If the network cannot be imported or returns no Keras model, or a shape is missing.
    """
    import keras

    function = import_network(config.network)
    model = function(shapes_of(input_shapes), **_arguments(function, config))
    if not isinstance(model, keras.Model):
        raise ConfigError(f"{KEY}: {config.network} returned a {type(model).__name__}; a keras.Model is needed.")
    return model


def network_arguments(config: RunConfig, input_shapes: Mapping[str, Any]) -> dict[str, object]:
    """Return what decides the network of a configuration: its name, its shapes and its arguments without the seed."""
    arguments = _arguments(import_network(config.network), config)
    arguments.pop("seed", None)
    return {KEY: config.network or DEFAULT, **shapes_of(input_shapes), **arguments}


def _arguments(function: Callable[..., keras.Model], config: RunConfig) -> dict[str, object]:
    names = list(inspect.signature(function).parameters)[1:]
    return {name: getattr(config, name) for name in names if name in type(config).model_fields}


def import_network(
    name: object, where: str = KEY, *, directory: str | Path | None = None
) -> Callable[..., keras.Model]:
    """Return the function of a network by its name; None means `lstm`.

    Raises
    ------
    ConfigError
        If the name is unknown, or a user's function cannot be imported.
    """
    _check_name(name, where)
    return _import(name or DEFAULT, where, directory)


def _check_name(name: object, where: str) -> None:
    if is_built_in(name) or (isinstance(name, str) and ":" in name):
        return
    raise ConfigError(
        f"{where}: there is no network {name!r};{did_you_mean(name, BUILT_IN)} Known are {', '.join(BUILT_IN)}. "
        f"Name one of your own as module:function, such as {_EXAMPLE}, a function of input_shapes, window_size, seed "
        "and its keys that returns a keras.Model."
    )


def _import(name: object, where: str, directory: str | Path | None) -> Callable[..., keras.Model]:
    reference = BUILT_IN.get(name, name) if isinstance(name, str) else name
    import_keras()  # a user's module would import it too, with what no rank needs
    function = import_reference(reference, where, directory=directory, form="module:function", example=_EXAMPLE)
    if isinstance(function, type) or not callable(function):
        raise ConfigError(f"{where}: {name} is no function; a function that returns a keras.Model is needed.")
    return cast("Callable[..., keras.Model]", function)


@functools.lru_cache(maxsize=16)
def _own_keys(function: Callable[..., keras.Model], where: str) -> Mapping[str, Field]:
    """Return type and default of the keys that only this network has, and of those of the built-in ones it takes."""
    parameters = inspect.signature(function).parameters
    if not parameters or next(iter(parameters)) != _GIVEN[0]:
        raise ConfigError(
            f"{where}: its first parameter must be {_GIVEN[0]}, it takes {', '.join(parameters) or 'none'}."
        )
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(f"{where}: the types of its parameters cannot be read: {error}") from error
    keys: dict[str, Field] = {}
    for name, parameter in parameters.items():
        is_variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if is_variadic or name in _GIVEN or name in RUN_KEYS - _KEYS_OF_BUILT_IN:
            continue
        if name in _KEYS_OF_BUILT_IN:
            field = RunConfig.model_fields[name]
            keys[name] = (field.rebuild_annotation(), field.default)
            continue
        if hasattr(RunConfig, name) or name.startswith("_"):
            raise ConfigError(f"{where}: {name} cannot be the name of a key; choose another one.")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        kind = hints.get(name, Any if default in (None, ...) else type(default))
        keys[name] = (Annotated[kind, BeforeValidator(not_a_bool)] if kind in (int, float) else kind, default)
    return MappingProxyType(keys)


def _class_with(own: Mapping[str, Field]) -> type[RunConfig]:
    """Return the configuration's class with the keys of a user's network, without those that it does not take."""
    left_out: dict[str, Field] = {key: (None, None) for key in _KEYS_OF_BUILT_IN - own.keys()}
    fields: dict[str, Any] = {**left_out, **own}
    return create_model("RunConfig", __base__=_ConfigOfOwn, **fields)
