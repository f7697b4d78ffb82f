"""Failure that the first trials of a sweep share: the sweep stops, as the cause lies outside of the trials."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from optuna.trial import FrozenTrial, TrialState

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.records.ownership import read_worker_record
from glrnn_hpc.records.sweep_state import SweepState
from glrnn_hpc.records.trial_result import read_trial_result

#: Trials for each rank, or group of ranks that train together, that must have failed.
TRIALS_PER_RANK = 3

#: Characters of the error that the reason holds.
_LONGEST_ERROR = 500

#: Addresses of objects in an error, which differ between processes.
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


def reason_to_stop(
    folder: layout.SweepFolder, state: SweepState, ranks_per_trial: int, trials: Sequence[FrozenTrial]
) -> str | None:
    """Return why a sweep stops: its first trials failed with the same error; None if it goes on.

    A sweep goes on if a trial of it has ended well or is past its first epoch, if no trial waits, or if
    `launch.keep_going` is set. Trials that had failed when the sweep was last resumed do not count.

    Parameters
    ----------
    folder : SweepFolder
        The sweep.
    state : SweepState
        Its state.
    ranks_per_trial : int
        Ranks that train one trial together.
    trials : sequence of FrozenTrial
        All trials of the study.
    """
    kinds = {trial.state for trial in trials}
    if state.launch.keep_going or TrialState.WAITING not in kinds or kinds & {TrialState.COMPLETE, TrialState.PRUNED}:
        return None
    failed = [trial for trial in trials if trial.state is TrialState.FAIL]
    failed.sort(key=lambda trial: (trial.datetime_complete or datetime.min, trial.number))
    n_needed = TRIALS_PER_RANK * (_n_ranks(folder, state) // ranks_per_trial)
    first = failed[state.n_failed_before :][:n_needed]
    if n_needed == 0 or len(first) < n_needed:
        return None
    if any(_has_epoch(folder.trial(trial.number)) for trial in trials if trial.state is TrialState.RUNNING):
        return None
    shared = _error(folder, first[0])
    if shared is None or any(_error(folder, trial) != shared for trial in first[1:]):
        return None
    return f"the first {n_needed} trials failed with the same error: {shared.splitlines()[0][:_LONGEST_ERROR]}"


def _n_ranks(folder: layout.SweepFolder, state: SweepState) -> int:
    """Return the ranks of all workers; where a script starts these, of those that have registered."""
    if state.launch.workers:
        return state.launch.workers * state.launch.ranks_per_worker
    n_ranks = 0
    for worker in folder.all_workers():
        try:
            record = read_worker_record(worker)
        except RecordError:  # damaged by a crash of the file server
            continue
        n_ranks += 0 if record is None else len(record.ranks)
    return n_ranks


def _has_epoch(trial: layout.TrialFolder) -> bool:
    try:
        return read_metrics(trial.generation(trial.newest_generation()).metrics).n_epochs > 0
    except RecordError:  # it is being written
        return True


def _error(folder: layout.SweepFolder, trial: FrozenTrial) -> str | None:
    try:
        error = read_trial_result(folder.trial(trial.number)).error
    except (OSError, RecordError):
        return None
    if not error:
        return None
    # The trial's own folder differs between trials, the cause does not.
    return _ADDRESS.sub("0x", error.replace(str(folder.trial(trial.number).root), str(folder.trials / "N")))
