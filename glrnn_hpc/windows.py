"""Windows by index: a window is the pair (sequence, last step), gathered when a batch is made."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc.errors import WindowError

Array = NDArray[Any]

#: TensorFlow uses memory in place if it begins at a multiple of so many bytes; it ends the process otherwise.
ALIGNMENT = 64


def n_windows(n_steps: int, window_size: int, window_step: int = 1) -> int:
    """Return the number of training windows in a sequence.

    Raises
    ------
    WindowError
        If the window is not shorter than the sequence.
    """
    if not 1 <= window_size < n_steps:
        raise WindowError(
            f"window_size={window_size} does not fit a sequence of {n_steps} steps; "
            f"choose 1..{n_steps - 1}, or pad the sequences with pad_length."
        )
    if window_step < 1:
        raise WindowError(f"window_step={window_step} must be at least 1.")
    return (n_steps - window_size) // window_step + 1


def label_steps(n_steps: int, window_size: int, window_step: int = 1) -> Array:
    """Return the step that each training window ends at and predicts, shape (n_windows,)."""
    return window_size - 1 + window_step * np.arange(n_windows(n_steps, window_size, window_step), dtype=np.int32)


def window_index(n_sequences: int, n_steps: int, window_size: int, window_step: int = 1) -> Array:
    """Return all training windows as pairs (sequence, last step).

    Returns
    -------
    ndarray, shape (n_sequences * n_windows, 2), int32
        Sequence by sequence, in the order of the steps.
    """
    steps = label_steps(n_steps, window_size, window_step)
    return np.stack(
        [np.repeat(np.arange(n_sequences, dtype=np.int32), len(steps)), np.tile(steps, n_sequences)], axis=1
    )


def prediction_index(n_sequences: int, n_steps: int, window_size: int) -> Array:
    """Return the windows of a prediction as pairs (sequence, last step): one for each step from `window_size` on.

    Returns
    -------
    ndarray, shape (n_sequences * (n_steps - window_size), 2), int32
        Sequence by sequence. The first training window, which ends one step earlier, is not among them.

    Raises
    ------
    WindowError
        If the window is not shorter than the sequences.
    """
    index = window_index(n_sequences, n_steps, window_size)
    return index[index[:, 1] >= window_size]


def make_windows(sequences: Array, window_size: int, window_step: int = 1) -> Array:
    """Show each sequence as its windows of `window_size` steps.

    Parameters
    ----------
    sequences : ndarray, shape (n_samples, n_steps, n_features)
        Load sequences.

    Returns
    -------
    ndarray, shape (n_samples, n_windows, window_size, n_features)
        Read-only view. Window ``k`` ends at step ``k * window_step + window_size - 1``.

    Raises
    ------
    WindowError
        If the window is not shorter than the sequences.
    """
    n_windows(sequences.shape[1], window_size, window_step)
    views = np.lib.stride_tricks.sliding_window_view(sequences, window_size, axis=1)
    return np.moveaxis(views[:, ::window_step], -1, 2)


@dataclass(frozen=True)
class Scaling:
    """What standardises columns: ``(values - mean) / std``, where a constant column (std 0) is divided by 1."""

    mean: Array
    std: Array

    def divisor(self) -> Array:
        """Return std, and 1 where it is 0."""
        return np.where(np.asarray(self.std) > 0, self.std, 1.0)

    def __call__(self, values: Array) -> Array:
        """Return standardised values as float32."""
        scaled: Array = ((values - self.mean) / self.divisor()).astype("float32")
        return scaled


@dataclass(frozen=True)
class Sequences:
    """Whole sequences where they lie: padding and scaling are done to what is taken out, never to all of them.

    Attributes
    ----------
    inputs : ndarray, shape (n_rows, n_steps, n_inputs), float32
        Raw load sequences; read-only arrays are used in place by TensorFlow, others are copied.
    labels : ndarray, shape (n_rows, n_steps, n_labels), float32
        Raw responses.
    rows : ndarray, shape (n,)
        Which rows of `inputs` and `labels` these sequences are.
    params : ndarray, shape (n, n_params), float32
        Raw parameters of each of them.
    pad_length : int
        How often the first step is repeated in front.
    input_scaling, param_scaling, label_scaling : Scaling, optional
        What standardises them.
    """

    inputs: Array
    labels: Array
    rows: Array
    params: Array
    pad_length: int = 0
    input_scaling: Scaling | None = None
    param_scaling: Scaling | None = None
    label_scaling: Scaling | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_steps(self) -> int:
        """Steps of a sequence, padding included."""
        return int(self.inputs.shape[1]) + self.pad_length

    def take(self, ids: Array) -> Sequences:
        """Return some of the sequences."""
        return replace(self, rows=self.rows[ids], params=self.params[ids])

    def arrays(self) -> tuple[Array, Array, Array]:
        """Return copies of inputs (n, n_steps, n_inputs), params and labels (n, n_steps, n_labels), float32."""
        steps = np.maximum(np.arange(self.n_steps) - self.pad_length, 0)
        at = self.rows[:, None], steps[None, :]
        parts = zip(
            (self.inputs[at], self.params, self.labels[at]),
            (self.input_scaling, self.param_scaling, self.label_scaling),
            strict=True,
        )
        inputs, params, labels = (values if scaling is None else scaling(values) for values, scaling in parts)
        return inputs, params, labels


class DeviceCopies:
    """Copies of the node's arrays on the GPU of this rank: one of each, however many trials take windows out of it.

    Parameters
    ----------
    device : str
        Name of the device, such as `GPU:0`.

    Attributes
    ----------
    device : str
        The same.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._kept: dict[int, tuple[Array, tf.Tensor]] = {}

    def of(self, values: Array) -> tf.Tensor:
        """Return a copy of an array; that of a read-only one, which the node's are, is kept for the next call."""
        if values.flags.writeable:
            return self._copy(values)
        if id(values) not in self._kept:
            # With the array, so that no other one gets its id.
            self._kept[id(values)] = (values, self._copy(values))
        return self._kept[id(values)][1]

    def _copy(self, values: Array) -> tf.Tensor:
        with tf.device(self.device):
            return tf.identity(as_tensor(values))


def copies_on_gpu() -> DeviceCopies | None:
    """Return where this process keeps copies of its data; None without a visible GPU, as memory is then good enough."""
    gpus = tf.config.list_logical_devices("GPU")
    return DeviceCopies(gpus[0].name) if gpus else None


class Gather:
    """Gather windows of sequences inside a TensorFlow graph.

    Parameters
    ----------
    sequences : Sequences
        Where they are taken from.
    window_size, window_step : int
        Steps of a window, and between two of them.
    copies : DeviceCopies, optional
        Takes them out of copies on a device, in place of the memory where they lie.
    """

    def __init__(
        self, sequences: Sequences, window_size: int, window_step: int = 1, copies: DeviceCopies | None = None
    ) -> None:
        self._sequences = sequences
        self._window_size, self._window_step = window_size, window_step
        self._per_sequence = n_windows(sequences.n_steps, window_size, window_step)
        tensor = as_tensor if copies is None else copies.of
        self._inputs, self._labels = tensor(sequences.inputs), tensor(sequences.labels)
        self._rows = tf.constant(sequences.rows, tf.int64)
        self._params = tf.constant(sequences.params)
        #: Number of windows.
        self.n = len(sequences) * self._per_sequence

    def __call__(self, number: Any) -> tuple[dict[str, Any], Any]:
        """Return the windows of some numbers.

        Parameters
        ----------
        number : tensor, shape (n,), int64
            Window ``k`` is the ``k % n_windows``-th of sequence ``k // n_windows``.

        Returns
        -------
        tuple
            ``({'inputs': (n, window_size, n_inputs), 'params': (n, n_params)}, (n, n_labels))``, float32.
        """
        return self.take(*self.places(number))

    def places(self, number: Any) -> tuple[Any, Any, Any]:
        """Return row, last step and params of the windows of some numbers: what `take` needs, and little to move."""
        sequence = number // self._per_sequence
        last = self._window_size - 1 + self._window_step * (number % self._per_sequence)
        return tf.gather(self._rows, sequence), last, tf.gather(self._params, sequence)

    def take(self, row: Any, last: Any, params: Any) -> tuple[dict[str, Any], Any]:
        """Return the windows at some places. It is the same for all splits of the same data."""
        split = self._sequences
        labels = tf.gather_nd(self._labels, tf.stack([row, tf.maximum(last - split.pad_length, 0)], axis=-1))
        inputs = take_windows(self._inputs, row, last, self._window_size, split.pad_length)
        return {
            "inputs": _scaled(inputs, split.input_scaling),
            "params": _scaled(params, split.param_scaling),
        }, _scaled(labels, split.label_scaling)


def taking_on_device(sequences: Sequences, window_size: int, copies: DeviceCopies) -> Callable[..., Any]:
    """Return a function that makes batches on a device, of the elements that a data set has with these `copies`."""
    gather = Gather(sequences, window_size, copies=copies)

    @tf.function(autograph=False, reduce_retracing=True)
    def traced(row: Any, last: Any, params: Any, *weights: Any) -> Any:
        return *gather.take(row, last, params), *weights

    def take(*element: Any) -> Any:
        with tf.device(copies.device):
            return traced(*element)

    return take


def take_windows(sequences: Any, row: Any, last: Any, window_size: int, pad_length: int = 0) -> Any:
    """Take windows out of whole sequences inside a TensorFlow graph.

    Parameters
    ----------
    sequences : tensor, shape (n_rows, n_steps, n_features)
        Not padded.
    row, last : tensor, shape (n,), integer of one type
        Sequence and last step of each window; steps are counted with the padding.
    window_size : int
        Steps of a window.
    pad_length : int
        How often the first step is repeated in front.

    Returns
    -------
    tensor, shape (n, window_size, n_features)
    """
    steps = tf.maximum(last[:, None] + tf.range(1 - window_size - pad_length, 1 - pad_length, dtype=last.dtype), 0)
    at = tf.stack([tf.broadcast_to(row[:, None], tf.shape(steps)), steps], axis=-1)
    return tf.ensure_shape(tf.gather_nd(sequences, at), (None, window_size, sequences.shape[-1]))


def as_tensor(values: Array) -> tf.Tensor:
    """Return a tensor; of a read-only array in place where it is aligned as TensorFlow needs it, else a copy.

    The shared arrays of a node are such arrays: a copy of them per rank would be what they are shared against.
    """
    is_usable = values.flags.c_contiguous and values.size and values.ctypes.data % ALIGNMENT == 0
    if values.flags.writeable or not is_usable:
        return tf.constant(values)
    # DLPack cannot tell that memory is read-only, and NumPy does not export such arrays; no operation writes to it.
    memory: Any = (ctypes.c_byte * values.nbytes).from_address(values.ctypes.data)
    memory.owner = values  # the tensor keeps it alive
    alias = np.frombuffer(memory, values.dtype).reshape(values.shape)
    return tf.experimental.dlpack.from_dlpack(alias.__dlpack__())


def _scaled(values: Any, scaling: Scaling | None) -> Any:
    # In float64, as NumPy does it: the same bits.
    if scaling is None:
        return values
    return tf.cast((tf.cast(values, tf.float64) - scaling.mean) / scaling.divisor(), tf.float32)
