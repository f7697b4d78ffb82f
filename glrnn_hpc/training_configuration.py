"""Configuration of a single training: what the preprocessor decides, the given keys, then defaults."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from glrnn_hpc.config import (
    RUN_KEYS,
    PreprocessingConfig,
    RunConfig,
    log_defaults,
    warn_of_unknown_key,
    without_always,
)
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.experiments import registry as experiments
from glrnn_hpc.models import registry as networks
from glrnn_hpc.preprocessor.base import Preprocessor

logger = logging.getLogger(__name__)

#: A key of the preprocessor that the training carries out: where the preprocessor lacks it, the training's holds.
_SCALED_HERE = "standardize_inputs"

#: Keys that name code; in an open run of W&B they may be words of the user's own.
REFERENCES = frozenset({networks.KEY, experiments.KEY})

#: Key of GrainLearning's configurations that names another folder.
OUTPUT_DIR = "output_dir"


def full_config(preprocessor: Preprocessor, config: Mapping[str, Any] | None) -> RunConfig:
    """Return the configuration of a training: the preprocessor's own, then the given keys, then defaults.

    Unknown keys are ignored with a warning, as GrainLearning's entry points do.

    Raises
    ------
    ConfigError
        If a value is not allowed, or not the one that the preprocessor was made with.
    """
    given = keys_of_training(preprocessor, config)
    own_keys = set(preprocessor.get_default_config() or {})
    own = getattr(preprocessor, "config", None)
    decided: dict[str, object] = {"raw_data": type(preprocessor).__name__}
    if isinstance(own, PreprocessingConfig):
        decided = own.as_dict()
        if _SCALED_HERE in given and _SCALED_HERE not in own.model_fields_set:
            del decided[_SCALED_HERE]
    for key, value in decided.items():
        # What the preprocessor does with the data is decided there; the training's copy of a key must agree.
        if key in own_keys & set(given) and key != "raw_data" and given[key] != value:
            raise ConfigError(
                f"config.{key}: {given[key]!r} was given, but the preprocessor was made with {value!r}; "
                "give both the same."
            )
        if key not in own_keys and key not in ("raw_data", experiments.KEY) and given.get(key, value) != value:
            logger.warning(
                "config.%s: %r is not used; %s has its own value, %r",
                key,
                given[key],
                type(preprocessor).__name__,
                value,
            )
    _check_experiment(given.get(experiments.KEY), preprocessor)
    full = networks.run_config({**given, **decided})
    if full.ranks_per_trial != 1:
        raise ConfigError(
            f"config.ranks_per_trial: a single run trains on one rank, {full.ranks_per_trial} were asked for; "
            "the trials of a sweep train on several."
        )
    log_defaults(full, {**given, **decided})
    return full


def _check_experiment(given: object, preprocessor: Preprocessor) -> None:
    """Refuse an experiment that is unknown, or is not the one whose data the preprocessor prepares."""
    if given is None:
        return
    experiments.experiment_named(given, f"config.{experiments.KEY}")
    own = getattr(preprocessor, "config", None)
    if isinstance(own, PreprocessingConfig) and given != (own.experiment or experiments.DEFAULT.name):
        raise ConfigError(
            f"config.{experiments.KEY}: {given!r} was given, but the preprocessor was made with "
            f"{own.experiment or experiments.DEFAULT.name!r}; give both the same."
        )


def keys_of_training(preprocessor: Preprocessor, config: Mapping[str, Any] | None) -> dict[str, object]:
    """Warn of unknown keys; leave out those of the preprocessor alone, as one mapping often serves both."""
    # As a dict: to iterate over a wandb.config gives W&B's own part, too.
    given = without_always({key: value for key, value in dict(config or {}).items() if key != OUTPUT_DIR})
    known = known_keys(preprocessor, given)
    for key in given:
        if key not in known:
            warn_of_unknown_key(f"config.{key}", known)
    keys = RUN_KEYS | networks.run_keys(given.get(networks.KEY), f"config.{networks.KEY}")
    return {key: value for key, value in given.items() if key in keys}


def known_keys(preprocessor: Preprocessor, given: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of the training, of the network that is given, and of the preprocessor."""
    of_network = networks.run_keys(given.get(networks.KEY), f"config.{networks.KEY}")
    return RUN_KEYS | of_network | set(preprocessor.get_default_config() or {})


def flat_keys(config: Mapping[str, Any], known: frozenset[str]) -> dict[str, object]:
    """Put the keys of nested groups, as a W&B sweep may have them, among the others."""
    leaves: dict[str, object] = {}
    for key, value in config.items():
        # A group may be called `network` or `experiment`, too.
        is_group = isinstance(value, Mapping) and (key not in known or key in REFERENCES)
        leaves |= flat_keys(value, known) if is_group else {key: value}
    return leaves
