"""Files of a trained model: written so that they are whole, checked when they are read."""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.config import RUN_KEYS, RunConfig, dump_yaml, load_yaml
from glrnn_hpc.errors import ConfigError, GlrnnError, MissingModelFile, ModelError
from glrnn_hpc.models.registry import KEY as NETWORK
from glrnn_hpc.models.registry import build_network, import_network, is_built_in, recorded_config
from glrnn_hpc.records.train_stats import TrainStats, read_train_stats, write_train_stats

logger = logging.getLogger(__name__)

Array = NDArray[Any]


def save_description(folder: layout.RunFolder, config: RunConfig, train_stats: TrainStats) -> None:
    """Write `config.yaml` and `train_stats.json`."""
    layout.write_text(folder.config, dump_yaml(config.as_dict()))
    write_train_stats(folder.train_stats, train_stats)


def load_description(folder: layout.RunFolder) -> tuple[RunConfig, TrainStats]:
    """Read `config.yaml`, with defaults where it has no value, and `train_stats.json`; no code of a user's own runs.

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
            raise MissingModelFile(
                f"{folder.root}: is no folder of a trained model: {wanted} are needed, or of a model of GrainLearning "
                f"{layout.GRAINLEARNING_STATS}, one of {', '.join(layout.GRAINLEARNING_CONFIGS)} and one of "
                f"{', '.join(layout.GRAINLEARNING_MODELS)}; {state}."
            )
    stats = read_train_stats(folder.train_stats)
    return recorded_config(without_wandb(load_yaml(folder.config)), str(folder.config)), stats


def save_arrays(folder: layout.RunFolder, arrays: Mapping[str, Array]) -> Path:
    """Write the arrays that a preprocessor was given in memory to `arrays.npz`, and return the file."""
    with layout.replacing(folder.arrays) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)
    return folder.arrays


def load_arrays(folder: layout.RunFolder) -> dict[str, Array]:
    """Read the arrays that a preprocessor was given in memory; none where the folder has none.

    Raises
    ------
    ModelError
        If the file is broken.
    """
    if not folder.arrays.exists():
        return {}
    try:
        with np.load(folder.arrays, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{folder.arrays}: the arrays of the training cannot be read: {error}") from error


def save_model(model: keras.Model, path: Path) -> None:
    """Write a whole model or its weights, by the name of `path`; an older file stays until the new one is whole."""
    with layout.replacing(path) as partial:
        if path.name == layout.MODEL_WEIGHTS:
            model.save_weights(partial)
        else:
            model.save(partial)


def load_model(path: Path, config: RunConfig, train_stats: TrainStats, *, may_run_own_code: bool = True) -> keras.Model:
    """Read a whole model, or build it from its description and read its weights.

    Parameters
    ----------
    path : Path
        The file.
    config : RunConfig
        Names the network. A user's own is imported: its weights need it, and a whole model may have layers of its own.
    train_stats : TrainStats
        Shapes of the network.
    may_run_own_code : bool
        Whether the files are the user's own, so that they may name code to be imported.

    Raises
    ------
    ModelError
        If the file is broken or does not fit the description, or its network may not be imported.
    ConfigError
        If the network cannot be imported.
    """
    is_weights = path.name == layout.MODEL_WEIGHTS
    if not is_built_in(config.network):
        if is_weights and not may_run_own_code:
            raise ModelError(
                f"{path}: needs the network {config.network}, but code that a downloaded file "
                f"names is not run; if it is yours, give {path.parent} as the model's folder."
            )
        if may_run_own_code:
            _import_own_network(config, is_needed=is_weights)
    try:
        if is_weights:
            model = build_network(config, train_stats)
            with warnings.catch_warnings():
                # Keras warns of its own attributes before it names the layer that does not fit.
                warnings.simplefilter("ignore")
                model.load_weights(path)
        else:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except GlrnnError:
        raise
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        # Keras shows the numbers of a weight that does not fit, over many lines, after both shapes.
        reason = " ".join(str(error).partition("Target variable:")[0].split())
        raise ModelError(f"{path}: cannot be loaded as the model of its folder: {reason}") from error
    _check_shapes(path, model, config, train_stats)
    return model


def _import_own_network(config: RunConfig, *, is_needed: bool) -> None:
    try:
        import_network(config.network)
    except ConfigError as error:
        if is_needed:
            raise
        logger.info("the model is loaded without the code of its network: %s", error)


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
    raise MissingModelFile(f"{folder}: holds neither {layout.MODEL_WHOLE} nor {layout.MODEL_WEIGHTS}.")


def _check_shapes(path: Path, model: keras.Model, config: RunConfig, stats: TrainStats) -> None:
    """Refuse a model that was not made for its description; a model of the user's own may leave sizes open."""
    described = {"inputs": (config.window_size, stats["num_input_features"]), "params": (stats["num_params"],)}
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
    return {key: value for key, value in values.items() if key in RUN_KEYS or not is_built_in(values.get(NETWORK))}
