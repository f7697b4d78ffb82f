"""A trained model in the place of the DEM code: loads and parameters in, responses in original units out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.errors import ModelError, WindowError
from glrnn_hpc.predict import get_pretrained_model, predict_sequences
from glrnn_hpc.preprocessor import scaling_of
from glrnn_hpc.results.trained import describe
from glrnn_hpc.surrogate.kernels import one_load_kernel
from glrnn_hpc.surrogate.legacy import run_folder
from glrnn_hpc.surrogate.shipped import folder_of

logger = logging.getLogger(__name__)

Array = NDArray[Any]


class Surrogate:
    """A trained model for many sets of parameters under one load.

    Parameters
    ----------
    folder : path
        Of a trial, a single run, an export, or one that GrainLearning wrote; or the name of a shipped model.

    Attributes
    ----------
    trained : Trained
        What it was trained with.
    config : dict
        Configuration of the training.

    Raises
    ------
    ModelError
        If a file is missing, broken, or the model does not fit its description.
    """

    def __init__(self, folder: str | Path) -> None:
        root = run_folder(folder_of(folder))
        self._model, self._stats, self.config = get_pretrained_model(root)
        self.trained = describe(root, self._stats, self.config)
        self._kernel = one_load_kernel(self._model, self.trained.window_size)
        if self._kernel is None:
            logger.info("%s: is a network of another structure; Keras runs it, which is slower.", root)

    def respond(self, load: Array, params: Array) -> Array:
        """Predict the responses to one load sequence, in one call.

        Parameters
        ----------
        load : ndarray, shape (T, n_inputs)
            From its first step on, not padded; in the order of `input_names`.
        params : ndarray, shape (n, n_params)
            In the order of `param_names`.

        Returns
        -------
        ndarray, shape (n, T - first, n_labels), float32
            In original units; element ``k`` is the response at step ``first + k``.

        Raises
        ------
        WindowError
            If the load has no more steps than a window.
        ModelError
            If the numbers of columns are not those of the model, or it gives values that are not finite.
        """
        trained = self.trained
        for what, given, expected in (
            ("load features", load.shape[1], trained.n_inputs),
            ("parameters", params.shape[1], trained.n_params),
        ):
            if given != expected:
                raise ModelError(f"{trained.folder}: was trained with {expected} {what}, {given} are given.")
        if len(load) <= trained.first:
            raise WindowError(
                f"a load of {len(load)} steps is too short for window_size={trained.window_size}; "
                f"at least {trained.first + 1} steps are needed."
            )
        load = np.concatenate([np.repeat(load[:1], trained.pad_length, axis=0), load]).astype("float32")
        params = params.astype("float32")
        if self._kernel is None:
            responses = predict_sequences(
                self._model, np.repeat(load[None], len(params), axis=0), params, self._stats, self.config
            )
        else:
            responses = self._run_kernel(load, params)
        if not np.isfinite(responses).all():
            raise ModelError(f"{trained.folder}: the model gives values that are not finite; it is of no use.")
        return responses

    def _run_kernel(self, load: Array, params: Array) -> Array:
        assert self._kernel is not None
        if self.config.get("standardize_inputs", False):
            load, params = scaling_of(self._stats, "inputs_")(load), scaling_of(self._stats, "params_")(params)
        responses: Array = self._kernel(load, params).numpy()
        if self.config.get("standardize_outputs", True):
            labels = scaling_of(self._stats)
            responses = responses * labels.divisor().astype("float32") + labels.mean.astype("float32")
        return responses
