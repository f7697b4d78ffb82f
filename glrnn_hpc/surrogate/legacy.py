"""Models that GrainLearning trained: their files, read under our names."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from glrnn_hpc import layout
from glrnn_hpc.config import RUN_KEYS, RunConfig, load_yaml, log_defaults, parse, without_always
from glrnn_hpc.data.unpickle import load_npy
from glrnn_hpc.errors import DataError, MissingModelFile, ModelError
from glrnn_hpc.experiments.triaxial import TRIAXIAL
from glrnn_hpc.layout import GRAINLEARNING_CONFIGS as CONFIGS
from glrnn_hpc.layout import GRAINLEARNING_MODELS as MODELS
from glrnn_hpc.layout import GRAINLEARNING_STATS as STATS
from glrnn_hpc.models.registry import KEY as NETWORK
from glrnn_hpc.models.registry import build_network
from glrnn_hpc.preprocessor.splits import scaling_of
from glrnn_hpc.records.train_stats import checked_train_stats, plain
from glrnn_hpc.surrogate import artifact
from glrnn_hpc.surrogate.keras_weights import read_weights

logger = logging.getLogger(__name__)

#: Our names of the shapes, and those of GrainLearning's older files.
_SHAPES = {"num_input_features": "num_load_features", "num_params": "num_contact_params"}

#: What GrainLearning's PreprocessorLSTM is given in place of a file.
_ARRAYS = ("input_data", "param_data", "output_data")
_NO_FILE = "arrays in memory"

#: Its network is always the LSTM.
_KEYS = RUN_KEYS - {NETWORK}

_DEFAULT_WINDOW = RunConfig.model_fields["window_size"].default


def run_folder(path: Path) -> Path:
    """Return where the files of a trained model are: `path`, or `files/` in it if that is the folder of a W&B run."""
    names = (layout.RunFolder(path).train_stats.name, STATS)
    if not any((path / name).exists() for name in names) and any((path / "files" / name).exists() for name in names):
        return path / "files"
    return path


def is_legacy(folder: Path) -> bool:
    """Return whether a folder holds a model of GrainLearning, or parts of one, and none of ours."""
    if layout.RunFolder(folder).train_stats.exists():
        return False
    return any((folder / name).exists() for name in (STATS, *CONFIGS[1:], *MODELS))


def load(folder: Path) -> tuple[keras.Model, dict[str, Any], dict[str, Any]]:
    """Load a model that GrainLearning trained, rebuilt as ours with its weights.

    Parameters
    ----------
    folder : path
        Holds one of `layout.GRAINLEARNING_CONFIGS`, the statistics, and one of `layout.GRAINLEARNING_MODELS`.

    Returns
    -------
    tuple
        The Keras model, `train_stats` and `config` with our names and defaults, both plain dicts.

    Raises
    ------
    ModelError
        If a file is missing or broken, or the network is not the one of GrainLearning's `rnn_model`.
    ConfigError
        If a value of the configuration is not allowed.
    """
    config_file, stats_file, model_file = (_find(folder, names) for names in (CONFIGS, (STATS,), MODELS))
    try:
        known = _known(config_file)
        stats = _train_stats(stats_file)
    except DataError as error:
        raise ModelError(str(error)) from error
    weights = read_weights(model_file, known.get("window_size", _DEFAULT_WINDOW))
    # Where the configuration left the units to a default, that may have been another one then.
    known = {"lstm_units": len(weights["lstm"][1]), "dense_units": len(weights["dense"][1]), **known}
    parsed = parse(RunConfig, known, str(config_file))
    log_defaults(parsed, known, str(config_file))
    config = parsed.as_dict()
    if config["standardize_outputs"]:
        _check_scaling(stats_file, stats)
    stats |= _column_names(stats, config)
    model = build_network(parsed, stats)
    for name, values in weights.items():
        layer = model.get_layer(name)
        expected = [tuple(variable.shape) for variable in layer.weights]
        shapes = [value.shape for value in values]
        if shapes != expected:
            raise ModelError(
                f"{model_file}: the weights of {name} have the shapes {shapes}, but {config_file.name} and "
                f"{stats_file.name} describe {expected}."
            )
        layer.set_weights(values)
    return model, stats, config


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise MissingModelFile(
        f"{folder}: this folder of a model of GrainLearning is incomplete: there is no {' or '.join(names)}; needed "
        f"are one of {', '.join(CONFIGS)}, {STATS}, and one of {', '.join(MODELS)}; "
        f"it has {', '.join(sorted(path.name for path in folder.iterdir()))}."
    )


def _known(path: Path) -> dict[str, Any]:
    """Return the keys of GrainLearning's configuration that are ours too."""
    given = _mapping(path) if path.suffix == ".npy" else artifact.without_wandb(load_yaml(path))
    given = without_always(given, str(path))
    known = {key: value for key, value in given.items() if key in _KEYS}
    ignored = [str(key) for key in given if key not in _KEYS and key not in _ARRAYS]
    if ignored:
        logger.info("%s: these keys mean nothing here and are ignored: %s", path, ", ".join(ignored))
    if "raw_data" not in known:
        # Only PreprocessorLSTM does without a file, and it pads by a window always.
        known["raw_data"] = _NO_FILE
        known.setdefault("pad_length", known.get("window_size", _DEFAULT_WINDOW))
    return known


def _train_stats(path: Path) -> dict[str, Any]:
    stats = _mapping(path)
    for name, old in _SHAPES.items():
        if name not in stats and old in stats:
            stats[name] = stats.pop(old)
    return dict(checked_train_stats(stats, path))


def _check_scaling(path: Path, stats: Mapping[str, Any]) -> None:
    for name in ("mean", "std"):
        if np.shape(stats.get(name, ())) != (stats["num_labels"],):
            raise ModelError(
                f"{path}: {name} of {stats['num_labels']} labels is needed, because the model was trained with "
                f"standardize_outputs; it holds {stats.get(name)!r}."
            )
    scaling_of(stats)


def _column_names(stats: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of the columns where their numbers are those of GrainLearning's data; its files have none."""
    appended = TRIAXIAL.appended_parameters(parse(RunConfig, config))
    params = [*TRIAXIAL.column_names("contact_params"), *(parameter.name for parameter in appended)]
    inputs = list(TRIAXIAL.column_names("inputs"))
    names = {"param": params, "label": list(TRIAXIAL.column_names("outputs"))}
    if config["raw_data"] == _NO_FILE or any(len(names[kind]) != stats[f"num_{kind}s"] for kind in ("param", "label")):
        return {}
    if stats["num_input_features"] == len(inputs):
        names["input"] = inputs
    elif stats["num_input_features"] == 1 and config["experiment_type"] == "drained":
        # Its parser took the axial strain alone for drained tests: the lateral ones are free there.
        names["input"] = [TRIAXIAL.control]
    return {f"{kind}_names": columns for kind, columns in names.items()}


def _mapping(path: Path) -> dict[str, Any]:
    """Return the mapping that a .npy file holds in an array of no dimension, with plain values."""
    content = load_npy(path)
    mapping = content.item() if content.shape == () else content
    if not isinstance(mapping, dict):
        raise ModelError(f"{path}: a mapping is needed, it holds a {type(mapping).__name__}.")
    return {key: plain(value) for key, value in mapping.items()}
