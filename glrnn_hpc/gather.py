"""Windows gathered from whole sequences inside a TensorFlow graph, in host memory or in copies on a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from glrnn_hpc.scaling import Scaling
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.windows import n_windows

Array = NDArray[Any]


#: TensorFlow uses memory in place if it begins at a multiple of so many bytes; it ends the process otherwise.
ALIGNMENT = 64


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
        self._copies: dict[int, tuple[Array, tf.Tensor]] = {}

    def copy_of(self, values: Array) -> tf.Tensor:
        """Return a copy of an array; a copy of a read-only array, as those of the node are, serves all later calls."""
        if values.flags.writeable:
            return self._copy(values)
        if id(values) not in self._copies:
            # With the array, so that no other one gets its id.
            self._copies[id(values)] = (values, self._copy(values))
        return self._copies[id(values)][1]

    def _copy(self, values: Array) -> tf.Tensor:
        with tf.device(self.device):
            return tf.identity(as_tensor(values))


def copies_on_gpu() -> DeviceCopies | None:
    """Return the holder of copies on this process' GPU; None without a visible GPU, as host memory serves a CPU."""
    gpus = tf.config.list_logical_devices("GPU")
    return DeviceCopies(gpus[0].name) if gpus else None


class Gather:
    """Windows of sequences by their number.

    Parameters
    ----------
    sequences : Sequences
        Where they are taken from.
    window_size, window_step : int
        Steps of a window, and between two of them.
    copies : DeviceCopies, optional
        Takes them out of copies on a device, in place of the memory where they lie.
    with_raw : bool
        Whether raw labels, load features and parameters come after the targets, as `raw_loss` needs them.

    Attributes
    ----------
    n : int
        Number of windows.
    """

    def __init__(
        self,
        sequences: Sequences,
        window_size: int,
        window_step: int = 1,
        copies: DeviceCopies | None = None,
        *,
        with_raw: bool = False,
    ) -> None:
        self._sequences = sequences
        self._with_raw = with_raw
        self._window_size, self._window_step = window_size, window_step
        self._per_sequence = n_windows(sequences.n_steps, window_size, window_step)
        self._device = None if copies is None else copies.device
        tensor = as_tensor if copies is None else copies.copy_of
        self._inputs, self._labels = tensor(sequences.inputs), tensor(sequences.labels)
        self._rows = tf.constant(sequences.rows, tf.int64)
        self._params = tf.constant(sequences.params)
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
            ``({'inputs': (n, window_size, n_inputs), 'params': (n, n_params)}, (n, n_labels))``, float32. In place of
            the labels stand the targets, if there are some.
        """
        return self._take(*self._places(number))

    def element(self, number: Any) -> tuple[Any, ...]:
        """Return what a pipeline holds for the windows of some numbers.

        Without copies these are the windows. With copies they are their places, little to move, because a pipeline
        runs on the CPU; `maker_on_device` makes the windows of them.
        """
        return self(number) if self._device is None else self._places(number)

    def maker_on_device(self) -> Callable[..., Any] | None:
        """Return the function that makes windows on the device of elements of the pipeline; None without copies.

        It also passes on weights, and serves all splits of the same data.
        """
        device = self._device
        if device is None:
            return None

        @tf.function(autograph=False, reduce_retracing=True)
        def traced(row: Any, last: Any, params: Any, *weights: Any) -> Any:
            return *self._take(row, last, params), *weights

        def make(*element: Any) -> Any:
            with tf.device(device):
                return traced(*element)

        return make

    def _places(self, number: Any) -> tuple[Any, Any, Any]:
        """Return row, last step and params of the windows of some numbers."""
        sequence = number // self._per_sequence
        last = self._window_size - 1 + self._window_step * (number % self._per_sequence)
        return tf.gather(self._rows, sequence), last, tf.gather(self._params, sequence)

    def _take(self, row: Any, last: Any, params: Any) -> tuple[dict[str, Any], Any]:
        """Return the windows at some places."""
        split = self._sequences
        labels = tf.gather_nd(self._labels, tf.stack([row, tf.maximum(last - split.pad_length, 0)], axis=-1))
        inputs = take_windows(self._inputs, row, last, self._window_size, split.pad_length)
        if split.columns is not None:
            inputs = tf.gather(inputs, split.columns, axis=-1)
        return {
            "inputs": _scaled(inputs, split.input_scaling),
            "params": _scaled(params, split.param_scaling),
        }, self._learnt(labels, inputs, params)

    def _learnt(self, labels: Any, inputs: Any, params: Any) -> Any:
        """Return what the network learns of labels: themselves, or targets, with the raw values behind them."""
        split = self._sequences
        if split.targets is None:
            return _scaled(labels, split.label_scaling)
        targets = split.targets.of_labels(tf.cast(labels, tf.float64), tf.cast(params, tf.float64), keras.ops)
        targets = tf.cast(targets, tf.float32)
        return tf.concat([targets, labels, inputs[:, -1], params], axis=-1) if self._with_raw else targets


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
