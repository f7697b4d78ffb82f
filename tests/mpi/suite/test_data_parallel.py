from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from glrnn_hpc import layout, train
from glrnn_hpc.config import RunConfig, parse
from glrnn_hpc.data import ranks
from glrnn_hpc.data.shared import read_data
from glrnn_hpc.errors import ModelError, TrainingDiverged
from glrnn_hpc.gather import DeviceCopies
from glrnn_hpc.preprocessor.from_file import PreprocessorTriaxialCompression
from glrnn_hpc.surrogate.data_parallel import EndedByOtherRank

DATA = Path(__file__).parents[2] / "data/triaxial.hdf5"


def configured(**other: Any) -> RunConfig:
    small = {"pressure": "0.2e6", "lstm_units": 4, "dense_units": 4, "epochs": 3, "window_step": 3, "batch_size": 100}
    return parse(RunConfig, {"raw_data": str(DATA), "standardize_inputs": True, **small, **other})


def run(config: RunConfig, folder: Path, group: ranks.Ranks | None, **other: Any) -> train.Outcome:
    source = read_data(DATA, config.pressure, node=group)
    preprocessor = PreprocessorTriaxialCompression(source=source, **config.as_dict())
    return train.run_training(preprocessor, config, layout.RunFolder(folder), group=group, **other)


def curve(folder: Path) -> np.ndarray:
    with (folder / "metrics.csv").open() as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


# 97 windows do not divide by the ranks, and some ranks get none of the last ones; 3000 are more than there are.
@pytest.mark.parametrize(
    "keys",
    [
        {"batch_size": 97},
        {"batch_size": 3000},
        {"batch_size": 97, "label_scaling": "physical", "exact": True, "add_e0": True},
    ],
    ids=["97", "3000", "targets"],
)
def test_the_loss_curve_is_that_of_one_rank_with_the_whole_batch(keys: dict[str, Any], node: ranks.Ranks, folder: Path):
    config = configured(**keys)
    together = run(config, folder / "together", node)
    alone = run(config, folder / f"alone-{node.rank}", None)
    assert together.history.history.keys() == alone.history.history.keys()
    for name, values in alone.history.history.items():
        np.testing.assert_allclose(together.history.history[name], values, rtol=1e-5, err_msg=name)
    for name, value in alone.metrics.items():
        assert together.metrics[name] == pytest.approx(value, rel=1e-5), name
    node.barrier()
    np.testing.assert_allclose(curve(folder / "together"), curve(folder / f"alone-{node.rank}"), rtol=1e-5)
    assert len(set(map(str, node.allgather(together.metrics)))) == 1


def test_ranks_train_on_copies_on_their_devices_to_the_same_bits(node: ranks.Ranks, folder: Path):
    found = run(configured(epochs=2), folder / "device", node, copies=DeviceCopies("CPU:0"))
    assert found.history.history == run(configured(epochs=2), folder / "memory", node).history.history
    assert len(set(map(str, node.allgather(found.metrics)))) == 1


#: What a group does at each epoch beside the steps.
EACH_EPOCH = {"ema_momentum": 0.9, "learning_rate_schedule": "plateau", "plateau_epochs": 1, "learning_rate": 0.05}


def test_a_group_averages_weights_and_lowers_the_rate_as_one_rank_does(node: ranks.Ranks, folder: Path):
    config = configured(**EACH_EPOCH)
    together = run(config, folder / "together", node).history
    alone = run(config, folder / f"alone-{node.rank}", None).history
    assert together.history.keys() == alone.history.keys()
    for name, values in alone.history.items():
        np.testing.assert_allclose(together.history[name], values, rtol=1e-3, err_msg=name)
    for one, other in zip(together.model.get_weights(), alone.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
        # The same bits on all ranks.
        assert len(set(node.allgather(one.tobytes()))) == 1


@pytest.mark.parametrize("keys", [{}, EACH_EPOCH], ids=["plain", "each epoch"])
def test_training_goes_on_from_a_checkpoint(keys: dict[str, Any], node: ranks.Ranks, folder: Path):
    whole = run(configured(**keys), folder / "whole", node)
    state = folder / "state.npz"
    callbacks = [Raising("on_epoch_begin", 3)] if node.rank == 0 else []
    with pytest.raises(KeyError if node.rank == 0 else EndedByOtherRank):
        run(configured(**keys), folder / "part", node, checkpoint=state, callbacks=callbacks)
    resumed = run(configured(**keys), folder / "resumed", node, resume_from=state, checkpoint=folder / "again.npz")
    assert resumed.history.history == whole.history.history
    assert resumed.metrics == whole.metrics


def test_the_root_decides_when_to_stop(node: ranks.Ranks, folder: Path):
    callbacks = [Ending(2)] if node.rank == 0 else []
    assert run(configured(), folder / "run", node, callbacks=callbacks).epochs == 2


@pytest.mark.parametrize(
    ("guilty", "when"),
    [
        ("root", "on_train_batch_end"),
        ("last", "on_train_batch_end"),
        ("last", "on_test_batch_end"),
        ("root", "on_epoch_end"),
        ("root", "on_train_end"),
    ],
)
def test_a_rank_that_leaves_takes_the_others_with_it(guilty: str, when: str, node: ranks.Ranks, folder: Path):
    if node.size == 1:
        return
    number = 0 if guilty == "root" else node.size - 1
    is_guilty = node.rank == number
    callbacks = [Raising(when)] if is_guilty else []
    message = "on purpose" if is_guilty else f"rank {number} of the group: KeyError: 'on purpose'"
    with pytest.raises(KeyError if is_guilty else EndedByOtherRank, match=message):
        run(configured(epochs=1, batch_size=500), folder / "run", node, callbacks=callbacks)
    # The ranks understand each other afterwards.
    assert node.allgather(node.rank) == list(range(node.size))


def test_a_training_that_diverges_ends_on_all_ranks(node: ranks.Ranks, folder: Path):
    with pytest.raises(TrainingDiverged, match="training diverged"):
        run(configured(learning_rate=1e30, batch_size=50), folder / "run", node)
    assert node.allgather(1) == [1] * node.size


def test_a_checkpoint_that_one_rank_cannot_read_is_an_error_of_all(node: ranks.Ranks, folder: Path):
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        run(configured(), folder / "run", node, resume_from=folder / f"none-{node.rank}")


class Ending(keras.callbacks.Callback):
    """End the training after some epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch + 1 >= self._epochs:
            self.model.stop_training = True


class Raising(keras.callbacks.Callback):
    """Raise at one of the calls of a name."""

    def __init__(self, when: str, number: int = 1) -> None:
        super().__init__()
        self._left = number
        setattr(self, when, self._raise)

    def _raise(self, *_: Any, **__: Any) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyError("on purpose")
