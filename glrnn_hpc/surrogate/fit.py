"""Training loop: fit a compiled model to its data, with its files, and evaluate it on the test split.

It knows neither search nor tracking; those come as callbacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from glrnn_hpc.config import RunConfig
from glrnn_hpc.errors import TrainingDiverged
from glrnn_hpc.surrogate.callbacks import (
    BestModel,
    CheckpointWriter,
    DivergenceStop,
    MetricsLog,
    ResumableEarlyStopping,
)
from glrnn_hpc.surrogate.checkpoint import Checkpoint, restore
from glrnn_hpc.surrogate.feed import FitData
from glrnn_hpc.surrogate.learning_rate import LearningRateSchedule
from glrnn_hpc.surrogate.model_cache import Compiled
from glrnn_hpc.surrogate.moving_average import AveragedWeights


def fit(
    compiled: Compiled,
    data: FitData,
    config: RunConfig,
    metrics_file: Path,
    model_file: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    *,
    checkpoint_file: Path | None = None,
    earlier: Checkpoint | None = None,
    verbose: int | str = 0,
) -> tuple[keras.callbacks.History, dict[str, float]]:
    """Train until the epochs are done or `val_loss` has not improved for `patience` epochs. Collective on its group.

    Parameters
    ----------
    compiled : Compiled
        The model, trained in place; at the end it has its best weights. Rank 0 of its group alone writes, and decides
        when to stop.
    data : FitData
        Batches, beginning with the first epoch that is to be trained.
    config : RunConfig
        How to train.
    metrics_file, model_file : Path
        Where the metrics and the best model go; with a `checkpoint_file`, which holds its weights, the model is written
        at the end only.
    callbacks : sequence of keras.callbacks.Callback
        Called at the end of an epoch before anything is written; what they raise ends the training.
    checkpoint_file : Path, optional
        Where the state goes after each epoch, at most every `config.checkpoint_every` seconds.
    earlier : Checkpoint, optional
        Where to go on from.
    verbose : int or str
        What Keras prints, see `keras.Model.fit`.

    Returns
    -------
    tuple
        The history of all epochs, those before the checkpoint too, and `loss` and `mae` of the test split, and
        `loss_raw` of a network that learns targets.

    Raises
    ------
    TrainingDiverged
        If the loss is no longer finite; the best model before that is kept.
    ModelError
        If the checkpoint is of another model.
    EndedByOtherRank
        If another rank of the group ended the training.
    """
    model, is_root = compiled.model, compiled.group.rank == 0
    stopping = ResumableEarlyStopping(config.patience, earlier)
    best = BestModel(model_file, stopping, is_written_at_once=checkpoint_file is None)
    metrics = MetricsLog(metrics_file, earlier)
    writers: list[keras.callbacks.Callback] = [metrics, best] if is_root else []
    if config.keeps_average and config.ema_overwrite_frequency is None:
        # After those that are to see the validated weights, and before the checkpoint.
        writers.append(AveragedWeights())
    if checkpoint_file is not None and is_root:
        writers.append(CheckpointWriter(checkpoint_file, config, stopping, callbacks, earlier))
    schedule = _schedule(config, earlier)
    broadcast, failures = _coordination(compiled)
    with _batches_made_by(data.make_on_device, model), failures:
        first_epoch, last_epoch = 0, config.epochs
        if earlier is not None:
            restore(model, earlier, callbacks if is_root else None)
            if is_root:
                # What the owner of the checkpoint had written stays with its generation; callbacks read the new file.
                metrics.write()
            first_epoch = earlier.epochs
            last_epoch = earlier.epochs if earlier.has_ended else config.epochs
        try:
            history = model.fit(
                data.train,
                initial_epoch=first_epoch,
                epochs=last_epoch,
                steps_per_epoch=data.n_batches,
                validation_data=data.val,
                # Early stopping comes before the others, which can tell that an epoch was the last one.
                callbacks=[*schedule, DivergenceStop(config.learning_rate), stopping, *callbacks, *writers, *broadcast],
                shuffle=False,
                verbose=verbose,
            )
        except TrainingDiverged:
            if is_root:
                best.write()
            raise
        test = model.evaluate(data.test, verbose=0, return_dict=True, callbacks=[*callbacks, *broadcast])
    if earlier is not None:
        _prepend(history, earlier)
    return history, {name: float(value) for name, value in test.items()}


def _schedule(config: RunConfig, earlier: Checkpoint | None) -> list[keras.callbacks.Callback]:
    """Return the callback that changes the learning rate, if it changes."""
    if config.learning_rate_schedule == "constant":
        return []
    return [LearningRateSchedule(config, [row["val_loss"] for row in earlier.history] if earlier else [])]


def _coordination(
    compiled: Compiled,
) -> tuple[list[keras.callbacks.Callback], contextlib.AbstractContextManager[None]]:
    """Return what the ranks of a group need: the last callback, and the block that shares the failures of a rank."""
    if compiled.data_parallel is None:
        return [], contextlib.nullcontext()
    return [compiled.data_parallel.callback()], compiled.data_parallel.sharing_failures()


@contextlib.contextmanager
def _batches_made_by(make: Callable[..., Any] | None, model: keras.Model) -> Iterator[None]:
    """Let the steps of a model make their batches by `make`, if there is one, inside the block."""
    if make is None:
        yield
        return
    model.make_train_function()
    model.make_test_function()
    steps = model.train_function, model.test_function

    def with_batches_made(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda iterator: step(iter([make(*next(iterator))]))

    # Around the traced steps, not in them: a model of the cache is trained on other data next.
    model.train_function, model.test_function = map(with_batches_made, steps)
    try:
        yield
    finally:
        model.train_function, model.test_function = steps


def _prepend(history: keras.callbacks.History, earlier: Checkpoint) -> None:
    """Put the epochs of the checkpoint before those of a history."""
    names = list(earlier.history[0])
    history.epoch = [*range(earlier.epochs), *history.epoch]
    history.history = {name: [row[name] for row in earlier.history] + history.history.get(name, []) for name in names}
