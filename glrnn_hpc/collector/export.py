"""Export of the best trial: the folder that it goes to, and its files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from glrnn_hpc import layout, processes
from glrnn_hpc.collector.validation_errors import write_errors_of_trial
from glrnn_hpc.collector.verify import Verified
from glrnn_hpc.errors import ConfigError, SweepError
from glrnn_hpc.records.provenance import Provenance, write_provenance
from glrnn_hpc.surrogate.artifact import find_model


def export_folder(sweeps: list[Path], out: Path | None) -> Path:
    """Return the folder of the export, which may be made or replaced.

    Parameters
    ----------
    sweeps : list of Path
        Folders of the sweeps.
    out : Path or None
        Folder that the user wants; None for `best/` in the folder of a single sweep.

    Raises
    ------
    ConfigError
        If no sweep is given, several have no `out`, or `out` holds something else than an export.
    """
    if not sweeps:
        raise ConfigError("DIR: give the folder of a sweep.")
    if out is None and len(sweeps) > 1:
        raise ConfigError(f"--out: {len(sweeps)} sweeps have one best model; say in which folder it shall be exported.")
    if out is None:
        return layout.SweepFolder(sweeps[0]).best.root
    target = layout.RunFolder(out)
    if out.exists() and not (target.provenance.exists() or layout.is_empty(out)):
        raise ConfigError(
            f"--out {out}: is there and no earlier export, which would be replaced; choose another folder."
        )
    if out.resolve() == Path.cwd():
        raise ConfigError(f"--out {out}: is the current folder, which cannot be replaced; choose another one.")
    return target.root.resolve()


def export_trial(files: Verified, provenance: Provenance, target: Path) -> None:
    """Copy the files of a trial, write its provenance and the covariance of its errors on the validation split.

    An earlier export stays until the new one is whole.

    Raises
    ------
    SweepError
        If the files cannot be put there.
    """
    with replacing_export(target) as partial:
        copy_model(files.folder, partial)
        write_provenance(partial.provenance, provenance)
        write_errors_of_trial(partial.error_covariance, files)


@contextlib.contextmanager
def replacing_export(target: Path) -> Iterator[layout.RunFolder]:
    """Give an empty folder beside `target` that takes its place at the end, unless the block raises.

    Raises
    ------
    SweepError
        If the files cannot be put there.
    """
    partial = layout.RunFolder(layout.partial_folder(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        layout.remove_partials(target.parent, target.name, processes.is_gone_here)
        partial.root.mkdir()
        yield partial
        layout.replace_folder(partial.root, target)
    except OSError as error:
        raise SweepError(f"{target}: the export cannot be put there: {error}") from error
    finally:
        layout.remove_folder(partial.root)


def copy_model(trial: layout.TrialFolder, folder: layout.RunFolder) -> None:
    """Copy the files of a trial's model and its metrics into a folder that nobody reads yet.

    Raises
    ------
    ModelError
        If there is no model.
    OSError
        If they cannot be copied.
    """
    for path in (trial.config, trial.train_stats, trial.metrics, find_model(trial.root)):
        layout.copy_file(path, folder.root / path.name)
