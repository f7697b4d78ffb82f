"""Records of a sweep: one module for each file that a process writes and another one reads.

Each record is a type with one reader and one writer. The writer adds the key `version`; a record without it is of
version 0.1.0, whose keys are all still read.
"""

from glrnn_hpc.records.json_types import JsonObject, JsonValue, Point
from glrnn_hpc.records.metrics import EpochMetrics, Metrics
from glrnn_hpc.records.ownership import Owner, WorkerRecord
from glrnn_hpc.records.sweep_state import LaunchSettings, SweepState, Timing
from glrnn_hpc.records.trial_result import FinalState, TrialOutcome, TrialResult
from glrnn_hpc.records.utilisation import Devices, Utilisation

__all__ = [
    "Devices",
    "EpochMetrics",
    "FinalState",
    "JsonObject",
    "JsonValue",
    "LaunchSettings",
    "Metrics",
    "Owner",
    "Point",
    "SweepState",
    "Timing",
    "TrialOutcome",
    "TrialResult",
    "Utilisation",
    "WorkerRecord",
]
