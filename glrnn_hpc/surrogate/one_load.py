"""Predictions of one model for many sets of parameters under one load, in original units, by its fast kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.preprocessor.splits import scaling_of
from glrnn_hpc.surrogate.kernels import one_load_kernel
from glrnn_hpc.surrogate.prediction import labels_of_outputs, predict_windows
from glrnn_hpc.windows import n_predictions_of_padding

Array = NDArray[Any]


class OneLoadModel:
    """A trained model for many sets of parameters under one load.

    Parameters
    ----------
    model : keras.Model
        The network, with the weights that it has now.
    stats, config : mapping
        `train_stats` and configuration of the training.

    Attributes
    ----------
    is_fast : bool
        Whether the network has a fast kernel; Keras runs it if it has none.
    """

    def __init__(self, model: keras.Model, stats: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self._model, self._stats, self._config = model, stats, config
        self._window_size, self._pad_length = int(config["window_size"]), int(config.get("pad_length", 0))
        self._kernel = one_load_kernel(model, self._window_size)
        self.is_fast = self._kernel is not None

    def respond(self, load: Array, params: Array) -> Array:
        """Return the responses, (n, T - first, n_labels), float32, from the first step on that the model predicts.

        Parameters
        ----------
        load : ndarray, shape (T, n_inputs)
            Not padded; T is larger than `first`.
        params : ndarray, shape (n, n_params)
            Raw.
        """
        load = np.concatenate([np.repeat(load[:1], self._pad_length, axis=0), load]).astype("float32")
        params = params.astype("float32")
        if self._kernel is None:
            inputs = {"inputs": np.repeat(load[None], len(params), axis=0), "params": params}
            responses = predict_windows(self._model, inputs, self._stats, self._config).numpy()
        else:
            responses = self._run_kernel(load, params)
        return responses[:, n_predictions_of_padding(self._window_size, self._pad_length) :]

    def _run_kernel(self, load: Array, params: Array) -> Array:
        assert self._kernel is not None
        raw_steps, raw_params = load[self._window_size :], params
        if self._config.get("standardize_inputs", False):
            load, params = scaling_of(self._stats, "inputs_")(load), scaling_of(self._stats, "params_")(params)
        outputs = self._kernel(load, params)
        responses: Array = labels_of_outputs(outputs, raw_steps, raw_params, self._stats, self._config).numpy()
        return responses
