"""Section of a report about the Gaussian-process baseline: whether the network beats it, and in which labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glrnn_hpc import layout
from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.errors import GlrnnError
from glrnn_hpc.records.baseline import BaselineComparison
from glrnn_hpc.records.ensemble import read_ensemble
from glrnn_hpc.records.provenance import read_provenance
from glrnn_hpc.report import html
from glrnn_hpc.report.figures import ReportSources
from glrnn_hpc.study.ranking import best_trial

if TYPE_CHECKING:
    from glrnn_hpc.preprocessor.base import PreparedData


def compare_best(sources: ReportSources, *, is_running: bool) -> BaselineComparison:
    """Return the comparison of the exported model, or of the best trial where the export has none.

    An export that could not be compared, such as without scikit-learn at that time, has the reason and no comparison.
    The baseline is fitted where the sweep has ended and no earlier command did; what is fitted is kept in the sweep's
    folder. While a sweep runs, a comparison rests on what is kept alone, so that a report stays quick.

    Parameters
    ----------
    sources : ReportSources
        The sweep.
    is_running : bool
        Whether trials still run.
    """
    export = sources.study.folder.best
    exported = _of_export(export)
    if exported is not None and exported.mse is not None:
        return exported
    try:
        errors = {name: each["rmse"] for name, each in sources.predictions.metrics().items()}
        # The errors are those of an exported ensemble, which begins at a step of its own.
        first_step = read_ensemble(export.ensemble).first_step if export.ensemble.exists() else None
        return _of_best_trial(sources, errors, first_step, is_running=is_running)
    except GlrnnError as error:
        return BaselineComparison(reason=str(error).rstrip("."))


def baseline_section(comparison: BaselineComparison) -> str:
    """Return the line that says who wins, and the errors of both in each label."""
    line = html.paragraph(f"{comparison.in_words()}.")
    if comparison.mse is None:
        return line
    rows = []
    for name, baseline in comparison.rmse.items():
        network = comparison.network_rmse[name]
        # A label that an exact relation gives has an error of rounding alone.
        ratio = f"{network / baseline:.3g}" if baseline > 0 else "-"
        rows.append([name, f"{network:.4g}", f"{baseline:.4g}", ratio])
    note = html.paragraph(
        "MSE over the labels in units of their deviation in the training, over "
        f"{comparison.n_test} test sequences from step {comparison.first_step} on. The baseline: Gaussian processes on "
        f"{comparison.n_components} principal components of the curves, fitted to {comparison.n_fitted} sequences in "
        f"{comparison.seconds:.0f} s; it learns transformed labels and takes exact relations where the experiment "
        "declares them."
    )
    header = ["label", "RMSE of the network", "RMSE of the baseline", "network / baseline"]
    return line + html.table("Errors of the network and of the baseline on the test split", header, rows) + note


def _of_export(export: layout.RunFolder) -> BaselineComparison | None:
    try:
        return read_provenance(export.provenance).baseline
    except (OSError, ValueError):
        return None


def _of_best_trial(
    sources: ReportSources, errors: dict[str, float], first_step: int | None, *, is_running: bool
) -> BaselineComparison:
    """Return the comparison of these errors with the baseline of the best trial's columns, from a step on."""
    # Late, as for the predictions: importing TensorFlow takes seconds.
    from glrnn_hpc.baseline.fit import NoBaseline
    from glrnn_hpc.collector.baseline_comparison import compare_with_baseline
    from glrnn_hpc.preprocessor.from_file import preprocessor_of_model
    from glrnn_hpc.surrogate.artifact import load_description

    config, stats = load_description(best_trial(sources.study.folder.root).folder)

    def prepared() -> PreparedData:
        if is_running:
            raise NoBaseline("glrnn collect fits it at any time, glrnn report once the sweep has ended")
        moved = {**config.as_dict(), "raw_data": sources.spec.data_file}
        return preprocessor_of_model(moved).prepare_arrays(stats.get("split_seed", SPLIT_SEED))

    return compare_with_baseline(sources.study.folder, config, stats, errors, prepared, first_step)
