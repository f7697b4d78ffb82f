"""Training of a surrogate: from a preprocessor and a configuration to the files of a run."""

from __future__ import annotations

import logging
import sys
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
    RunConfig,
    TrainingConfig,
)
from glrnn_hpc.data.ranks import Ranks
from glrnn_hpc.errors import ConfigError, OutOfMemory
from glrnn_hpc.gather import DeviceCopies, copies_on_gpu
from glrnn_hpc.models import registry as networks
from glrnn_hpc.models import rnn_model as rnn_model
from glrnn_hpc.preprocessor.base import Preprocessor
from glrnn_hpc.preprocessor.from_arrays import PreprocessorLSTM
from glrnn_hpc.records.train_stats import TrainStats
from glrnn_hpc.surrogate import artifact
from glrnn_hpc.surrogate.callbacks import EpochLog
from glrnn_hpc.surrogate.checkpoint import Checkpoint, load
from glrnn_hpc.surrogate.feed import Feed, FitData
from glrnn_hpc.surrogate.fit import fit
from glrnn_hpc.surrogate.learning_rate import LEARNING_RATE
from glrnn_hpc.surrogate.model_cache import Compiled, ModelCache
from glrnn_hpc.surrogate.raw_loss import raw_loss_of
from glrnn_hpc.surrogate.window_datasets import windowize_single_dataset as windowize_single_dataset
from glrnn_hpc.tracking.hypertuning import HyperTuning as HyperTuning
from glrnn_hpc.tracking.run import tracked_run
from glrnn_hpc.training_configuration import (
    OUTPUT_DIR,
    REFERENCES,
    flat_keys,
    full_config,
    keys_of_training,
    known_keys,
)

logger = logging.getLogger(__name__)

OUTPUTS = "outputs"


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
    verbose: int | str = 0,
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
    verbose : int or str
        What Keras prints, see `keras.Model.fit`.

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
                _check_outputs(model, data.train_stats, "model")
                return earlier, data, Compiled(model, config, group, raw_loss_of(data.train_stats, config.as_dict()))
            compiled = in_use.enter_context(models.fresh(data.train_stats, config))
            _check_outputs(compiled.model, data.train_stats, networks.KEY)
            return earlier, data, compiled

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
            verbose=verbose,
        )
    losses = history.history["val_loss"]
    best = min(range(len(losses)), key=losses.__getitem__)
    # The learning rate of an epoch is no measure of its model.
    metrics = {name: float(values[best]) for name, values in history.history.items() if name != LEARNING_RATE}
    metrics |= {f"test_{name}": value for name, value in test.items()}
    return Outcome(history, len(losses), best + 1, metrics)


def _seed(config: RunConfig, preprocessor: Preprocessor, model: keras.Model | None) -> None:
    """Set the global seeds if code that is not ours may draw from them.

    TensorFlow forgets its kernels then, which costs a warm rank 0.2 s in each trial.
    """
    if model is not None or preprocessor.draws_from_global_seeds or not networks.is_built_in(config.network):
        keras.utils.set_random_seed(config.seed)


def _check_outputs(model: keras.Model, stats: TrainStats, where: str) -> None:
    """Refuse a network of the user's own that gives labels where targets are learnt."""
    size = model.outputs[0].shape[-1] if getattr(model, "outputs", None) else None
    if "num_targets" in stats and size not in (None, stats["num_targets"]):
        learnt = ", ".join(each["label"] for each in stats["targets"]["transforms"])
        raise ConfigError(
            f"{where}: the network gives {size} values; with label_scaling and exact it learns {stats['num_targets']}: "
            f"{learnt}. Give its last layer so many units, num_targets of train_stats."
        )


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
    preprocessor: Preprocessor,
    config: Mapping[str, Any] | None = None,
    model: keras.Model | None = None,
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Train and write the folder `outputs/` in the current directory; an older one is renamed, and the log says how.

    Parameters
    ----------
    preprocessor : Preprocessor
        Gives the data.
    config : mapping, optional
        Keys of the training; an unknown one is ignored with a warning. `output_dir` names another folder.
    model : keras.Model, optional
        A model of the user's own in place of the network of the configuration.
    verbose : int or str
        What is printed, as in `keras.Model.fit`: 0 nothing, 1 a bar, 2 a line for each epoch.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """
    outputs = Path((config or {}).get(OUTPUT_DIR, OUTPUTS))
    run_config = full_config(preprocessor, config)
    _keep_aside(outputs)
    folder = layout.RunFolder(outputs)
    outcome = run_training(
        preprocessor,
        run_config,
        folder,
        model=model,
        callbacks=[EpochLog(run_config.epochs)],
        verbose=verbose,
    )
    _save_arrays(folder, preprocessor)
    _tell_test_loss(outcome, verbose)
    return outcome.history


def train(
    preprocessor: Preprocessor,
    config: Mapping[str, Any] | None = None,
    model: keras.Model | None = None,
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Train and report to W&B, in the run that is open or a new one; offline unless WANDB_MODE says otherwise.

    Parameters
    ----------
    preprocessor, config, model, verbose
        As for `train_without_wandb`.

    Raises
    ------
    ConfigError
        If a value is not allowed.
    """
    outcome = train_tracked(preprocessor, config, model=model, verbose=verbose)
    _tell_test_loss(outcome, verbose)
    return outcome.history


def _tell_test_loss(outcome: Outcome, verbose: int | str) -> None:
    """Print the errors of the test split under the progress that Keras printed."""
    if verbose not in (0, "0"):
        metrics = outcome.metrics
        sys.stdout.write(f"test loss = {metrics['test_loss']}, test mae = {metrics['test_mae']}\n")


def _save_arrays(folder: layout.RunFolder, preprocessor: Preprocessor) -> Path | None:
    """Keep the arrays of a training in memory beside its model, so that the configuration that is read has them."""
    if not isinstance(preprocessor, PreprocessorLSTM):
        return None
    return artifact.save_arrays(folder, preprocessor.given_arrays())


def train_tracked(
    preprocessor: Preprocessor,
    config: Mapping[str, Any] | None = None,
    *,
    model: keras.Model | None = None,
    out: Path | None = None,
    mode: str | None = None,
    verbose: int | str = 0,
) -> Outcome:
    """Train with a W&B run; the files go to `out`, else to the run's own folder, else to `outputs/`."""
    with tracked_run(keys_of_training(preprocessor, config), mode, out) as run:
        decided = flat_keys(run.config, known_keys(preprocessor, {}))
        if not (run.is_ours or run.is_of_agent):
            # The other keys of an open run are the user's own, and so are these common words unless they were given.
            words = REFERENCES - set(config or {})
            decided = {key: value for key, value in decided.items() if key not in words}
            known = known_keys(preprocessor, decided)
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
            preprocessor, run_config, folder, model=model, callbacks=callbacks, copies=copies_on_gpu(), verbose=verbose
        )
        arrays = _save_arrays(folder, preprocessor)
        tests = {name: outcome.metrics[name] for name in ("test_loss", "test_mae")}
        run.log({"epoch": outcome.epochs, **tests}, is_last=True)
        # The best epoch's, whose model is kept.
        run.update_summary({**outcome.metrics, "epochs": outcome.epochs, "best_epoch": outcome.best_epoch})
        files = [folder.config, folder.train_stats, artifact.find_model(folder.root)]
        run.save(*files, *([] if arrays is None else [arrays]))
    return outcome


def _keep_aside(outputs: Path) -> None:
    if aside := layout.keep_aside(outputs):
        logger.warning("the earlier %s/ was renamed to %s/", outputs, aside)
