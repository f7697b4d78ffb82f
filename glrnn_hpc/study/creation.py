"""Creation of a sweep's folder and its study: a whole one or none."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import optuna

from glrnn_hpc import config, layout, processes
from glrnn_hpc.errors import SweepError
from glrnn_hpc.records.sweep_state import LaunchPlan, SweepState
from glrnn_hpc.records.tracking_settings import TrackingSettings
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.study import resolved_sweep, storage
from glrnn_hpc.study.slots import waiting_slot


def create(
    root: Path,
    spec: SweepSpec,
    n_trials: int,
    launch: LaunchPlan,
    *,
    url: str | None = None,
    tracking: TrackingSettings | None = None,
) -> layout.SweepFolder:
    """Make the folder of a sweep with `n_trials` waiting trials; it appears under its name only when complete.

    Parameters
    ----------
    root : Path
        The folder to make.
    spec : SweepSpec
        The sweep.
    n_trials : int
        Number of slots.
    launch : LaunchPlan
        How its workers are started.
    url : str, optional
        A database in place of the journal file.
    tracking : TrackingSettings, optional
        How the trials are logged to W&B; None if they are not.

    Raises
    ------
    SweepError
        If the folder holds a sweep already, or anything else, or the database cannot be used.
    """
    folder = layout.SweepFolder(root)
    check_free(root)
    partial = layout.SweepFolder(layout.partial_folder(root))
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        layout.remove_partials(root.parent, root.name, processes.is_gone_here)
        partial.root.mkdir()
        for path in (partial.workers, partial.trials):
            path.mkdir()
        layout.write_text(partial.sweep, config.dump_yaml(spec.as_dict()))
        if tracking is not None:
            tracking.write(partial)
        # In a database, the names of all sweeps share one space.
        opened = storage.create(partial, url, f"{root.name}-{secrets.token_hex(4)}")
        study = optuna.create_study(storage=opened, study_name=storage.study_name(partial), direction=spec.goal)
        resolved_sweep.keep(study, spec)
        for index in range(n_trials):
            study.add_trial(waiting_slot(index))
        SweepState("running", n_trials, time.time(), launch).write(partial)
        if root.exists():
            root.rmdir()
        partial.root.rename(root)
    except OSError as error:
        layout.remove_folder(partial.root)
        raise SweepError(f"{root}: the sweep's folder cannot be made: {error}") from error
    except BaseException:
        layout.remove_folder(partial.root)
        raise
    return folder


def check_free(root: Path) -> None:
    """Check that a sweep can be made in a folder.

    Raises
    ------
    SweepError
        If it holds a sweep already, or anything else.
    """
    if layout.SweepFolder(root).sweep.exists():
        raise SweepError(
            f"{root}: holds a sweep already; `glrnn resume {root}` goes on with it, or choose another --out."
        )
    layout.check_free(root)
