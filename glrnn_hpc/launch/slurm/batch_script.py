"""Work of a Slurm job: calls that submitit makes in its ranks, and the lines of its batch script that requeue it."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glrnn_hpc import layout, logs
from glrnn_hpc.errors import WRONG_INPUT, GlrnnError
from glrnn_hpc.keras_import import import_keras
from glrnn_hpc.worker.preemption import PreemptionNotice

logger = logging.getLogger(__name__)

#: How often a job may come back whose ranks were never ready to train: a wrong environment would fail for ever.
_FALSE_STARTS = 2

#: Status of a step of ranks that could not begin: BSD's EX_UNAVAILABLE.
_NOT_BEGUN = 69


def work(root: str, n_ranks: int) -> None:
    """Work on a sweep; submitit calls this in every rank of a job."""
    # Before the imports, which take seconds: until then submitit would take the signal for itself.
    preemption = PreemptionNotice()
    # Here, as an h5py that reads by MPI-IO starts MPI when it is imported: not on the login node.
    from glrnn_hpc.worker import main

    logs.to_stderr()
    _with_short_errors(lambda: main.run(Path(root), job_name(), n_ranks, preemption))


def collect_best(root: str) -> None:
    """Export the best model of a sweep; submitit calls this in the job after the workers."""
    import_keras()
    from glrnn_hpc.collector import collect

    logs.to_stderr()
    summary = _with_short_errors(lambda: collect.collect(Path(root), top=1))
    logger.info("trial %d is the best: %s", summary["best"]["number"], summary["best"]["path"])


def _with_short_errors(call: Callable[[], Any]) -> Any:
    """Handle an error of the user's as the command line does: one message, and a status that is not requeued.

    submitit would write a traceback and end with status 1.
    """
    try:
        return call()
    except GlrnnError as error:
        logs.print_error(error)
        sys.exit(WRONG_INPUT)


def job_name() -> str:
    """Return the name of this job, which it keeps when it is requeued.

    One element of an array bears the array's own number as its SLURM_JOB_ID.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def teardown(max_restarts: int, folder: layout.SweepFolder) -> list[str]:
    """Return the last lines of the batch script: put the job into the queue again unless its ranks are done.

    A rank that dies ends the step, and Slurm would take the job for failed. Workers that still wait when every trial is
    done are cancelled: nobody needs them, and the job that collects would wait for them.

    Parameters
    ----------
    max_restarts : int
        How often a job comes back, beside the restarts of ranks that ended because of their memory.
    folder : SweepFolder
        The sweep.
    """
    worker = folder.worker("job")
    state = shlex.quote(str(folder.state))
    return [
        "status=$?",
        # Ranks end with 0 when the sweep has ended. A step that could not begin may have that status as well.
        f'if [ $status -eq 0 ] && grep -qs \'"state": "running"\' {state}; then status={_NOT_BEGUN}; fi',
        # Requeueing ends this very job by SIGTERM, before scontrol has its answer.
        "trap '' TERM",
        "job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}; job=${job:-$SLURM_JOB_ID}",
        # A job that is being cancelled is completing: it must not come back. The controller may be busy.
        "for pause in 1 5 20 60 120 0; do",
        '  state=$(squeue --noheader --jobs="$job" --format=%T 2>/dev/null) && break || sleep $pause',
        "done",
        f'worker={shlex.quote(str(folder.workers))}/"$job"',
        f"limit={max_restarts}",
        f'[ -e "$worker"/{worker.ready.name} ] || limit={min(max_restarts, _FALSE_STARTS)}',
        # Ranks that ended because of their memory had finished trials: a long sweep needs many such restarts.
        f'ends="$worker"/{worker.memory_ends.name}',
        '[ ! -e "$ends" ] || limit=$((limit + $(wc -l <"$ends")))',
        f'if [ $status -ne 0 ] && [ $status -ne {WRONG_INPUT} ] && [ "$state" = RUNNING ]; then',
        '  if [ "${SLURM_RESTART_COUNT:-0}" -lt $limit ]; then',
        '    echo "the ranks ended with status $status: job $job is put into the queue again" >&2',
        '    scontrol requeue "$job"',
        "  else",
        '    echo "the ranks ended with status $status after $limit restarts: job $job is given up" >&2',
        "  fi",
        f'elif [ $status -eq 0 ] && grep -qs \'"state": "finished"\' {state}; then',
        '  scancel --quiet --state=PENDING --name="$SLURM_JOB_NAME"',
        "fi",
        "exit $status",
    ]
