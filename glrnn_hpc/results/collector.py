"""Pick the best trial of a sweep, prove it by evaluating its files again, export it."""

from __future__ import annotations

import contextlib
import errno
import logging
import platform
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from glrnn_hpc import layout
from glrnn_hpc.data.shared import DemData
from glrnn_hpc.errors import GlrnnError, SweepError
from glrnn_hpc.predict import validation_loss
from glrnn_hpc.results.status import best_first, summarize
from glrnn_hpc.search.study import SweepStudy
from glrnn_hpc.search.sweep import build_preprocessor, preprocessor_of
from glrnn_hpc.surrogate.artifact import find_model

logger = logging.getLogger(__name__)

#: Relative difference that the logged and the recomputed validation loss may have.
TOLERANCE = 1e-5

#: What rounding leaves of a loss that is zero.
_ROUNDING = 1e-12


def collect(root: Path, top: int = 5, source: DemData | None = None) -> dict[str, Any]:
    """Verify the finished trials in the order of their metric until one holds, and export it to `best/`.

    Parameters
    ----------
    root : Path
        Folder of the sweep; it may still be running.
    top : int
        How many of the best trials to list.
    source : DemData, optional
        The data of the sweep, where they are in memory already.

    Returns
    -------
    dict
        What `status.summarize` returns, and of the best trial its parameters and the path of the export; `top`,
        `refused` (trials whose files do not give the loss that was logged), `rank_hours`.

    Raises
    ------
    SweepError
        If no trial has finished, or none of them can be verified.
    """
    study = SweepStudy(layout.SweepFolder(root))
    summary = summarize(root)
    ranking = best_first(study.slots(), study.spec.goal)
    if not ranking:
        raise SweepError(f"{root}: no trial has finished yet; `glrnn status {root}` shows how far they are.")
    results = {slot.number: layout.read_json(study.folder.trial(slot.number).result) for slot in ranking}
    refused = []
    for slot in ranking:
        problem = _refutation(study, results[slot.number], source)
        if problem is None:
            break
        logger.warning("trial %d is refused: %s", slot.number, problem)
        refused.append({"number": slot.number, "reason": problem})
    else:
        raise SweepError(f"{root}: none of {len(ranking)} finished trials can be verified: {refused[0]['reason']}")
    export = _export(study, slot.number, results[slot.number])
    summary["best"] = {
        "number": slot.number,
        "value": slot.value,
        "config": results[slot.number]["point"],
        "metrics": results[slot.number]["metrics"],
        "path": str(export),
    }
    summary["top"] = [
        {"number": s.number, "value": s.value, "config": results[s.number]["point"]} for s in ranking[:top]
    ]
    summary["refused"] = refused
    summary["rank_hours"] = _rank_hours(study.folder)
    return summary


def _refutation(study: SweepStudy, result: dict[str, Any], source: DemData | None) -> str | None:
    """Return why the files of a trial do not give what was logged; None if they do."""
    trial = study.folder.trial(result["number"])
    has_own = preprocessor_of(study.spec) is not None
    own = build_preprocessor(study.spec, result["point"], source) if has_own else None
    logged = result["metrics"]["val_loss"]
    try:
        computed = validation_loss(trial.root, source, own)["loss"]
    except GlrnnError as error:
        return str(error)
    # So that NaN is refused too; two losses of a constant that is met exactly differ by rounding alone.
    if not abs(computed - logged) <= max(TOLERANCE * abs(logged), _ROUNDING):
        return f"val_loss was logged as {logged:.8g}, its files give {computed:.8g}"
    return None


def _export(study: SweepStudy, number: int, result: dict[str, Any]) -> Path:
    trial = study.folder.trial(number)
    best = study.folder.best
    partial = layout.RunFolder(layout.partial_folder(best.root))
    partial.root.mkdir()
    for path in (trial.config, trial.train_stats, trial.metrics, find_model(trial.root)):
        shutil.copyfile(path, partial.root / path.name)
    provenance = {
        "sweep": study.spec.labels.get("name", study.folder.root.resolve().name),
        "trial": number,
        "exported": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("glrnn_hpc", "tensorflow", "keras", "numpy", "h5py")},
        **{key: result[key] for key in ("point", "metrics", "epochs", "best_epoch", "generation")},
    }
    layout.write_json(partial.provenance, provenance)
    # A folder cannot be replaced by one that holds files; another collect may do the same at the same time.
    while True:
        try:
            partial.root.rename(best.root)
            return best.root
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise SweepError(f"{best.root}: the export cannot be put there: {error}") from error
        earlier = layout.partial_folder(best.root)
        with contextlib.suppress(FileNotFoundError):
            best.root.rename(earlier)
        layout.remove_folder(earlier)


def _rank_hours(folder: layout.SweepFolder) -> float:
    """Return the time that ranks spent on trials that have a result [h]."""
    results = folder.trials.glob("*/result.json")
    return float(sum(layout.read_json(path)["seconds"] for path in results)) / 3600
