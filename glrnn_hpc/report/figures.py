"""Registry of the figures of a report, in the order of the page.

To add a figure, write a function that takes `ReportSources` and returns a `CaptionedFigure`, and add one entry to
`FIGURES`: its name is the anchor on the page and the name of the file in `figures/`. Where a sweep has nothing that the
figure could show, the function raises `FigureNotApplicable`; the reason stands in the place of the figure. Any other
`GlrnnError`, such as the one of a broken file, is shown there as a fault, and `glrnn report` exits with status 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glrnn_hpc.collector.sweep_data import check_data_is_there
from glrnn_hpc.errors import DataError, GlrnnError
from glrnn_hpc.report import search_figures
from glrnn_hpc.report.parallel_coordinates import draw_parallel_coordinates
from glrnn_hpc.report.plot_style import CaptionedFigure, FigureNotApplicable
from glrnn_hpc.report.rank_timeline import draw_rank_timeline
from glrnn_hpc.report.trials import Trial
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.search.sweep import preprocessor_of
from glrnn_hpc.study.ranking import best_trial
from glrnn_hpc.study.study import SweepStudy


class BestPredictions:
    """Predictions for the test split, made once for all figures that show them: of the best trial, or of the export.

    An ensemble that `glrnn collect` exported comes first; else it is the best trial.

    Parameters
    ----------
    study : SweepStudy
        The sweep.
    file : Path
        File that the predictions are written to.
    """

    def __init__(self, study: SweepStudy, file: Path) -> None:
        self._study, self.file = study, file
        self._metrics: dict[str, dict[str, float]] | None = None
        self._error: GlrnnError | None = None

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return the errors of each label; `file` holds the predictions then.

        Raises
        ------
        FigureNotApplicable
            If the sequences of the sweep need not lie in groups, or no trial has finished.
        GlrnnError
            If the files of the best trial or the data are gone or broken; again at each call.
        """
        if self._error is not None:
            raise self._error
        if self._metrics is None:
            try:
                self._metrics = self._predict()
            except GlrnnError as error:
                self._error = error
                raise
        return self._metrics

    def _predict(self) -> dict[str, dict[str, float]]:
        if preprocessor_of(self._study.spec) is not None:
            raise FigureNotApplicable(
                "the sweep has a preprocessor of its own, and its sequences need not lie in groups"
            )
        if not any(slot.state == "finished" for slot in self._study.slots()):
            raise FigureNotApplicable("no trial has finished yet")
        exported = self._study.folder.best
        folder = exported if exported.ensemble.exists() else best_trial(self._study.folder.root).folder
        # Only now: importing TensorFlow takes seconds, and a report without predictions needs none of it.
        from glrnn_hpc.file_prediction import predict_file

        try:
            answer = predict_file(folder.root, self._study.spec.data_file, self.file)
        except DataError:
            check_data_is_there(self._study)  # it says more of data that are gone
            raise
        metrics: dict[str, dict[str, float]] = answer["metrics"]
        return metrics


@dataclass(frozen=True)
class ReportSources:
    """Sources of the figures of a report.

    Attributes
    ----------
    study : SweepStudy
        The sweep.
    trials : list of Trial
        Trials that have begun, in the order of their numbers.
    predictions : BestPredictions
        Predictions of the best trial.
    """

    study: SweepStudy
    trials: list[Trial]
    predictions: BestPredictions

    @property
    def spec(self) -> SweepSpec:
        """Specification of the sweep."""
        return self.study.spec


@dataclass(frozen=True)
class ReportFigure:
    """Figure of a report: the title of its section, and the function that draws it."""

    title: str
    draw: Callable[[ReportSources], CaptionedFigure]


def _draw_predictions(sources: ReportSources) -> CaptionedFigure:
    metrics = sources.predictions.metrics()
    from glrnn_hpc.report.prediction_figures import draw_predictions

    return draw_predictions(sources.predictions.file, metrics)


def _draw_errors(sources: ReportSources) -> CaptionedFigure:
    metrics = sources.predictions.metrics()
    from glrnn_hpc.report.prediction_figures import draw_errors

    return draw_errors(sources.predictions.file, metrics)


FIGURES: dict[str, ReportFigure] = {
    "history": ReportFigure(
        "Optimisation history", lambda sources: search_figures.draw_history(sources.trials, sources.spec)
    ),
    "parallel": ReportFigure(
        "Parallel coordinates", lambda sources: draw_parallel_coordinates(sources.trials, sources.spec)
    ),
    "importance": ReportFigure(
        "Importance of the parameters", lambda sources: search_figures.draw_importance(sources.trials, sources.spec)
    ),
    "learning_curves": ReportFigure(
        "Learning curves", lambda sources: search_figures.draw_learning_curves(sources.trials, sources.spec)
    ),
    "ranks": ReportFigure("Timeline of the ranks", lambda sources: draw_rank_timeline(sources.study.folder)),
    "predictions": ReportFigure("Predicted against simulated", _draw_predictions),
    "errors": ReportFigure("Errors per label", _draw_errors),
}
