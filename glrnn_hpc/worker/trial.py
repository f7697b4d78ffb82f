"""One trial: train the configuration of its point, from the newest checkpoint that an earlier owner left."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import keras

from glrnn_hpc import layout
from glrnn_hpc.config import RunConfig
from glrnn_hpc.data.shared import DemData
from glrnn_hpc.errors import ModelError, StorageError
from glrnn_hpc.preprocessor import Preprocessor, PreprocessorTriaxialCompression
from glrnn_hpc.search import hyperband
from glrnn_hpc.search.study import Claim, SweepStudy
from glrnn_hpc.search.sweep import build_preprocessor, preprocessor_of, trial_config
from glrnn_hpc.train import Outcome, run_training
from glrnn_hpc.worker.pull import Guard

logger = logging.getLogger(__name__)


class Trainer:
    """Train claimed trials on data that stay in memory between them."""

    def __init__(self, study: SweepStudy, data: DemData | None) -> None:
        self._study = study
        self._data = data

    def __call__(self, claim: Claim, guard: Guard) -> dict[str, Any]:
        """Train the trial and return its result; see `worker.pull`."""
        spec = self._study.spec
        pruning = Pruning(self._study, claim.number)
        outcome = self._train(claim, [Guarding(guard), pruning])
        value = outcome.metrics[spec.metric]
        if not math.isfinite(value):
            return {"state": "failed", "error": f"{spec.metric} is {value}", "metrics": outcome.metrics}
        return {
            "state": "pruned" if pruning.is_pruned else "finished",
            "value": value,
            "metrics": outcome.metrics,
            "epochs": outcome.epochs,
            "best_epoch": outcome.best_epoch,
        }

    def _train(self, claim: Claim, callbacks: list[keras.callbacks.Callback]) -> Outcome:
        config = trial_config(self._study.spec, claim.point)
        preprocessor = self._preprocessor(claim, config)
        trial = claim.lease.folder
        generation = trial.generation(claim.lease.generation)
        checkpoint = trial.checkpoint_file(claim.lease.generation)
        for earlier in self._checkpoints(trial, claim.lease.generation):
            try:
                return run_training(
                    preprocessor,
                    config,
                    trial,
                    callbacks=callbacks,
                    model_folder=generation.root,
                    checkpoint=checkpoint,
                    resume_from=earlier,
                )
            except ModelError as error:
                logger.warning("trial %d: %s; an older checkpoint is used, or none", claim.number, error)
        return run_training(
            preprocessor, config, trial, callbacks=callbacks, model_folder=generation.root, checkpoint=checkpoint
        )

    def _preprocessor(self, claim: Claim, config: RunConfig) -> Preprocessor:
        spec = self._study.spec
        if preprocessor_of(spec) is None:
            return PreprocessorTriaxialCompression(source=self._data, **config.as_dict())
        own: Preprocessor = build_preprocessor(spec, claim.point, self._data)
        return own

    @staticmethod
    def _checkpoints(trial: layout.TrialFolder, generation: int) -> list[Path]:
        """Return the checkpoints of earlier generations, the newest first."""
        files = [trial.checkpoint_file(number) for number in range(generation - 1, 0, -1)]
        return [file for file in files if file.exists()]


class Guarding(keras.callbacks.Callback):
    """Ask the guard after each batch and each epoch; what it raises ends the training."""

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Go on, or raise."""
        self._guard.step()

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Go on, or raise."""
        self._guard.step()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look before the files of this epoch are written: a trial that was adopted is another rank's."""
        self._guard.look()


class Pruning(keras.callbacks.Callback):
    """Report to the study at the bands of hyperband and stop the training where its rule says so.

    Attributes
    ----------
    is_pruned : bool
        Whether the rule stopped the training.
    """

    def __init__(self, study: SweepStudy, number: int) -> None:
        super().__init__()
        self._study = study
        self._number = number
        self._history: list[float] = []
        self.is_pruned = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report and decide, if this epoch is a band."""
        spec = self._study.spec
        if spec.early_terminate is None:
            return
        self._history.append(float((logs or {})[spec.metric]))
        pruner = hyperband.HyperbandPruner(spec.early_terminate, spec.goal)
        if not pruner.is_band(epoch + 1):
            return
        try:
            self.is_pruned = self._study.report(self._number, epoch + 1, pruner.value_to_report(self._history))
        except StorageError as error:
            logger.warning("trial %d is not compared with others after epoch %d: %s", self._number, epoch + 1, error)
        if self.is_pruned:
            self.model.stop_training = True

    def get_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"history": self._history, "is_pruned": self.is_pruned}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._history = list(state["history"])
        self.is_pruned = bool(state["is_pruned"])
