"""Prediction of the sequences of a data file, written in the same structure beside the simulated responses."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.data.hdf5 import GroupShape, write_file
from glrnn_hpc.data.shared import DemData
from glrnn_hpc.errors import ConfigError, DataError, ModelError
from glrnn_hpc.predict import get_pretrained_model, predict_sequences
from glrnn_hpc.preprocessor.fingerprint import check_fingerprint
from glrnn_hpc.preprocessor.from_file import FilePreprocessor, preprocessor_of_model
from glrnn_hpc.preprocessor.splits import label_scaling, split_ids
from glrnn_hpc.records.train_stats import shape_in
from glrnn_hpc.surrogate import evaluate, shipped
from glrnn_hpc.surrogate.ensemble import Ensemble, EnsemblePrediction
from glrnn_hpc.surrogate.intervals import coverage
from glrnn_hpc.surrogate.prediction import check_length, check_size
from glrnn_hpc.windows import first_predicted_step, n_predictions_of_padding

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: Data sets of a prediction with intervals, beside `outputs`.
BAND = ("std", "lower", "upper")


def predict_file(
    model_dir: str | Path, data_path: str | Path, out: str | Path, split: str = "test", *, any_length: bool = False
) -> dict[str, Any]:
    """Predict the sequences of an HDF5 file and write them in the same structure.

    Parameters
    ----------
    model_dir : path
        Folder of the trained model, or the name of a shipped one.
    data_path : path
        The data; the groups that the model was trained on are selected.
    out : path
        File to write: each group holds `inputs` (the load features of the data; derived ones are left out),
        `contact_params`, `outputs` (predicted), `simulated`, all from the first predicted step on, and `samples`, the
        positions in the group of the data file; of an ensemble also `std`, `lower` and `upper`, the standard deviation
        and the bounds of the 90 % interval of each prediction.
    split : str
        `test`: the sequences that the training never saw; `all`: every one.
    any_length : bool
        Whether sequences of another length than those of the training are predicted, with a warning, or refused.

    Returns
    -------
    dict
        `metrics` per label in original units, `units` of the labels that have one, `mse_standardised` in units of
        `mse_scale`: `std` of the labels in the training, 1 where the model does not record it; `n_sequences`, `output`.
        Of an ensemble also `interval_level` and `coverage`, the part of the simulated values of each label that the
        intervals hold.

    Raises
    ------
    ConfigError
        If `split` is neither `test` nor `all`.
    DataError, ModelError, WindowError
        If the data cannot be read or do not fit the model.
    """
    if split not in ("test", "all"):
        raise ConfigError(f"split: {split!r} is not one of test, all.")
    model_dir = shipped.folder_of(model_dir)
    _check_target(Path(out), model_dir, Path(data_path))
    model, stats, config = get_pretrained_model(model_dir)
    config = {**config, "raw_data": str(data_path)}
    preprocessor = preprocessor_of_model(config)
    _check_names(preprocessor, stats)
    sequences = preprocessor.all_sequences()
    ids = np.arange(len(sequences))
    if split == "test":
        # A preprocessor of the user's own leaves none: which sequences it trained on cannot be known here.
        try:
            check_fingerprint(data_path, preprocessor.fingerprint(), stats.get("fingerprint"))
        except DataError as error:
            raise ModelError(f"{error} Its test split is not known; use --split all.") from error
        seed = stats.get("split_seed", SPLIT_SEED)
        ids = np.sort(split_ids(len(ids), config["train_frac"], config["val_frac"], seed)["test"])
    inputs, params, labels = sequences.take(ids).arrays()
    try:
        check_length(f"{data_path}: the data", inputs.shape[1], stats, config)
    except DataError as error:
        if not any_length:
            raise
        logger.warning("%s", error)
    window_size, pad_length = int(config["window_size"]), int(config["pad_length"])
    n_left_out = n_predictions_of_padding(window_size, pad_length)
    simulated = labels[:, window_size + n_left_out :]
    band: EnsemblePrediction | None = None
    if isinstance(model, Ensemble):
        band = model.predict(inputs[:, pad_length:], params)
        predicted = band.mean
    else:
        predicted = predict_sequences(model, inputs, params, stats, config)[:, n_left_out:]
    if not np.isfinite(predicted).all():
        raise ModelError(f"{model_dir}: the model gives values that are not finite; it is of no use.")
    data = preprocessor.source()
    units = preprocessor.experiment.units()
    # A model of GrainLearning with labels as they are does not record their scale.
    scaling = label_scaling(stats)
    divisor = np.ones(predicted.shape[-1]) if scaling is None else scaling.divisor()
    sums = evaluate.ErrorSums(data.schema.outputs, divisor)
    sums.add(predicted, simulated)
    metrics = sums.metrics()
    first = first_predicted_step(window_size, pad_length)
    arrays = {"simulated": simulated} | ({} if band is None else {name: getattr(band, name) for name in BAND})
    _write(Path(out), data, preprocessor.groups(), ids, predicted, arrays, first, units)
    answer = {
        "metrics": metrics.as_dict(),
        "units": {name: units[name] for name in data.schema.outputs if name in units},
        "mse_standardised": metrics.mse_standardised,
        "mse_scale": "1" if scaling is None else "std",
        "n_sequences": len(ids),
        "output": str(out),
    }
    if band is not None:
        parts = coverage(band.lower, band.upper, simulated).tolist()
        answer["interval_level"] = model.intervals.level
        answer["coverage"] = dict(zip(data.schema.outputs, parts, strict=True))
    return answer


def _check_target(out: Path, model_dir: Path, data_path: Path) -> None:
    """Refuse to write over the data or into the model."""
    target = out.resolve()
    if target == data_path.resolve():
        raise ConfigError(f"{out}: is the file with the simulations; choose another one for the predictions.")
    if target.is_dir() or (target.exists() and model_dir.resolve() in target.parents):
        raise ConfigError(f"{out}: is a folder, or belongs to the model; choose another file for the predictions.")


def _check_names(preprocessor: FilePreprocessor, stats: Mapping[str, Any]) -> None:
    """Refuse data whose columns are not those of the training, in the same order."""
    for kind, given in preprocessor.column_names().items():
        training_names = stats.get(f"{kind}_names")
        if training_names is not None and list(training_names) != given:
            hint = " `glrnn parse --inputs` chooses the columns." if kind == "input" else ""
            raise ModelError(
                f"the model was trained with the {kind} columns {', '.join(training_names)}; "
                f"{preprocessor.config.raw_data} has {', '.join(given)}.{hint}"
            )
    check_size("labels", len(preprocessor.column_names()["label"]), shape_in(stats, "num_labels"))


def _write(
    out: Path,
    data: DemData,
    shapes: Sequence[GroupShape],
    ids: Array,
    predicted: Array,
    arrays: Mapping[str, Array],
    first: int,
    units: Mapping[str, str],
) -> None:
    """Write what was predicted, and `arrays` of the same shape by their names, group by group."""
    schema = data.schema
    # Columns that all groups have: one attribute of the file names them.
    features = [name for name in schema.inputs_of(shapes[0]) if all(name in schema.inputs_of(each) for each in shapes)]
    groups, extra, start = {}, {}, 0
    for shape in shapes:
        chosen = np.flatnonzero((ids >= start) & (ids < start + shape.n_samples))
        samples = ids[chosen] - start
        start += shape.n_samples
        if len(samples) == 0:
            continue
        of_group = data.groups[shape.name]
        columns = [schema.inputs_of(shape).index(name) for name in features]
        groups[shape.name] = (of_group.params[samples], of_group.inputs[samples][:, first:, columns], predicted[chosen])
        extra[shape.name] = {**{name: values[chosen] for name, values in arrays.items()}, "samples": samples}
    write_file(
        out,
        groups,
        contact_params=schema.contact_params,
        inputs=features,
        outputs=schema.outputs,
        units=units,
        extra=extra,
    )
