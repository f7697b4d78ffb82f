"""Final result of a trial: `result.json`, published once by the rank that ended it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.records.json_types import (
    VERSION,
    JsonObject,
    Point,
    integer_at,
    mapping_at,
    number_at,
    version_of,
    without_missing,
)
from glrnn_hpc.versions import Software

FinalState = Literal["finished", "pruned", "failed"]

#: Ends of a trial at a rank without a result: it waits for the next owner, or has been adopted by one.
Unfinished = Literal["released", "abandoned"]


@dataclass(frozen=True, kw_only=True)
class TrialOutcome:
    """Outcome of training a trial, before its result is published.

    Attributes
    ----------
    state : str
        finished, pruned or failed.
    value : float or None
        The metric that the search ranks by; None of a failed trial.
    metrics : dict or None
        Losses of the best epoch and of the test split by their names.
    epochs, best_epoch : int or None
        Number of epochs, and which one is kept, from 1.
    error, traceback : str or None
        Reason of a failure, and where it was raised if it was no `GlrnnError`.
    software : dict or None
        Versions of the worker that trained it, see `versions.software`.
    """

    state: FinalState
    value: float | None = None
    metrics: dict[str, float] | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    software: Software | None = None
    error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrialResult(TrialOutcome):
    """Published result of a trial.

    Attributes
    ----------
    number, generation : int
        Of the trial, and of the owner that ended it.
    point : dict
        Its searched parameters in the units of the configuration.
    started : float
        When that owner began [s since 1970].
    seconds : float
        Duration of that owner's training.
    version : str
        Of the form of the record.
    """

    number: int
    generation: int
    point: Point
    started: float
    seconds: float
    version: str = VERSION

    @classmethod
    def of(
        cls, outcome: TrialOutcome, *, number: int, generation: int, point: Point, started: float, seconds: float
    ) -> TrialResult:
        """Return the result of a trial whose training had this outcome."""
        return cls(**vars(outcome), number=number, generation=generation, point=point, started=started, seconds=seconds)

    def publish(self, folder: layout.TrialFolder) -> bool:
        """Write the result unless the trial has one; exactly one of many writers gets True."""
        return layout.publish_once(folder.result, self.as_json())

    def as_json(self) -> JsonObject:
        """Return what the file holds; keys that do not apply are left out."""
        return without_missing(asdict(self))


#: End of a trial at one rank.
TrialEnding = TrialResult | Unfinished


def read_trial_result(folder: layout.TrialFolder) -> TrialResult:
    """Read the result of a trial.

    Raises
    ------
    FileNotFoundError
        If the trial has none yet.
    RecordError
        If the file is broken.
    """
    path = folder.result
    content = layout.read_record(path, "state", "number", "generation", "point", "started", "seconds")
    if content["state"] not in get_args(FinalState):
        raise RecordError(
            f"{path}: is broken: state must be one of {', '.join(get_args(FinalState))}, it is {content['state']!r}."
        )
    metrics = content.get("metrics")
    if metrics is not None and not _is_numbers(metrics):
        raise RecordError(f"{path}: is broken: metrics must be numbers by name, they are {metrics!r}.")
    return TrialResult(
        state=content["state"],
        value=None if content.get("value") is None else number_at(path, content, "value"),
        metrics=metrics,
        epochs=integer_at(path, content, "epochs") if content.get("epochs") is not None else None,
        best_epoch=integer_at(path, content, "best_epoch") if content.get("best_epoch") is not None else None,
        software=content.get("software"),
        error=content.get("error"),
        traceback=content.get("traceback"),
        number=integer_at(path, content, "number"),
        generation=integer_at(path, content, "generation"),
        point=mapping_at(path, content, "point"),
        started=number_at(path, content, "started"),
        seconds=number_at(path, content, "seconds"),
        version=version_of(content),
    )


def _is_numbers(metrics: object) -> bool:
    return isinstance(metrics, dict) and all(isinstance(value, int | float) for value in metrics.values())
