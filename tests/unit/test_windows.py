from __future__ import annotations

import numpy as np
import pytest

from glrnn_hpc import batches, gather, windows
from glrnn_hpc.errors import WindowError


def test_last_step_of_each_window_is_the_step_it_predicts():
    steps = np.arange(8.0).reshape(1, 8, 1)
    seen = windows.make_windows(steps, window_size=3)
    np.testing.assert_array_equal(seen[0, :, -1, 0], windows.label_steps(8, 3))
    np.testing.assert_array_equal(seen[0, 0, :, 0], [0, 1, 2])
    assert not seen.flags.writeable


@pytest.mark.parametrize(("n_steps", "size", "step"), [(8, 3, 1), (8, 3, 2), (9, 2, 3), (5, 4, 1), (101, 10, 7)])
def test_number_of_windows_follows_the_definition(n_steps: int, size: int, step: int):
    expected = (n_steps - size) // step + 1
    assert windows.n_windows(n_steps, size, step) == expected
    index = windows.window_index(4, n_steps, size, step)
    assert index.shape == (4 * expected, 2)
    assert index[:, 1].min() == size - 1
    assert index[:, 1].max() < n_steps
    assert windows.make_windows(np.zeros((4, n_steps, 1)), size, step).shape == (4, expected, size, 1)


@pytest.mark.parametrize("size", [0, 8, 9])
def test_a_window_as_long_as_the_sequence_is_refused(size: int):
    with pytest.raises(WindowError, match=f"window_size={size} does not fit a sequence of 8 steps; choose 1..7"):
        windows.n_windows(8, size)


def test_a_window_step_of_zero_is_refused():
    with pytest.raises(WindowError, match="window_step=0"):
        windows.n_windows(8, 3, 0)


def _shuffled(seed: int, epochs: range) -> np.ndarray:
    steps = np.arange(10.0, dtype="float32")[None, :, None].repeat(3, axis=0)
    params = np.arange(3.0, dtype="float32")[:, None]
    sequences = windows.Sequences(steps, steps, np.arange(3), params)
    shuffled = batches.shuffled_batches(gather.Gather(sequences, 4), 5, epochs=epochs, seed=seed)
    rows = []
    for inputs, labels in shuffled.as_numpy_iterator():
        np.testing.assert_array_equal(inputs["inputs"][:, -1], labels)
        np.testing.assert_array_equal(np.diff(inputs["inputs"][..., 0], axis=1), 1)
        rows.append(np.column_stack([inputs["params"], labels]))
    return np.concatenate(rows)


def test_each_epoch_shows_every_window_once_in_an_order_of_its_own():
    two = _shuffled(1, range(2))
    first, second = np.split(two, 2)
    assert len(np.unique(first, axis=0)) == len(first) == 21
    assert sorted(map(tuple, first)) == sorted(map(tuple, second))
    assert not np.array_equal(first, second)


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    np.testing.assert_array_equal(_shuffled(1, range(2))[21:], _shuffled(1, range(1, 2)))
    assert not np.array_equal(_shuffled(1, range(1)), _shuffled(2, range(1)))


def test_unbatched_windows_come_in_order():
    steps = np.arange(6.0, dtype="float32")[None, :, None]
    sequences = windows.Sequences(steps, steps, np.zeros(1, int), np.zeros((1, 2), "float32"))
    dataset = batches.window_dataset(sequences, 3, 2)
    assert [float(label[0]) for _, label in dataset.as_numpy_iterator()] == [2.0, 4.0]


def _scaled_sequences(pad_length: int) -> windows.Sequences:
    rng = np.random.default_rng(5)
    inputs, labels = (rng.normal(size=(6, 9, n)).astype("float32") for n in (3, 2))
    for array in (inputs, labels):
        array.flags.writeable = False
    scalings = [windows.Scaling(rng.normal(size=n), rng.random(n) * [0, *[1] * (n - 1)]) for n in (3, 4, 2)]
    params = rng.normal(size=(4, 4)).astype("float32")
    return windows.Sequences(inputs, labels, np.array([5, 0, 3, 2]), params, pad_length, *scalings)


@pytest.mark.parametrize("share", [batches.WHOLE, batches.Share(0, 3), batches.Share(2, 3)])
@pytest.mark.parametrize("pad_length", [0, 4])
def test_batches_made_of_copies_on_a_device_have_the_same_bits(pad_length: int, share: batches.Share):
    sequences, copies = _scaled_sequences(pad_length), windows.DeviceCopies("CPU:0")
    in_memory, on_device = gather.Gather(sequences, 4, 2), gather.Gather(sequences, 4, 2, copies)
    assert in_memory.maker_on_device() is None
    make_on_device = on_device.maker_on_device()
    assert make_on_device is not None
    for make, more in (
        (batches.ordered_batches, {}),
        (batches.shuffled_batches, {"epochs": range(1, 3), "seed": 3}),
    ):
        expected = list(make(in_memory, 7, share, **more).as_numpy_iterator())
        found = [make_on_device(*element) for element in make(on_device, 7, share, **more)]
        assert len(found) == len(expected) > 1
        for (inputs, *others), (expected_inputs, *expected_others) in zip(found, expected, strict=True):
            assert inputs.keys() == expected_inputs.keys()
            pairs = zip([*inputs.values(), *others], [*expected_inputs.values(), *expected_others], strict=True)
            for values, expected_values in pairs:
                assert values.numpy().tobytes() == expected_values.tobytes()


def test_the_arrays_of_a_node_are_copied_once_and_those_of_a_trial_are_not_kept():
    copies = windows.DeviceCopies("CPU:0")
    sealed = np.arange(6.0, dtype="float32").reshape(1, 6, 1)
    own = sealed.copy()
    sealed.flags.writeable = False
    assert copies.copy_of(sealed) is copies.copy_of(sealed)
    assert copies.copy_of(own) is not copies.copy_of(own)
    np.testing.assert_array_equal(copies.copy_of(own), own)


def test_read_only_arrays_are_used_where_they_lie_unless_they_are_not_aligned():
    memory = np.zeros(256, "uint8")
    start = -memory.ctypes.data % gather.ALIGNMENT
    aligned, shifted = (np.ndarray((5, 2), "float32", buffer=memory, offset=start + n) for n in (0, 4))
    written = windows.as_tensor(aligned)
    for array in (aligned, shifted):
        array.flags.writeable = False
    alias, copy = windows.as_tensor(aligned), windows.as_tensor(shifted)
    memory[start : start + 64].view("float32")[:] = 7.0
    assert alias.numpy()[0, 0] == 7.0
    assert written.numpy()[0, 0] == copy.numpy()[0, 0] == 0.0


def test_without_a_gpu_the_data_stay_where_they_are():
    assert windows.copies_on_gpu() is None
