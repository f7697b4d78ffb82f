"""Command `glrnn calibrate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from glrnn_hpc.cli import tables
from glrnn_hpc.cli.app import Json, app
from glrnn_hpc.errors import ConfigError

if TYPE_CHECKING:
    from glrnn_hpc.calibration.result import CalibrationSummary

Value = TypeVar("Value")


@app.command()
def calibrate(
    model_dir: Annotated[
        Path, typer.Argument(help="Folder of a trained model, such as DIR/best, or a shipped one's name.")
    ],
    observation: Annotated[Path, typer.Argument(help="Table of the experiment; its first line names the columns.")],
    out: Annotated[Path, typer.Option(help="Folder for the results; it must be empty or not exist.")],
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=MIN:MAX", help="A parameter that is sought, and its range.")
    ] = None,
    known: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter that is known, such as pressure=0.2 (MPa) or e0=0.62."),
    ] = None,
    experiment_type: Annotated[str | None, typer.Option(help="drained or undrained.")] = None,
    observe: Annotated[
        str | None,
        typer.Option(metavar="NAME[=COLUMN],...", help="What is compared; all that the table has by default."),
    ] = None,
    ctrl: Annotated[
        str | None, typer.Option(metavar="NAME[=COLUMN]", help="The strain that the steps follow; e_z by default.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Sets of parameters in each iteration.")] = 50,
    iterations: Annotated[int, typer.Option(help="At most.")] = 20,
    tolerance: Annotated[float, typer.Option(help="End when GrainLearning's sigma is below.")] = 1e-3,
    components: Annotated[int, typer.Option(help="Gaussians at most from which new samples are drawn.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the samples; the same seed gives the same result.")] = 0,
    as_json: Json = False,
) -> None:
    """Find the parameters with which a surrogate reproduces an experiment, with GrainLearning."""
    ranges = _assignments("--param", param, "NAME=MIN:MAX, such as mu=15:50", _range)
    values = _assignments("--known", known, "NAME=VALUE, such as pressure=0.2", float)
    from glrnn_hpc.calibration.calibrate import run_calibration
    from glrnn_hpc.calibration.settings import CalibrationSettings

    settings = CalibrationSettings(
        known=values,
        experiment_type=experiment_type,
        labels=None if observe is None else [name.strip() for name in observe.split(",") if name.strip()],
        control=ctrl,
        n_samples=samples,
        n_iterations=iterations,
        tolerance=tolerance,
        n_components=components,
        seed=seed,
    )
    summary = run_calibration(model_dir, observation, ranges, settings, out)
    tables.print_result(as_json, summary.as_dict(), _output(summary))


def _assignments(option: str, texts: list[str] | None, form: str, convert: Callable[[str], Value]) -> dict[str, Value]:
    """Return the values of a repeated option by their names."""
    values: dict[str, Value] = {}
    for text in texts or []:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise ConfigError(f"{option} {text}: {form} is needed.")
        if name in values:
            raise ConfigError(f"{option} {text}: {name} is given twice.")
        try:
            values[name] = convert(value)
        except ValueError as error:
            raise ConfigError(f"{option} {text}: {form} is needed.") from error
    return values


def _range(text: str) -> tuple[float, float]:
    low, high = text.split(":")
    return float(low), float(high)


def _output(summary: CalibrationSummary) -> tables.Output:
    estimates = [
        [
            name,
            *(f"{value:.4g}" for value in (each.most_probable, each.spread, each.mean, each.deviation)),
            " .. ".join(f"{value:.4g}" for value in each.interval),
            "not known" if each.surrogate_share is None else f"{each.surrogate_share:.0%}",
        ]
        for name, each in summary.parameters.items()
    ]
    errors = [
        [
            name,
            fit.unit or "-",
            f"{fit.rmse:.4g}",
            *("not known" if error is None else f"{error:.4g}" for error in (fit.surrogate_rmse, fit.expected)),
        ]
        for name, fit in summary.labels.items()
    ]
    return [
        tables.Table(
            ["parameter", "most probable", "spread", "mean", "deviation", "90 % within", "of it by the surrogate"],
            estimates,
        ),
        "",
        tables.Table(
            ["label", "unit", "RMSE to the observation", "of the surrogate on its tests", "expected here"], errors
        ),
        *summary.notes,
        f"resampling: {summary.resampling}",
        f"{summary.n_iterations} iterations of {summary.n_samples} predictions in {summary.seconds:.1f} s, "
        f"{summary.seconds_per_prediction:.3f} s for those of one",
        f"-> {summary.output}",
    ]
