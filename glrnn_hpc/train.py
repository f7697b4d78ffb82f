"""Training of a surrogate: from a preprocessor and a configuration to the files of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from glrnn_hpc import layout
from glrnn_hpc.batches import Share
from glrnn_hpc.config import (
    RUN_KEYS,
    PreprocessingConfig,
    RunConfig,
    TrainingConfig,
    log_defaults,
    unknown_key,
    without_always,
)
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.errors import ConfigError, OutOfMemory
from glrnn_hpc.experiments import registry as experiments
from glrnn_hpc.gather import DeviceCopies, copies_on_gpu
from glrnn_hpc.models import registry as networks
from glrnn_hpc.preprocessor.base import Preprocessor
from glrnn_hpc.records.train_stats import TrainStats
from glrnn_hpc.surrogate import artifact
from glrnn_hpc.surrogate.callbacks import EpochLog
from glrnn_hpc.surrogate.checkpoint import Checkpoint, load
from glrnn_hpc.surrogate.feed import Feed, FitData
from glrnn_hpc.surrogate.fit import fit
from glrnn_hpc.surrogate.model_cache import Compiled, ModelCache
from glrnn_hpc.tracking.run import tracked_run

logger = logging.getLogger(__name__)

OUTPUTS = "outputs"

#: Keys that name code; in an open run of W&B they may be words of the user's own.
_REFERENCES = frozenset({networks.KEY, experiments.KEY})


#: A key of the preprocessor that the training carries out: where the preprocessor lacks it, the training's holds.
_SCALED_HERE = "standardize_inputs"


@dataclass(frozen=True)
class Outcome:
    """Result of a training.

    Attributes
    ----------
    history : keras.callbacks.History
        Loss and metrics of every epoch.
    epochs, best_epoch : int
        Epochs that were trained, and the one (from 1) whose model was written.
    metrics : dict
        loss, mae, val_loss, val_mae of the best epoch, test_loss and test_mae of its model.
    """

    history: keras.callbacks.History
    epochs: int
    best_epoch: int
    metrics: dict[str, float]


def get_default_config() -> dict[str, Any]:
    """Return the keys of the training and their defaults."""
    shared = ("window_size", "window_step", "pad_length", "standardize_outputs")
    return {**TrainingConfig().as_dict(), **{key: RunConfig.model_fields[key].default for key in shared}}


def run_training(
    preprocessor: Preprocessor,
    config: RunConfig,
    folder: layout.RunFolder,
    *,
    model: keras.Model | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    model_folder: Path | None = None,
    checkpoint: Path | None = None,
    resume_from: Path | None = None,
    group: Ranks | None = None,
    models: ModelCache | None = None,
    copies: DeviceCopies | None = None,
) -> Outcome:
    """Train and write `config.yaml`, `train_stats.json`, `metrics.csv` and the best model. Collective on `group`.

    Parameters
    ----------
    preprocessor : Preprocessor
        Gives the data.
    config : RunConfig
        Network and training.
    folder : RunFolder
        Where the files go.
    model : keras.Model, optional
        A model of the user's own in place of the network of the configuration.
    callbacks : sequence of keras.callbacks.Callback
        Called at the end of an epoch before its files are written. One with `get_state` and `set_state` has its state
        in the checkpoint.
    model_folder : Path, optional
        Where the model and `metrics.csv` go, if not into `folder`.
    checkpoint : Path, optional
        Where the state of the training goes after each epoch, at most every `config.checkpoint_every` seconds.
    resume_from : Path, optional
        A checkpoint to go on from; the outcome is that of a training without interruption.
    group : Ranks, optional
        Those that train together; all of them return the same outcome, rank 0 alone writes.
    models : ModelCache, optional
        Of the same group: models of earlier trainings, to be used again.
    copies : DeviceCopies, optional
        The data on this rank's GPU.

    Raises
    ------
    DataError, WindowError
        If the data cannot be prepared.
    TrainingDiverged
        If the loss is no longer finite.
    OutOfMemory
        If the network or its batches do not fit into memory.
    ModelError
        If the checkpoint is broken, or is of another configuration or model.
    EndedByOtherRank
        If another rank of the group ended the training.
    """
    group = Ranks() if group is None else group
    models = ModelCache(group) if models is None else models
    feed = Feed(config, Share(group.rank, group.size), copies)

    def build() -> tuple[Checkpoint | None, FitData, Compiled]:
        earlier = None if resume_from is None else load(resume_from, config)
        _seed(config, preprocessor, model)  # before the data, which may be shuffled by the global seed
        with _naming_memory_needs(config):
            data = feed.prepare(preprocessor, 0 if earlier is None else earlier.epochs)
        if group.rank == 0:
            _describe(folder, config, data.train_stats)
        _seed(config, preprocessor, model)
        with _naming_memory_needs(config):
            if model is not None:
                return earlier, data, Compiled(model, config, group)
            return earlier, data, in_use.enter_context(models.fresh(data.train_stats, config))

    target = layout.RunFolder(model_folder or folder.root)
    with ExitStack() as in_use, _naming_memory_needs(config):
        earlier, data, compiled = group.agreed(build)
        if earlier is not None and group.rank == 0:
            logger.info("%s: goes on after epoch %d", folder.root, earlier.epochs)
        history, test = fit(
            compiled,
            data,
            config,
            target.metrics,
            target.model(weights_only=config.save_weights_only),
            callbacks,
            checkpoint_file=checkpoint,
            earlier=earlier,
        )
    losses = history.history["val_loss"]
    best = min(range(len(losses)), key=losses.__getitem__)
    metrics = {name: float(values[best]) for name, values in history.history.items()}
    metrics |= {f"test_{name}": value for name, value in test.items()}
    return Outcome(history, len(losses), best + 1, metrics)


def _seed(config: RunConfig, preprocessor: Preprocessor, model: keras.Model | None) -> None:
    """Set the global seeds if code that is not ours may draw from them.

    TensorFlow forgets its kernels then, which costs a warm rank 0.2 s in each trial.
    """
    if model is not None or preprocessor.draws_from_global_seeds or not networks.is_built_in(config.network):
        keras.utils.set_random_seed(config.seed)


def _describe(folder: layout.RunFolder, config: RunConfig, train_stats: TrainStats) -> None:
    try:
        folder.root.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError, PermissionError) as error:
        raise ConfigError(f"{folder.root}: the folder of the training cannot be made: {error}") from error
    artifact.save_description(folder, config, train_stats)


@contextmanager
def _naming_memory_needs(config: RunConfig) -> Iterator[None]:
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        keys = ("network", "lstm_units", "dense_units", "batch_size")
        sizes = ", ".join(f"{key}={value}" for key in keys if (value := getattr(config, key)) is not None)
        raise OutOfMemory(
            f"{sizes} need more memory than there is; make them smaller ({str(error).splitlines()[0]})"
        ) from error


def train_without_wandb(
    preprocessor: Preprocessor, config: Mapping[str, Any] | None = None, model: keras.Model | None = None
) -> keras.callbacks.History:
    """Train and write the folder `outputs/` in the current directory; an older one is renamed, and the log says how.

    Raises
    ------
    ConfigError
        If a key is unknown or a value not allowed.
    """
    outputs = Path(OUTPUTS)
    run_config = full_config(preprocessor, config)
    _keep_aside(outputs)
    callbacks = [EpochLog(run_config.epochs)]
    return run_training(preprocessor, run_config, layout.RunFolder(outputs), model=model, callbacks=callbacks).history


def train(
    preprocessor: Preprocessor, config: Mapping[str, Any] | None = None, model: keras.Model | None = None
) -> keras.callbacks.History:
    """Train and report to W&B, in the run that is open or a new one; offline unless WANDB_MODE says otherwise.

    Raises
    ------
    ConfigError
        If a key is unknown or a value not allowed.
    """
    return train_tracked(preprocessor, config, model=model).history


def train_tracked(
    preprocessor: Preprocessor,
    config: Mapping[str, Any] | None = None,
    *,
    model: keras.Model | None = None,
    out: Path | None = None,
    mode: str | None = None,
) -> Outcome:
    """Train with a W&B run; the files go to `out`, else to the run's own folder, else to `outputs/`."""
    with tracked_run(_keys_of_training(preprocessor, config), mode, out) as run:
        decided = _leaves(run.config, _known_keys(preprocessor, {}))
        if not (run.is_ours or run.is_of_agent):
            # The other keys of an open run are the user's own, and so are these common words unless they were given.
            words = _REFERENCES - set(config or {})
            decided = {key: value for key, value in decided.items() if key not in words}
            known = _known_keys(preprocessor, decided)
            decided = {key: value for key, value in decided.items() if key in known}
        run_config = full_config(preprocessor, decided)
        run.update_config(run_config.as_dict())
        root = out or run.folder or Path(OUTPUTS)
        if out is None and run.folder is None:
            _keep_aside(root)
        folder = layout.RunFolder(root)
        preprocessor.run_dir = str(root)
        logger_of_epochs = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: run.log({"epoch": epoch + 1, **logs})
        )
        callbacks = [logger_of_epochs, EpochLog(run_config.epochs)]
        outcome = run_training(
            preprocessor, run_config, folder, model=model, callbacks=callbacks, copies=copies_on_gpu()
        )
        tests = {name: outcome.metrics[name] for name in ("test_loss", "test_mae")}
        run.log({"epoch": outcome.epochs, **tests}, is_last=True)
        # The best epoch's, whose model is kept.
        run.update_summary({**outcome.metrics, "epochs": outcome.epochs, "best_epoch": outcome.best_epoch})
        run.save(folder.config, folder.train_stats, artifact.find_model(folder.root))
    return outcome


def _keep_aside(outputs: Path) -> None:
    if aside := layout.keep_aside(outputs):
        logger.warning("the earlier %s/ was renamed to %s/", outputs, aside)


def full_config(preprocessor: Preprocessor, config: Mapping[str, Any] | None) -> RunConfig:
    """Return the configuration of a training: the preprocessor's own, then the given keys, then defaults.

    Raises
    ------
    ConfigError
        If a key is unknown or a value not allowed.
    """
    given = _keys_of_training(preprocessor, config)
    own_keys = set(preprocessor.get_default_config() or {})
    own = getattr(preprocessor, "config", None)
    decided: dict[str, Any] = {"raw_data": type(preprocessor).__name__}
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


def _keys_of_training(preprocessor: Preprocessor, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Refuse unknown keys; leave out those of the preprocessor alone, as one mapping often serves both."""
    # As a dict: to iterate over a wandb.config gives W&B's own part, too.
    given = without_always(dict(config or {}))
    known = _known_keys(preprocessor, given)
    for key in given:
        if key not in known:
            raise unknown_key(f"config.{key}", known)
    keys = RUN_KEYS | networks.run_keys(given.get(networks.KEY), f"config.{networks.KEY}")
    return {key: value for key, value in given.items() if key in keys}


def _known_keys(preprocessor: Preprocessor, given: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys of the training, of the network that is given, and of the preprocessor."""
    of_network = networks.run_keys(given.get(networks.KEY), f"config.{networks.KEY}")
    return RUN_KEYS | of_network | set(preprocessor.get_default_config() or {})


def _leaves(config: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Put the keys of nested groups, as a W&B sweep may have them, among the others."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        # A group may be called `network` or `experiment`, too.
        is_group = isinstance(value, Mapping) and (key not in known or key in _REFERENCES)
        leaves |= _leaves(value, known) if is_group else {key: value}
    return leaves
