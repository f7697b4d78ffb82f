"""Write the tables of docs/models.md anew, from the records and the answers of the shipped models.

`python .ci/model_page.py` after `ship_model.py`; the text around the tables stays as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc import layout
from glrnn_hpc.baseline.fit import baseline_key, fit_baseline
from glrnn_hpc.config import load_yaml
from glrnn_hpc.predict import get_pretrained_model, predict_sequences
from glrnn_hpc.preprocessor.from_file import FilePreprocessor
from glrnn_hpc.preprocessor.splits import split_ids
from glrnn_hpc.records.provenance import MemberOrigin, Provenance, read_provenance
from glrnn_hpc.surrogate import shipped

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
NAMES = ("dem-all", "dem-drained", "dem-undrained", "dem-cyclic")
LABELS = ("e", "p", "q", "f0", "a_c", "a_n", "a_t")

#: What the columns mean that a user gives.
MEANINGS = {
    "E": "log10 of the contact Young's modulus in Pa",
    "v": "ratio of tangential to normal contact stiffness",
    "kr": "rolling stiffness",
    "eta": "rolling friction",
    "mu": "friction angle in degrees",
    "pressure": "confining pressure in MPa; the data have 0.2, 0.5 and 1.0 only",
    "experiment_type": "1 drained, 0 undrained",
    "e0": "initial void ratio",
    "e_x": "logarithmic strain, compression positive",
    "e_y": "the same",
    "e_z": "the same, axial",
}

#: The first step of the errors by type of test.
FIRST_STEP = 10

Array = NDArray[Any]


def provenance_of(name: str) -> Provenance:
    """Return the provenance of a shipped model."""
    return read_provenance(layout.RunFolder(shipped.FOLDER / name).provenance)


def members_of(provenance: Provenance) -> list[MemberOrigin]:
    """Return the members of a shipped model."""
    if provenance.ensemble is None:
        raise SystemExit("the page is written for ensembles: `glrnn collect --ensemble K`")
    return provenance.ensemble.members


def table_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines).replace("|  |", "| |")


def ranges_table() -> str:
    """Return the ranges of parameters and load features."""
    found = {name: provenance_of(name) for name in NAMES}
    rows = []
    for column, meaning in MEANINGS.items():
        cells = []
        for provenance in found.values():
            given = {each.name: each.range for each in (*provenance.parameters, *provenance.load_features)}
            low_high = given.get(column)
            cells.append("-" if low_high is None else f"{low_high[0] + 0.0:.3g} to {low_high[1] + 0.0:.3g}")
        rows.append([column, meaning, *cells])
    return table_of(["", "meaning", *(f"`{name}`" for name in NAMES)], rows)


def accuracy_table(name: str) -> str:
    """Return the errors of a model per label on its test split, and the coverage of its intervals."""
    provenance = provenance_of(name)
    units = {each.name: each.unit or "-" for each in provenance.labels}
    rows = []
    for label, errors in provenance.errors["test"].items():
        within = provenance.ensemble.coverage["test"][label] if provenance.ensemble else float("nan")
        numbers = [f"{number:.3g}" for number in (errors.mae, errors.rmse, errors.r2)]
        rows.append([label, units[label], *numbers, f"{100 * within:.1f} %"])
    return table_of(["label", "unit", "MAE", "RMSE", "R²", "within the 90 % interval"], rows)


def training_table() -> str:
    """Return what each model was trained on, its errors, and those of the Gaussian processes."""
    rows = []
    for name in NAMES:
        provenance = provenance_of(name)
        sizes = provenance.data.sequences or {}
        baseline = provenance.baseline
        beside = "-" if baseline is None or baseline.mse is None else f"{baseline.mse:.4f}"
        config = load_yaml(layout.RunFolder(shipped.FOLDER / name).member(0).config)
        rows.append(
            [
                f"`{name}`",
                " / ".join(str(sizes[part]) for part in ("train", "val", "test")),
                ", ".join(config.get("inputs") or [each.name for each in provenance.load_features]),
                *(f"{provenance.mse_standardised[part]:.4f}" for part in ("val", "test")),
                beside,
            ]
        )
    titles = ["sequences to train / validate / test", "load features", "validation MSE", "test MSE"]
    return table_of(["model", *titles, "test MSE of the Gaussian processes"], rows)


def members_table() -> str:
    """Return the members of all models."""
    rows = []
    for name in NAMES:
        for member in members_of(provenance_of(name)):
            point = ", ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in member.point.items()
            )
            rows.append(
                [
                    f"`{name}` {member.folder}",
                    str(member.weight),
                    point,
                    f"{member.best_epoch} of {member.epochs}",
                    *(f"{member.mse_standardised[part]:.4f}" for part in ("val", "test")),
                ]
            )
    return table_of(["member", "weight", "point", "best epoch", "validation MSE", "test MSE"], rows)


@dataclass(frozen=True)
class Answers:
    """Answers of a shipped model on all sequences of its data.

    Attributes
    ----------
    name : str
        Of the model.
    """

    name: str

    @cached_property
    def _loaded(self) -> tuple[Any, Any, dict[str, Any]]:
        return get_pretrained_model(self.name)

    @cached_property
    def _preprocessor(self) -> FilePreprocessor:
        config = self._loaded[2]
        return FilePreprocessor(**{**config, "raw_data": str(ROOT / config["raw_data"])})

    @cached_property
    def sequences(self) -> list[tuple[str, int]]:
        """Group and position of each sequence."""
        return [(shape.name, number) for shape in self._preprocessor.groups() for number in range(shape.n_samples)]

    @cached_property
    def split(self) -> dict[str, Array]:
        """Numbers of the sequences of each split."""
        _, stats, config = self._loaded
        seed = stats.get("split_seed", 42)
        return split_ids(len(self.sequences), config["train_frac"], config["val_frac"], seed)

    def of_type(self, numbers: Array, experiment_type: str | None) -> Array:
        """Return those of some sequences that are of a type of test."""
        types = np.array([group.rpartition("/")[2] for group, _ in self.sequences])
        return np.sort(numbers if experiment_type is None else numbers[types[numbers] == experiment_type])

    def deviations(self, experiment_type: str | None) -> Array:
        """Return the deviations of the labels in the training split, of one type of test or of all."""
        chosen = self.of_type(self.split["train"], experiment_type)
        sequences = self._preprocessor.all_sequences()
        labels = sequences.take(chosen).arrays()[2][:, sequences.pad_length :]
        return np.asarray(labels.astype("float64").std(axis=(0, 1)))

    def errors(self, numbers: Array, divisor: Array) -> Array:
        """Return the mean squared error of each label for some sequences, from the first compared step on."""
        model, stats, config = self._loaded
        sequences = self._preprocessor.all_sequences()
        inputs, params, labels = sequences.take(numbers).arrays()
        simulated = labels[:, sequences.pad_length + FIRST_STEP :]
        predicted = predict_sequences(model, inputs, params, stats, config)[:, -simulated.shape[1] :]
        return np.asarray((((predicted - simulated) / divisor) ** 2).mean(axis=(0, 1)))

    def unseen(self) -> set[tuple[str, int]]:
        """Return the sequences that are not in the training split."""
        return {self.sequences[number] for part in ("val", "test") for number in self.split[part]}


def types_table() -> str:
    """Return the errors of the monotonic models for drained and undrained tests apart."""
    both, drained, undrained = (Answers(name) for name in NAMES[:3])
    rows = []
    for of, kind in (
        *((both, None), (drained, None), (both, "drained"), (drained, "drained")),
        *((both, "undrained"), (drained, "undrained"), (undrained, "undrained")),
    ):
        numbers = of.of_type(of.split["test"], kind)
        rows.append(_errors_row(of, f"{kind or 'all'}, test split", numbers, of.deviations(kind)))
    rows += [_baseline_row(name) for name in NAMES[:3]]
    common = both.unseen() & undrained.unseen()
    for of in (both, drained, undrained):
        numbers = np.array([number for number, each in enumerate(of.sequences) if each in common])
        about = "undrained, training split of neither `dem-all` nor `dem-undrained`"
        rows.append(_errors_row(of, about, numbers, undrained.deviations(None)))
    return table_of(["model", "tests", "sequences", *LABELS, "mean"], rows)


def _baseline_row(name: str) -> list[str]:
    """Return the errors of the Gaussian processes on the data, the load features and the steps of a model."""
    member = layout.RunFolder(shipped.FOLDER / name).member(0)
    recorded = load_yaml(member.config)
    preprocessor = FilePreprocessor(**{**recorded, "raw_data": str(ROOT / recorded["raw_data"])})
    data = preprocessor.prepare_arrays()
    key = baseline_key(data.train_stats, preprocessor.config, FIRST_STEP)
    fit = fit_baseline(data, preprocessor.config, preprocessor.experiment, key)
    errors = (np.array([fit.rmse[label] for label in LABELS]) / Answers(name).deviations(None)) ** 2
    cells = [f"{each:.3f}" for each in errors]
    about = f"those of `{name}`, test split"
    return ["Gaussian processes", about, str(fit.n_test), *cells, f"{errors.mean():.4f}"]


def _errors_row(of: Answers, about: str, numbers: Array, divisor: Array) -> list[str]:
    errors = of.errors(numbers, divisor)
    cells = [f"{each:.3f}" for each in errors]
    return [f"`{of.name}`", about, str(len(numbers)), *cells, f"{errors.mean():.4f}"]


def effects_table() -> str:
    """Return how much each parameter changes the response of `dem-all`, in units of its errors."""
    name = "dem-all"
    model, stats, config = get_pretrained_model(name)
    of = Answers(name)
    preprocessor = FilePreprocessor(**{**config, "raw_data": str(ROOT / config["raw_data"])})
    inputs, params, _ = preprocessor.all_sequences().take(of.of_type(of.split["test"], None)).arrays()
    errors = provenance_of(name).errors["test"]
    rows = []
    for column, parameter in enumerate(("E", "v", "kr", "eta", "mu")):
        low, high = stats["params_min"][column], stats["params_max"][column]
        ends = []
        for part in (0.25, 0.75):
            moved = params.copy()
            moved[:, column] = low + part * (high - low)
            ends.append(predict_sequences(model, inputs, moved, stats, config))
        change = np.sqrt(((ends[1] - ends[0]) ** 2).mean(axis=(0, 1)))
        of_labels = dict(zip(stats["label_names"], change, strict=True))
        rows.append([parameter, *(f"{of_labels[label] / errors[label].rmse:.1f}" for label in LABELS[1:])])
    return table_of(["parameter", *LABELS[1:]], rows)


def with_tables(text: str, heading: str, tables: Sequence[str]) -> str:
    """Return a page whose tables under a heading are others.

    Raises
    ------
    SystemExit
        If there is no such heading, or if another number of tables is under it.
    """
    parts = re.split(r"^(#+ .*\n)", text, flags=re.MULTILINE)
    places = [number for number, part in enumerate(parts) if re.fullmatch(rf"#+ {re.escape(heading)}\n", part)]
    if len(places) != 1:
        raise SystemExit(f"{PAGE}: there are {len(places)} headings {heading!r}; one is needed")
    pieces = re.split(r"^((?:\|.*\n)+)", parts[places[0] + 1], flags=re.MULTILINE)
    if len(pieces) != 2 * len(tables) + 1:
        raise SystemExit(f"{PAGE}: {len(pieces) // 2} tables under {heading!r}; {len(tables)} are written")
    pieces[1::2] = [table + "\n" for table in tables]
    parts[places[0] + 1] = "".join(pieces)
    return "".join(parts)


def tables() -> dict[str, list[str]]:
    """Return the tables of the page by the headings that they stand under."""
    return {
        "For what they hold": [ranges_table()],
        **{f"`{name}`": [accuracy_table(name)] for name in NAMES},
        "Drained and undrained tests apart": [types_table()],
        "How they were trained": [training_table(), members_table()],
        "Which parameters can be told": [effects_table()],
    }


def main() -> None:
    """Write the page."""
    text = PAGE.read_text(encoding="utf-8")
    for heading, of_heading in tables().items():
        text = with_tables(text, heading, of_heading)
    layout.write_text(PAGE, text)
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
