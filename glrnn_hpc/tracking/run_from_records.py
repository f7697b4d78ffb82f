"""Offline run of a trial, written from its local records.

A run ends without W&B if the client was absent or broken, or its disk was full; `glrnn sync` then writes it anew.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from glrnn_hpc import layout
from glrnn_hpc.config import load_yaml
from glrnn_hpc.errors import TrackingError, one_line
from glrnn_hpc.records.metrics import read_metrics
from glrnn_hpc.records.tracking_settings import read_tracking_settings
from glrnn_hpc.records.trial_result import read_trial_result
from glrnn_hpc.tracking.bounded_calls import BoundedCalls
from glrnn_hpc.tracking.offline_runs import OfflineRun, offline_runs
from glrnn_hpc.tracking.run import START_SECONDS
from glrnn_hpc.tracking.trial_run import TrialRun, open_trial_run


def write_run_from_records(sweep: layout.SweepFolder, number: int) -> OfflineRun:
    """Write the offline run of a trial that has a result.

    Raises
    ------
    TrackingError
        If the trial has no result, or W&B's client cannot write the run.
    """
    settings, trial = read_tracking_settings(sweep), sweep.trial(number)
    if settings is None or not trial.result.exists():
        raise TrackingError(f"{trial.root}: has no result, or its sweep is not tracked; there is no run to write.")
    result = read_trial_result(trial)
    config = load_yaml(trial.config) if trial.config.exists() else {}
    calls = BoundedCalls()
    offline = replace(settings, mode="offline")
    try:
        opened = calls.call(lambda: open_trial_run(sweep, offline, number, result.point, config), START_SECONDS)
        run = TrialRun(sweep, number, result.generation, opened, calls)
        run.log(*read_metrics(trial.metrics).rows)
        is_complete = run.finish(result)
    except Exception as error:
        with contextlib.suppress(Exception):  # W&B may be absent
            calls.recover()
        raise TrackingError(f"{trial.root}: W&B cannot write its run: {one_line(error)}") from error
    if not is_complete:
        raise TrackingError(f"{trial.root}: W&B could not write the whole run; is there room on the disk?")
    return offline_runs(trial)[-1]
