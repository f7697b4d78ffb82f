"""Data of a sweep that was made: where they are now, and whether they are the same."""

from __future__ import annotations

from pathlib import Path

from glrnn_hpc.data.hdf5_access import check_file
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.keras_import import import_keras
from glrnn_hpc.records.train_stats import read_train_stats
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import trial_config
from glrnn_hpc.study.resolved_sweep import with_data_at
from glrnn_hpc.study.study import SweepStudy


def read_data_from(study: SweepStudy, raw_data: str | Path | None) -> None:
    """Let a sweep's data be read from another path than its file names; nothing is written.

    Parameters
    ----------
    study : SweepStudy
        Of the sweep; its `spec` has the path afterwards.
    raw_data : path or None
        Where the data are now; None for where the sweep's file says.

    Raises
    ------
    ConfigError
        If the sweep reads no file.
    DataError
        If there is none, or it holds other sequences than the trials were trained on.
    """
    if raw_data is not None:
        study.spec = with_moved_data(study.spec, raw_data)
        check_same_data(study, study.spec)
    check_data_is_there(study)


def with_moved_data(spec: SweepSpec, raw_data: str | Path) -> SweepSpec:
    """Return a sweep with another path of its data.

    Raises
    ------
    ConfigError
        If it reads no file.
    """
    if "raw_data" not in spec.constants:
        raise ConfigError(f"--raw-data {raw_data}: the sweep has a preprocessor of its own, and names no file.")
    return with_data_at(spec, str(Path(raw_data).resolve()))


def check_data_is_there(study: SweepStudy) -> None:
    """Check that the data are where the sweep says.

    Raises
    ------
    DataError
        If not, with the file in which their path is written.
    """
    if "raw_data" not in study.spec.constants:
        return
    try:
        check_file(Path(study.spec.data_file))
    except DataError as error:
        raise DataError(
            f"{error} The path is written in {study.folder.sweep} (parameters.raw_data); if the data have moved, "
            "`--raw-data PATH` of collect, report and resume says where they are."
        ) from error


def check_same_data(study: SweepStudy, spec: SweepSpec) -> None:
    """Check that the data are those of a trial that has read them; any will do, if none has yet.

    Raises
    ------
    DataError
        If they hold other sequences.
    """
    check_file(Path(spec.data_file))
    for slot in study.slots():
        path = study.folder.trial(slot.number).train_stats
        if not slot.params or not path.exists():
            continue
        stats = read_train_stats(path)
        if "fingerprint" in stats:
            # They bring TensorFlow, which no other resume needs.
            import_keras()
            from glrnn_hpc.preprocessor.fingerprint import check_fingerprint
            from glrnn_hpc.preprocessor.from_file import preprocessor_of_file

            preprocessor = preprocessor_of_file(trial_config(spec, slot.params).as_dict())
            check_fingerprint(spec.data_file, preprocessor.fingerprint(), stats["fingerprint"])
            return
