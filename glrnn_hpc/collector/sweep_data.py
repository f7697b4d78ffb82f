"""Data of a sweep that was made: where they are now, and whether they are the same."""

from __future__ import annotations

import json
from pathlib import Path

from glrnn_hpc.data.hdf5_access import check_file
from glrnn_hpc.data.shared import DemData, read_data
from glrnn_hpc.errors import ConfigError, DataError, GlrnnError, RecordError
from glrnn_hpc.keras_import import import_keras
from glrnn_hpc.records.json_types import Point
from glrnn_hpc.records.train_stats import read_train_stats
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import (
    GROUP_KEYS,
    build_preprocessor,
    experiment_of,
    group_choices,
    preprocessor_of,
    trial_config,
)
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


def check_same_data(study: SweepStudy, spec: SweepSpec, source: DemData | None = None) -> None:
    """Check that the data are those of the trials that have read them; any will do, if none has yet.

    Parameters
    ----------
    study : SweepStudy
        Of the sweep.
    spec : SweepSpec
        The sweep with the path of the data.
    source : DemData, optional
        The data in memory; they are read if there are none, and a trial to compare with.

    Raises
    ------
    DataError
        If they hold other sequences.
    """
    check_file(Path(spec.data_file))
    seen = set()
    for slot in study.slots():
        path = study.folder.trial(slot.number).train_stats
        # Trials that choose the same groups have the same fingerprint; sweeps have thousands of them.
        chosen = json.dumps([slot.params.get(key) for key in GROUP_KEYS])
        if not slot.params or chosen in seen or not path.exists():
            continue
        try:
            recorded = read_train_stats(path).get("fingerprint")
        except RecordError:  # damaged; `glrnn collect` names it
            continue
        if recorded is None:
            continue
        seen.add(chosen)
        if source is None:
            source = read_data(spec.data_file, *group_choices(spec), experiment=experiment_of(spec))
        try:
            _check_fingerprint(spec, slot.params, source, recorded)
        except DataError as error:
            raise DataError(
                f"{error} Its path is written in {study.folder.sweep} (parameters.raw_data); put the data of trial "
                f"{slot.number} back, or make a new sweep with another --out."
            ) from error


def _check_fingerprint(spec: SweepSpec, point: Point, source: DemData, recorded: str) -> None:
    """Check that the data of a point have the recorded fingerprint.

    Raises
    ------
    DataError
        If not, or if the user's own preprocessor fails.
    """
    # They bring TensorFlow, which no other resume needs.
    import_keras()
    from glrnn_hpc.preprocessor.fingerprint import check_fingerprint
    from glrnn_hpc.preprocessor.from_file import FilePreprocessor, preprocessor_of_file

    own = preprocessor_of(spec)
    if own is None:
        preprocessor = preprocessor_of_file(trial_config(spec, point).as_dict(), source)
    elif not issubclass(own, FilePreprocessor):
        return
    else:
        try:
            preprocessor = build_preprocessor(spec, point, source)
        except GlrnnError:
            raise
        except Exception as error:  # the user's own code can raise anything
            raise DataError(f"the sweep's own preprocessor failed: {type(error).__name__}: {error}") from error
    check_fingerprint(spec.data_file, preprocessor.fingerprint(), recorded)
