"""Commands for one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glrnn_hpc.cli import tables
from glrnn_hpc.cli.app import Json, app
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.keras_import import import_keras


@app.command()
def train(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Keys of the configuration.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an earlier one is renamed.")],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
    wandb: Annotated[
        str | None,
        typer.Option(help="offline, online, disabled or W&B's other modes; default: WANDB_MODE, else offline."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train one model."""
    from glrnn_hpc import config, layout
    from glrnn_hpc.models.registry import run_config
    from glrnn_hpc.tracking import names

    if names.chosen_mode(wandb) != "disabled":
        names.check_environment()
    keys = config.load_yaml(config_file)
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {setting}: KEY=VALUE is needed, such as --set epochs=20.")
        keys[key] = config.parse_yaml(value, f"--set {setting}")
    full = run_config(keys)
    config.log_defaults(full, keys)

    import_keras()
    from glrnn_hpc.preprocessor.from_file import preprocessor_of_file
    from glrnn_hpc.train import train_tracked

    preprocessor = preprocessor_of_file(full.as_dict())
    preprocessor.prepare_arrays()  # wrong data must not move an earlier run aside
    aside = layout.keep_aside(out)
    outcome = train_tracked(preprocessor, full.as_dict(), out=out, mode=wandb)
    content = {
        "best_epoch": outcome.best_epoch,
        "epochs": outcome.epochs,
        "metrics": outcome.metrics,
        "output": str(out),
    }
    lines = [f"the earlier {out} was renamed to {aside}"] if aside else []
    lines += [
        f"best of {outcome.epochs} epochs: {outcome.best_epoch}",
        tables.format_metrics(outcome.metrics),
        f"-> {out}",
    ]
    tables.print_result(as_json, content, lines)


@app.command()
def predict(
    model_dir: Annotated[Path, typer.Argument(help="Folder of a trained model, such as DIR/best, or a shipped one.")],
    data: Annotated[Path, typer.Argument(metavar="DATA.hdf5", help="Sequences to predict.")],
    out: Annotated[Path, typer.Option(help="HDF5 file to write.")],
    split: Annotated[str, typer.Option(help="test: sequences that training never saw; all: every one.")] = "test",
    any_length: Annotated[
        bool, typer.Option("--any-length", help="Predict sequences of another length than those of the training, too.")
    ] = False,
    figure: Annotated[Path | None, typer.Option(help="Draw predicted against simulated responses here.")] = None,
    as_json: Json = False,
) -> None:
    """Predict responses in original units and compare them with the simulated ones."""
    if split not in ("test", "all"):
        raise ConfigError(f"--split: {split!r} is not one of test, all.")
    import_keras()
    if figure is not None:
        from glrnn_hpc.report.prediction_figures import check_figure_path, plot_predictions

        if figure.resolve() == out.resolve():
            raise ConfigError(f"--figure {figure}: is the file of the predictions (--out) too; choose another one.")
        check_figure_path(figure)  # a prediction of minutes must not end with a wrong name
    from glrnn_hpc.file_prediction import predict_file

    summary = predict_file(model_dir, data, out, split, any_length=any_length)
    units = summary["units"]
    rows = [
        [name, units.get(name, "-"), *(f"{value:.4g}" for value in errors.values())]
        for name, errors in summary["metrics"].items()
    ]
    header = ["label", "unit", "MAE", "RMSE", "R2"]
    if "coverage" in summary:
        header.append(f"held by {summary['interval_level']:.0%} interval")
        rows = [[*row, f"{part:.1%}"] for row, part in zip(rows, summary["coverage"].values(), strict=True)]
    output: tables.Output = [tables.Table(header, rows)]
    scale = "standardised units" if summary["mse_scale"] == "std" else "units of the labels"
    output.append(f"MSE in {scale}: {summary['mse_standardised']:.4g}, {summary['n_sequences']} sequences ({split})")
    output.append(f"-> {out}")
    if figure is not None:
        plot_predictions(out, figure, summary["metrics"])
        summary["figure"] = str(figure)
        output.append(f"-> {figure}")
    tables.print_result(as_json, summary, output)
