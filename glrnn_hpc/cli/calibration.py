"""The command that calibrates with a surrogate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from glrnn_hpc.cli import tables
from glrnn_hpc.cli.app import Json, app
from glrnn_hpc.errors import ConfigError


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
        str | None, typer.Option(metavar="NAME,...", help="What is compared; all that the table has by default.")
    ] = None,
    ctrl: Annotated[
        str | None, typer.Option(metavar="NAME", help="The strain that the steps follow; e_z by default.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Sets of parameters in each iteration.")] = 50,
    iterations: Annotated[int, typer.Option(help="At most.")] = 20,
    tolerance: Annotated[float, typer.Option(help="End when GrainLearning's sigma is below.")] = 1e-3,
    components: Annotated[int, typer.Option(help="Gaussians at most from which new samples are drawn.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the samples; the same seed gives the same result.")] = 0,
    as_json: Json = False,
) -> None:
    """Find the parameters with which a surrogate answers as an experiment did, by GrainLearning."""
    ranges = _assignments("--param", param, "NAME=MIN:MAX, such as mu=15:50", _range)
    values = _assignments("--known", known, "NAME=VALUE, such as pressure=0.2", float)
    from glrnn_hpc.calibration import calibrate

    found = calibrate.calibrate(
        model_dir,
        observation,
        ranges,
        out,
        known=values,
        experiment_type=experiment_type,
        observed=None if observe is None else [name.strip() for name in observe.split(",") if name.strip()],
        control=ctrl,
        n_samples=samples,
        n_iterations=iterations,
        tolerance=tolerance,
        n_components=components,
        seed=seed,
    )
    tables.print_result(as_json, found, _lines(found))


def _assignments(option: str, given: list[str] | None, form: str, convert: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise ConfigError(f"{option} {text}: {form} is needed.")
        if name in found:
            raise ConfigError(f"{option} {text}: {name} is given twice.")
        try:
            found[name] = convert(value)
        except ValueError as error:
            raise ConfigError(f"{option} {text}: {form} is needed.") from error
    return found


def _range(text: str) -> tuple[float, float]:
    low, high = text.split(":")
    return float(low), float(high)


def _lines(found: dict[str, Any]) -> tables.Output:
    rows = [
        [
            name,
            *(f"{found[kind][name]:.4g}" for kind in ("most_probable", "spread", "mean", "deviation")),
            " .. ".join(f"{value:.4g}" for value in found["interval"][name]),
        ]
        for name in found["most_probable"]
    ]
    lines: tables.Output = [
        tables.Table(["parameter", "most probable", "spread", "mean", "deviation", "90 % within"], rows),
        "",
    ]
    rows = [
        [
            name,
            row["unit"] or "-",
            f"{row['rmse']:.4g}",
            *("not known" if row[kind] is None else f"{row[kind]:.4g}" for kind in ("surrogate_rmse", "expected")),
        ]
        for name, row in found["errors"].items()
    ]
    lines.append(
        tables.Table(
            ["label", "unit", "RMSE to the observation", "of the surrogate on its tests", "expected here"], rows
        )
    )
    lines += [*found["notes"], f"resampling: {found['resampling']}"]
    lines.append(
        f"{found['iterations']} iterations of {found['samples']} predictions in {found['seconds']:.1f} s, "
        f"{found['seconds_per_prediction']:.3f} s for those of one"
    )
    return [*lines, f"-> {found['output']}"]
