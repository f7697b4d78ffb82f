"""Where an exported model comes from, for what it holds and how good it is: `provenance.json`."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.collector.verify import Verified, errors_per_label
from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.data.hdf5 import read_schema, select_groups
from glrnn_hpc.errors import DataError
from glrnn_hpc.predict import LABEL_UNITS
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.sequences import Sequences
from glrnn_hpc.study import leases
from glrnn_hpc.study.study import SweepStudy
from glrnn_hpc.surrogate.artifact import find_model
from glrnn_hpc.versions import software

Array = NDArray[Any]

#: Of this file's form.
FORMAT = 1

#: Sequences whose least and greatest values are looked for at once, which bounds the memory.
_PART = 4096


class Checksums:
    """SHA-256 of files, of each one once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """Return the checksum of a file in hexadecimal digits.

        Raises
        ------
        DataError
            If it cannot be read.
        """
        key = path.resolve()
        if key not in self._known:
            digest = hashlib.sha256()
            try:
                with path.open("rb") as file:
                    while part := file.read(2**22):
                        digest.update(part)
            except FileNotFoundError as error:
                raise DataError(f"{path}: there is no such file.") from error
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
            self._known[key] = digest.hexdigest()
        return self._known[key]


def provenance_of(study: SweepStudy, verified: Verified, refused: list[int], checksums: Checksums) -> dict[str, Any]:
    """Return what `provenance.json` tells of a verified trial.

    Parameters
    ----------
    study : SweepStudy
        Its sweep.
    verified : Verified
        The trial.
    refused : list of int
        Trials of the same sweep whose files could not be verified.
    checksums : Checksums
        Those that are known already.

    Returns
    -------
    dict
        What the documentation (docs/sweeps.md) describes; plain types only.
    """
    spec, result, stats, config = study.spec, verified.result, verified.stats, verified.config
    errors, mse = errors_per_label(verified)
    model_file = find_model(verified.folder.root)
    return {
        "format": FORMAT,
        "sweep": {
            "name": str(spec.labels.get("name", study.folder.root.resolve().name)),
            "folder": str(study.folder.root.resolve()),
            **{"method": spec.method, "metric": spec.metric, "goal": spec.goal, "seed": spec.seed},
            "n_trials": len(study.slots()),
        },
        "trial": result["number"],
        "generation": result["generation"],
        "refused": refused,
        "point": result["point"],
        "seed": config.seed,
        "split_seed": stats.get("split_seed", SPLIT_SEED),
        **{key: result[key] for key in ("epochs", "best_epoch", "metrics")},
        "recomputed": verified.recomputed,
        "errors": errors,
        "mse_standardised": mse,
        "data": _data(study, verified, checksums),
        "sequence_length": stats.get("sequence_length"),
        "window_size": config.window_size,
        "pad_length": config.pad_length,
        **_columns(verified),
        "model": {
            "file": model_file.name,
            "sha256": checksums.of(model_file),
            "weights": int(verified.model.count_params()),
        },
        "trained_on": _owner(verified),
        "trained_with": result.get("software"),
        "exported": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": socket.gethostname(),
        **software(),
    }


def _owner(verified: Verified) -> dict[str, Any] | None:
    """Return the worker that trained the last epochs."""
    with contextlib.suppress(FileNotFoundError):
        owner = leases.owner_of(verified.folder, verified.result["generation"])
        return None if owner is None else {"host": owner.process.host, "job": owner.job, "rank": owner.rank}
    return None


def _data(study: SweepStudy, verified: Verified, checksums: Checksums) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(("path", "sha256", "bytes", "groups", "sequences"))
    found["fingerprint"] = verified.stats.get("fingerprint")
    if "raw_data" in study.spec.constants:
        path = Path(study.spec.constants["raw_data"])
        found |= {"path": str(path), "sha256": checksums.of(path), "bytes": path.stat().st_size}
        if found["fingerprint"] is not None:
            groups = select_groups(read_schema(path), verified.config.pressure, verified.config.experiment_type)
            found["groups"] = [group.name for group in groups]
    if isinstance(verified.data, PreparedData):
        found["sequences"] = {name: len(split) for name, split in verified.data.splits.items()}
    return found


def _columns(verified: Verified) -> dict[str, list[dict[str, Any]]]:
    """Return the columns of the model in its order, with their ranges in the training split, in original units."""
    stats, data = verified.stats, verified.data
    inputs, params, labels = (
        _inputs_params_labels(data.splits["train"]) if isinstance(data, PreparedData) else [None] * 3
    )
    columns = {
        "load_features": _ranges(_names(stats, "input", "num_input_features"), inputs),
        "parameters": _ranges(_names(stats, "param", "num_params"), params),
        "labels": _ranges(verified.label_names(), labels),
    }
    for k, label in enumerate(columns["labels"]):
        label["unit"] = LABEL_UNITS.get(label["name"])
        label |= {kind: float(stats[kind][k]) if kind in stats else None for kind in ("mean", "std")}
    return columns


def _names(stats: dict[str, Any], kind: str, count: str) -> list[str]:
    return list(stats.get(f"{kind}_names") or (f"{kind}_{k}" for k in range(stats[count])))


def _ranges(names: list[str], ranges: Array | None) -> list[dict[str, Any]]:
    least, greatest = [[None] * len(names)] * 2 if ranges is None else ranges.tolist()
    return [{"name": name, "min": low, "max": high} for name, low, high in zip(names, least, greatest, strict=True)]


def _inputs_params_labels(sequences: Sequences) -> list[Array]:
    """Return the least and greatest values, (2, n_columns), of inputs, parameters and labels, part by part."""
    found = []
    for values in (sequences.inputs, sequences.labels):
        parts = [_extremes(values[rows], (0, 1)) for rows in _rows(sequences)]
        found.append(_extremes(np.concatenate(parts), (0,)))
    return [found[0], _extremes(sequences.params, (0,)), found[1]]


def _rows(sequences: Sequences) -> Iterator[Array]:
    rows = np.sort(sequences.rows)
    for start in range(0, len(rows), _PART):
        yield rows[start : start + _PART]


def _extremes(values: Array, axes: tuple[int, ...]) -> Array:
    return np.stack([values.min(axis=axes), values.max(axis=axes)]).astype("float64")
