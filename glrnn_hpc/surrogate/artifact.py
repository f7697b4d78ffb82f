"""The files of a trained model: write them so that they are whole, read them without trusting them."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from glrnn_hpc import layout
from glrnn_hpc.config import RUN_KEYS, RunConfig, dump_yaml, load_yaml, parse
from glrnn_hpc.errors import ModelError, RecordError
from glrnn_hpc.models.lstm import rnn_model

_SHAPES = ("num_input_features", "num_params", "num_labels")


def save_description(folder: layout.RunFolder, config: dict[str, Any], train_stats: dict[str, Any]) -> None:
    """Write `config.yaml` and `train_stats.json`."""
    layout.write_text(folder.config, dump_yaml(config))
    layout.write_json(folder.train_stats, {key: plain(value) for key, value in train_stats.items()})


def load_description(folder: layout.RunFolder) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read `config.yaml`, with defaults where it has no value, and `train_stats.json` as plain dicts.

    Raises
    ------
    ModelError
        If one of them is missing or broken.
    ConfigError
        If a key of the configuration is unknown or a value not allowed.
    """
    for path in (folder.config, folder.train_stats):
        if not path.exists():
            has = ", ".join(sorted(item.name for item in folder.root.iterdir())) if folder.root.is_dir() else None
            state = f"it has {has or 'nothing'}" if folder.root.is_dir() else "there is no such folder"
            wanted = (
                f"{folder.config.name}, {folder.train_stats.name} and {layout.MODEL_WHOLE} or {layout.MODEL_WEIGHTS}"
            )
            raise ModelError(
                f"{folder.root}: is no folder of a trained model: {wanted} are needed, or of a model of GrainLearning "
                f"{layout.GRAINLEARNING_STATS}, one of {', '.join(layout.GRAINLEARNING_CONFIGS)} and one of "
                f"{', '.join(layout.GRAINLEARNING_MODELS)}; {state}."
            )
    try:
        stats: dict[str, Any] = layout.read_json(folder.train_stats)
    except RecordError as error:
        raise ModelError(str(error)) from error
    check_stats(folder.train_stats, stats)
    return parse(RunConfig, without_wandb(load_yaml(folder.config)), str(folder.config)).as_dict(), stats


def save_model(model: keras.Model, path: Path) -> None:
    """Write a whole model or its weights, by the name of `path`; an older file stays until the new one is whole."""
    with layout.replacing(path) as partial:
        if path.name == layout.MODEL_WEIGHTS:
            model.save_weights(partial)
        else:
            model.save(partial)


def load_model(path: Path, config: dict[str, Any], train_stats: dict[str, Any]) -> keras.Model:
    """Read a whole model, or build it from its description and read its weights.

    Raises
    ------
    ModelError
        If the file is broken or does not fit the description.
    """
    try:
        if path.name == layout.MODEL_WEIGHTS:
            model = rnn_model(train_stats, **config)
            with warnings.catch_warnings():
                # Keras warns of its own attributes before it names the layer that does not fit.
                warnings.simplefilter("ignore")
                model.load_weights(path)
        else:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        # Keras shows the numbers of a weight that does not fit, over many lines, after both shapes.
        reason = " ".join(str(error).partition("Target variable:")[0].split())
        raise ModelError(f"{path}: cannot be loaded as the model of its folder: {reason}") from error
    _check_shapes(path, model, config, train_stats)
    return model


def find_model(folder: Path) -> Path:
    """Return the model file of a folder, the whole model first.

    Raises
    ------
    ModelError
        If there is none.
    """
    for name in (layout.MODEL_WHOLE, layout.MODEL_WEIGHTS):
        if (folder / name).exists():
            return folder / name
    raise ModelError(f"{folder}: holds neither {layout.MODEL_WHOLE} nor {layout.MODEL_WEIGHTS}.")


def check_stats(path: Path, stats: Any) -> None:
    """Refuse statistics that do not tell the shapes of the network.

    Raises
    ------
    ModelError
        If one of them is missing or no whole number from 1.
    """
    if not isinstance(stats, dict):
        raise ModelError(f"{path}: is broken: a mapping is needed, this is a {type(stats).__name__}.")
    for name in _SHAPES:
        value = stats.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{path}: is broken: {name} must be a whole number from 1, it is {value!r}.")


def _check_shapes(path: Path, model: keras.Model, config: Mapping[str, Any], stats: Mapping[str, Any]) -> None:
    """Refuse a model that was not made for its description; a model of the user's own may leave sizes open."""
    described = {"inputs": (config["window_size"], stats["num_input_features"]), "params": (stats["num_params"],)}
    for tensor in model.inputs:
        shape, expected = tuple(tensor.shape[1:]), described.get(tensor.name, ())
        if any(size not in (None, wanted) for size, wanted in zip(shape, expected, strict=False)):
            raise ModelError(
                f"{path}: takes {tensor.name} of shape {shape}, but its folder describes {expected} "
                "(window_size in config.yaml, num_input_features and num_params in train_stats.json)."
            )


def without_wandb(config: Mapping[str, Any]) -> dict[str, Any]:
    """Unpack the form in which W&B writes the configuration of a run: each value in a mapping of its own."""
    if "_wandb" not in config and "wandb_version" not in config:
        return dict(config)
    packed = {key: item for key, item in config.items() if key not in ("_wandb", "wandb_version")}
    values = {
        key: item["value"] if isinstance(item, Mapping) and "value" in item else item for key, item in packed.items()
    }
    if "preprocessor" not in values:
        return values
    # A sweep with a preprocessor of the user's own: the run also shows that one's keys.
    return {key: value for key, value in values.items() if key in RUN_KEYS}


def plain(value: Any) -> Any:
    """Return lists and numbers of Python for those of NumPy."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
