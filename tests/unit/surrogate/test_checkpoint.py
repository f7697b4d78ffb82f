from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from glrnn_hpc import layout
from glrnn_hpc.config import RunConfig, parse
from glrnn_hpc.errors import ModelError
from glrnn_hpc.preprocessor.base import Preprocessor
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.surrogate import checkpoint as checkpoints
from glrnn_hpc.surrogate.artifact import find_model, load_model
from glrnn_hpc.train import Outcome, run_training

Config = Callable[..., dict[str, Any]]


class Interrupt(keras.callbacks.Callback):
    """Raise after so many batches of an epoch, as a rank does that must stop."""

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self._at = epoch, batch
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self._epoch, batch) == self._at:
            raise KeyboardInterrupt


class Counter(keras.callbacks.Callback):
    """Count epochs across interruptions."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(epoch)

    def get_state(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def set_state(self, state: dict[str, Any]) -> None:
        self.epochs = list(state["epochs"])


def train(config: RunConfig, folder: Path, **other: Any) -> Outcome:
    preprocessor = other.pop("preprocessor", None) or PreprocessorTriaxialCompression(**config.as_dict())
    generation = folder / "generation"
    generation.mkdir(parents=True, exist_ok=True)
    return run_training(preprocessor, config, layout.RunFolder(folder), model_folder=generation, **other)


def weights_of(folder: Path, config: RunConfig) -> list[np.ndarray]:
    stats = json.loads((folder / "train_stats.json").read_text())
    return load_model(find_model(folder / "generation"), config, stats).get_weights()


def assert_same(one: Path, other: Path, config: RunConfig, outcomes: tuple[Outcome, Outcome]) -> None:
    for mine, theirs in zip(weights_of(one, config), weights_of(other, config), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (one / "generation" / "metrics.csv").read_bytes() == (other / "generation" / "metrics.csv").read_bytes()
    first, second = outcomes
    assert first.metrics == second.metrics
    assert (first.epochs, first.best_epoch) == (second.epochs, second.best_epoch)
    assert first.history.history == second.history.history
    assert first.history.epoch == second.history.epoch


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"save_weights_only": True},
        {"amsgrad": True, "clipnorm": 0.5},
        {"use_ema": True, "ema_momentum": 0.9},
        {"gradient_accumulation_steps": 2},
        {"standardize_inputs": True, "window_step": 2},
        {"label_scaling": "physical", "inputs": ["e_z"]},
    ],
    ids=lambda keys: "-".join(keys) or "plain",
)
def test_a_training_goes_on_as_if_it_had_not_been_interrupted(keys: dict[str, Any], tiny: Config, tmp_path: Path):
    config = parse(RunConfig, tiny(epochs=5, **keys))
    whole = train(config, tmp_path / "whole")
    file = tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "first", checkpoint=file, callbacks=[Interrupt(1, 2)])
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "second", checkpoint=file, resume_from=file, callbacks=[Interrupt(3, 0)])
    last = train(config, tmp_path / "third", checkpoint=file, resume_from=file)
    assert_same(tmp_path / "whole", tmp_path / "third", config, (whole, last))


@pytest.mark.parametrize(
    "keys",
    [
        {"ema_momentum": 0.9, "learning_rate_schedule": "cosine", "weight_decay": 0.1, "epochs": 4},
        # A plateau comes and early stopping ends it, in the epochs of another rank.
        {"ema_momentum": 0.5, "learning_rate_schedule": "plateau", "epochs": 20, "seed": 1},
        {"learning_rate_schedule": "plateau", "epochs": 20, "seed": 2},
    ],
    ids=str,
)
def test_a_training_that_is_killed_after_every_epoch_is_the_same(keys: dict[str, Any], tiny: Config, tmp_path: Path):
    plateau = {"patience": 2, "plateau_epochs": 1, "plateau_factor": 0.9}
    config = parse(RunConfig, tiny(**{"learning_rate": 0.3, **plateau, **keys}))
    whole = train(config, tmp_path / "whole")
    assert len(set(whole.history.history["learning_rate"])) > 1
    assert whole.epochs < 20
    file = tmp_path / "state.npz"
    for epoch in range(1, whole.epochs):
        earlier = file if file.exists() else None
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "killed", checkpoint=file, resume_from=earlier, callbacks=[Interrupt(epoch, 0)])
    last = train(config, tmp_path / "last", checkpoint=file, resume_from=file)
    assert_same(tmp_path / "whole", tmp_path / "last", config, (whole, last))
    # After the last epoch, too.
    again = train(config, tmp_path / "again", resume_from=file)
    assert_same(tmp_path / "whole", tmp_path / "again", config, (whole, again))


@pytest.mark.parametrize("epochs_before_the_end", [3, 1])
def test_early_stopping_comes_in_the_same_epoch_with_the_same_best_weights(
    epochs_before_the_end: int, tiny: Config, tmp_path: Path
):
    # A high learning rate: the loss goes up and down, and patience ends the training after a few epochs.
    config = parse(RunConfig, tiny(epochs=60, patience=2, learning_rate=0.05))
    whole = train(config, tmp_path / "whole")
    assert 4 < whole.epochs < 60
    assert whole.best_epoch == whole.epochs - 2, "one epoch before the end, patience is half used up"
    file = tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        train(
            config, tmp_path / "first", checkpoint=file, callbacks=[Interrupt(whole.epochs - epochs_before_the_end, 1)]
        )
    last = train(config, tmp_path / "second", checkpoint=file, resume_from=file)
    assert_same(tmp_path / "whole", tmp_path / "second", config, (whole, last))
    # The owner may have died after the last epoch, before it published.
    again = train(config, tmp_path / "third", resume_from=file)
    assert_same(tmp_path / "whole", tmp_path / "third", config, (whole, again))


def test_a_checkpoint_after_the_last_epoch_ends_at_once_with_the_same_outcome(tiny: Config, tmp_path: Path):
    config = parse(RunConfig, tiny(epochs=3))
    file = tmp_path / "state.npz"
    whole = train(config, tmp_path / "whole", checkpoint=file)
    again = train(config, tmp_path / "again", resume_from=file)
    assert_same(tmp_path / "whole", tmp_path / "again", config, (whole, again))


def test_callbacks_with_a_state_take_it_with_them(tiny: Config, tmp_path: Path):
    config = parse(RunConfig, tiny(epochs=4))
    file = tmp_path / "state.npz"
    counter = Counter()
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "first", checkpoint=file, callbacks=[counter, Interrupt(2, 0)])
    fresh = Counter()
    train(config, tmp_path / "second", resume_from=file, callbacks=[fresh, Interrupt(99, 0)])
    assert fresh.epochs == [0, 1, 2, 3]


class OwnData(Preprocessor):
    """Data sets of a user's own, without arrays to gather from."""

    def __init__(self, inner: PreprocessorTriaxialCompression) -> None:
        self._inner = inner

    @classmethod
    def get_default_config(cls) -> dict[str, Any]:
        return {}

    def prepare_datasets(self, seed: int = 42) -> Any:
        return self._inner.prepare_datasets(seed)

    def prepare_single_dataset(self) -> Any:
        return self._inner.prepare_single_dataset()


def test_a_model_with_dropout_on_data_sets_of_its_own_goes_on_too(tiny: Config, tmp_path: Path):
    config = parse(RunConfig, tiny(epochs=4))

    def parts() -> dict[str, Any]:
        keras.utils.set_random_seed(1)
        sequence, params = keras.Input((3, 3), name="inputs"), keras.Input((4,), name="params")
        hidden = keras.layers.Dropout(0.5)(keras.layers.Flatten()(sequence))
        outputs = keras.layers.Dense(2)(keras.layers.Concatenate()([hidden, params]))
        model = keras.Model({"inputs": sequence, "params": params}, outputs)
        return {"model": model, "preprocessor": OwnData(PreprocessorTriaxialCompression(**config.as_dict()))}

    file = tmp_path / "state.npz"
    whole = train(config, tmp_path / "whole", **parts())
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "first", checkpoint=file, callbacks=[Interrupt(2, 1)], **parts())
    last = train(config, tmp_path / "second", resume_from=file, **parts())
    assert_same(tmp_path / "whole", tmp_path / "second", config, (whole, last))


CHILD = """
import json, os, signal, sys
from pathlib import Path
import keras
from glrnn_hpc.config import RunConfig, parse
from tests.unit.surrogate.test_checkpoint import train

config = parse(RunConfig, json.loads(sys.argv[1]))
root, file = Path(sys.argv[2]), Path(sys.argv[3])

class Kill(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

if sys.argv[4] == "killed":
    train(config, root, checkpoint=file, callbacks=[Kill()])
else:
    train(config, root, resume_from=file if file.exists() else None)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_killed_process_is_continued_by_another_one_bit_for_bit(threads: int, tiny: Config, tmp_path: Path):
    config = parse(RunConfig, tiny(epochs=4, lstm_units=8))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}

    def child(folder: str, kind: str, file: Path) -> int:
        arguments = [json.dumps(config.as_dict()), tmp_path / folder, file, kind]
        command = [sys.executable, "-c", CHILD, *map(str, arguments)]
        return subprocess.run(command, env=environment, check=False, capture_output=True).returncode

    file = tmp_path / "state.npz"
    assert child("whole", "whole", tmp_path / "none") == 0
    assert child("killed", "killed", file) == -signal.SIGKILL
    assert child("resumed", "resumed", file) == 0
    for mine, theirs in zip(
        weights_of(tmp_path / "whole", config), weights_of(tmp_path / "resumed", config), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    tables = [(tmp_path / name / "generation" / "metrics.csv").read_bytes() for name in ("whole", "resumed")]
    assert tables[0] == tables[1]


def test_a_broken_or_foreign_checkpoint_is_refused(tiny: Config, tmp_path: Path):
    config = parse(RunConfig, tiny(epochs=1))
    file = tmp_path / "state.npz"
    train(config, tmp_path / "run", checkpoint=file)
    with pytest.raises(ModelError, match="is a checkpoint of another configuration; learning_rate differ"):
        checkpoints.load(file, config.model_copy(update={"learning_rate": 0.5}))
    content = file.read_bytes()
    for broken in (b"", content[: len(content) // 2], b"x" * 100, content[:-200] + b"\0" * 200):
        file.write_bytes(broken)
        with pytest.raises(ModelError, match=r"state\.npz: cannot be read as a checkpoint"):
            checkpoints.load(file, config)


def test_checkpoints_are_no_more_frequent_than_asked_for_but_the_last_one_is_written(tiny: Config, tmp_path: Path):
    config = parse(RunConfig, tiny(epochs=60, patience=2, learning_rate=0.05, checkpoint_every=3600))
    file = tmp_path / "state.npz"
    outcome = train(config, tmp_path / "run", checkpoint=file)
    assert outcome.epochs < 60
    found = checkpoints.load(file, config)
    assert (found.epochs, found.has_ended) == (outcome.epochs, True)
