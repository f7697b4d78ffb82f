"""One trial: train its configuration, publish the result once, tell the study."""

from __future__ import annotations

import logging
import math
import time
import traceback
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.data.hdf5 import DemData
from glrnn_hpc.errors import GlrnnError
from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression
from glrnn_hpc.search.study import Claim, SweepStudy
from glrnn_hpc.search.sweep import SweepSpec, trial_config
from glrnn_hpc.train import run_training

logger = logging.getLogger(__name__)


def run(study: SweepStudy, claim: Claim, data: DemData) -> None:
    """Train the claimed trial; a trial that raises is recorded as failed and does not end the rank."""
    started = time.time()
    trial = study.folder.trial(claim.number)
    logger.info("trial %d begins: %s", claim.number, claim.point)
    try:
        result = _train(study.spec, claim, data, trial)
    except GlrnnError as error:
        logger.warning("trial %d failed: %s", claim.number, error)
        result = {"state": "failed", "error": str(error)}
    except Exception as error:
        logger.exception("trial %d failed", claim.number)
        result = {"state": "failed", "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
    result |= {"number": claim.number, "point": claim.point, "started": started, "seconds": time.time() - started}
    if not claim.lease.publish(result):
        logger.warning("trial %d was adopted by another worker; this result is dropped", claim.number)
        return
    _bring_up_model(trial)
    study.tell(claim.number, result)
    logger.info("trial %d %s: %s", claim.number, result["state"], result.get("metrics", result.get("error")))


def _train(spec: SweepSpec, claim: Claim, data: DemData, trial: layout.TrialFolder) -> dict[str, Any]:
    config = trial_config(spec, claim.point)
    preprocessor = PreprocessorTriaxialCompression(source=data, **config.as_dict())
    generation = trial.checkpoint(claim.lease.generation)
    outcome = run_training(preprocessor, config, trial, model_folder=generation)
    value = outcome.metrics[spec.metric]
    if not math.isfinite(value):
        return {"state": "failed", "error": f"{spec.metric} is {value}", "metrics": outcome.metrics}
    return {
        "state": "finished",
        "value": value,
        "metrics": outcome.metrics,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
    }


def _bring_up_model(trial: layout.TrialFolder) -> None:
    """Move the winner's model from its generation's folder to the trial's; the losers' files go."""
    winner = trial.checkpoint(layout.read_json(trial.result)["generation"])
    for name in (layout.MODEL_WHOLE, layout.MODEL_WEIGHTS):
        if (winner / name).exists():
            (winner / name).replace(trial.root / name)
    for generation in range(1, trial.newest_generation() + 1):
        layout.remove_folder(trial.checkpoint(generation))
