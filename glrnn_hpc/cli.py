"""The command `glrnn`: the only place that wires parts together, and that prints.

Every import that costs time stands inside its command, so that `glrnn --help` loads neither TensorFlow nor MPI.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glrnn_hpc import terminal
from glrnn_hpc.errors import ConfigError, GlrnnError

if TYPE_CHECKING:
    pass

DONE, BUG, WRONG_INPUT, LEFT_OUT = 0, 1, 2, 3

app = typer.Typer(
    name="glrnn",
    help="LSTM surrogates of DEM simulations: parse, train, sweep over MPI ranks, collect, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
SweepDir = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the sweep.")]


def main() -> None:
    """Run `glrnn`; an error that the user can mend is one message and exit status 2."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # Libraries say much that does not concern the user.
    for name in ("absl", "tensorflow", "optuna", "h5py"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except GlrnnError as error:
        # What every MPI rank raises one of them says.
        if not error.is_agreed or _rank() == 0:
            print(f"glrnn: {error}", file=sys.stderr)
        sys.exit(WRONG_INPUT)


def _rank() -> int:
    from glrnn_hpc.data.ranks import world

    return world().rank


@app.command()
def parse(
    raw_dir: Annotated[Path, typer.Argument(help="Folder of YADE's .npy files.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.hdf5", help="File to write.")],
    sequence_length: Annotated[
        int | None, typer.Option(min=2, help="Steps per sequence; default: the commonest.")
    ] = None,
    flat: Annotated[bool, typer.Option("--flat", help="Read pressure and experiment type from each file.")] = False,
    pressure: Annotated[list[str] | None, typer.Option(help="Only this pressure; may be repeated.")] = None,
    experiment_type: Annotated[list[str] | None, typer.Option(help="Only this type; may be repeated.")] = None,
    contact_params: Annotated[str | None, typer.Option(help="Names of the parameters, e.g. E,v,kr,eta,mu.")] = None,
    inputs: Annotated[str | None, typer.Option(help="Names of the load features, e.g. e_x,e_y,e_z.")] = None,
    outputs: Annotated[str | None, typer.Option(help="Names of the responses, e.g. e,p,q.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    as_json: Json = False,
) -> None:
    """Parse YADE's raw files into one HDF5 file; broken ones are named and left out (exit status 3).

    Under mpiexec or srun the ranks share the files; the result is the same.
    """
    from glrnn_hpc.data import hdf5, yade
    from glrnn_hpc.data.ranks import world

    if dtype not in ("float32", "float64"):
        raise ConfigError(f"--dtype: {dtype!r} is not one of float32, float64.")
    ranks = world()
    report = yade.convert_all_to_hdf5(
        pressure,
        experiment_type,
        raw_dir,
        out,
        sequence_length,
        not flat,
        contact_keys=_names(contact_params, hdf5.CONTACT_KEYS),
        input_keys=_names(inputs, hdf5.INPUT_KEYS),
        output_keys=_names(outputs, hdf5.OUTPUT_KEYS),
        dtype=dtype,
        ranks=ranks,
    )
    if ranks.rank != 0:
        raise typer.Exit(LEFT_OUT if report.problems else DONE)
    rows = [[name, *map(str, vars(group).values())] for name, group in report.groups.items()]
    totals = [sum(column) for column in zip(*(vars(group).values() for group in report.groups.values()), strict=True)]
    rows.append(["all", *map(str, totals)])
    table = terminal.table(["group", "files", "good", "trimmed", "short", "corrupt"], rows)
    terminal.show(
        as_json, report.as_dict(), [*report.problems, table, f"{report.sequence_length} steps each -> {report.output}"]
    )
    if report.problems:
        raise typer.Exit(LEFT_OUT)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE.hdf5", help="File to look at.")], as_json: Json = False
) -> None:
    """Show groups, shapes, attributes, ranges and problems of a data file."""
    from glrnn_hpc.data import inspect as inspection

    found = inspection.inspect(file)
    terminal.show(as_json, found, [inspection.render(found)])


@app.command()
def train(
    config_file: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="Keys of the configuration.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an earlier one is renamed.")],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")] = None,
    wandb: Annotated[str, typer.Option(help="offline, online or disabled.")] = "offline",
    as_json: Json = False,
) -> None:
    """Train one model."""
    from glrnn_hpc import config, layout

    if wandb not in ("offline", "online", "disabled"):
        raise ConfigError(f"--wandb: {wandb!r} is not one of offline, online, disabled.")
    keys = config.load_yaml(config_file)
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise ConfigError(f"--set {setting}: KEY=VALUE is needed, such as --set epochs=20.")
        keys[key] = config.parse_yaml(value, f"--set {setting}")
    full = config.parse(config.RunConfig, keys)
    config.say_defaults(full, keys)
    from glrnn_hpc.preprocessor import PreprocessorTriaxialCompression
    from glrnn_hpc.train import train_tracked

    preprocessor = PreprocessorTriaxialCompression(None, **full.as_dict())
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
        terminal.metrics_line(outcome.metrics),
        f"-> {out}",
    ]
    terminal.show(as_json, content, lines)


@app.command()
def sweep(
    sweep_file: Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="W&B sweep configuration.")],
    out: Annotated[Path, typer.Option(help="Folder of the sweep; must not exist, or be empty.")],
    workers: Annotated[int, typer.Option(min=1, help="Workers to start.")] = 1,
    ranks_per_worker: Annotated[
        int | None, typer.Option(min=1, help="MPI ranks of each; default: one per CPU.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials in place of run_cap.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Of method bayes: tpe, gp or cmaes.")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Database for the study, in place of the journal file.")
    ] = None,
    heartbeat: Annotated[float, typer.Option(min=0.01, help="Seconds between two heartbeats of a worker.")] = 15,
    dead_after: Annotated[
        float, typer.Option(min=0.02, help="Seconds without a heartbeat until others take over its trials.")
    ] = 90,
    hang_timeout: Annotated[
        float, typer.Option(min=1, help="Seconds without progress until a rank ends its worker.")
    ] = 3600,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start the workers and return.")] = False,
    as_json: Json = False,
) -> None:
    """Search for the best model: make the sweep's folder, start workers, wait for the trials."""
    from glrnn_hpc.launch import run_sweep
    from glrnn_hpc.search.sweep import load_sweep
    from glrnn_hpc.search.workers import Timing

    if dead_after < 2 * heartbeat:
        raise ConfigError(f"--dead-after {dead_after:g} must be at least twice --heartbeat {heartbeat:g}.")
    spec = load_sweep(sweep_file, sampler=sampler)
    report = terminal.Progress(is_quiet=as_json)
    run_sweep(
        spec,
        out,
        n_workers=workers,
        ranks_per_worker=ranks_per_worker,
        n_trials=trials,
        storage=storage,
        timing=Timing(heartbeat, dead_after, hang_timeout),
        wait=not no_wait,
        report=report,
    )
    _show_status(out, as_json)


@app.command()
def resume(
    folder: SweepDir,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers that shall run; default: as at the start.")
    ] = None,
    ranks_per_worker: Annotated[int | None, typer.Option(min=1, help="MPI ranks of each new worker.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="A larger number of trials than before.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start what is missing and return.")] = False,
    as_json: Json = False,
) -> None:
    """Go on with a sweep: start the workers it lacks, adopt the trials of dead ones, add trials."""
    from glrnn_hpc.launch import resume_sweep

    resume_sweep(
        folder,
        n_workers=workers,
        ranks_per_worker=ranks_per_worker,
        n_trials=trials,
        retry_failed=retry_failed,
        wait=not no_wait,
        report=terminal.Progress(is_quiet=as_json),
    )
    _show_status(folder, as_json)


@app.command()
def worker(
    folder: SweepDir,
    job: Annotated[str | None, typer.Option(help="Name of this worker; the launcher's choice.")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Refuse to start with another number of ranks.")] = None,
    as_json: Json = False,
) -> None:
    """Pull trials until none waits; this is what mpiexec and srun start."""
    from glrnn_hpc.worker import loop

    loop.run(folder, job, ranks)
    if as_json:
        _show_status(folder, as_json)


@app.command()
def status(
    folder: SweepDir,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again until the sweep ends.")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of --watch: seconds between two looks.")] = 5,
    as_json: Json = False,
) -> None:
    """Show how far a sweep is: each trial, where it runs, its losses, what failed and why."""
    if watch:
        _watch(folder, seconds, as_json)
    else:
        _show_status(folder, as_json)


@app.command()
def cancel(folder: SweepDir, as_json: Json = False) -> None:
    """Stop a sweep: its ranks give their trials back within a heartbeat; `glrnn resume` goes on with them."""
    from glrnn_hpc.launch import cancel_sweep

    cancel_sweep(folder)
    _show_status(folder, as_json)


@app.command()
def collect(
    folder: SweepDir,
    top: Annotated[int, typer.Option(min=1, help="How many of the best trials to list.")] = 5,
    as_json: Json = False,
) -> None:
    """Evaluate the best model again from its files and export it to DIR/best."""
    from glrnn_hpc.results.collector import collect as collect_best

    found = collect_best(folder, top)
    best = found["best"]
    rows = [[str(row["number"]), f"{row['value']:.6g}", terminal.point(row["config"])] for row in found["top"]]
    lines = [f"trial {row['number']} was refused: {row['reason']}" for row in found["refused"]]
    lines += [terminal.table(["trial", found["metric"], "parameters"], rows), f"best: trial {best['number']}, verified"]
    lines += [terminal.metrics_line(best["metrics"]), f"{found['rank_hours']:.3g} rank hours -> {best['path']}"]
    terminal.show(as_json, found, lines)
    if found["refused"] or found["trials"]["failed"]:
        raise typer.Exit(LEFT_OUT)


@app.command()
def predict(
    model_dir: Annotated[Path, typer.Argument(help="Folder of a trained model, such as DIR/best.")],
    data: Annotated[Path, typer.Argument(metavar="DATA.hdf5", help="Sequences to predict.")],
    out: Annotated[Path, typer.Option(help="HDF5 file to write.")],
    split: Annotated[str, typer.Option(help="test: sequences that training never saw; all: every one.")] = "test",
    figure: Annotated[Path | None, typer.Option(help="Draw predicted against simulated responses here.")] = None,
    as_json: Json = False,
) -> None:
    """Predict responses in original units and compare them with the simulated ones."""
    if split not in ("test", "all"):
        raise ConfigError(f"--split: {split!r} is not one of test, all.")
    if figure is not None:
        from glrnn_hpc.results.report import check_figure, plot_predictions

        if figure.resolve() == out.resolve():
            raise ConfigError(f"--figure {figure}: is the file of the predictions (--out) too; choose another one.")
        check_figure(figure)  # a prediction of minutes must not end with a wrong name
    from glrnn_hpc.predict import predict_file

    found = predict_file(model_dir, data, out, split)
    units = found["units"]
    rows = [
        [name, units.get(name, "-"), *(f"{value:.4g}" for value in errors.values())]
        for name, errors in found["metrics"].items()
    ]
    lines = [terminal.table(["label", "unit", "MAE", "RMSE", "R2"], rows)]
    lines.append(
        f"MSE in standardised units: {found['mse_standardised']:.4g}, {found['n_sequences']} sequences ({split})"
    )
    lines.append(f"-> {out}")
    if figure is not None:
        plot_predictions(out, figure, found["metrics"])
        found["figure"] = str(figure)
        lines.append(f"-> {figure}")
    terminal.show(as_json, found, lines)


def _watch(folder: Path, seconds: float, as_json: bool) -> None:
    from glrnn_hpc.results.status import summarize

    while (found := summarize(folder))["state"] == "running":
        # On a terminal the table stays in its place; a log gets one after the other, and --json one object per line.
        if sys.stdout.isatty() and not as_json:
            print("\x1b[2J\x1b[H", end="")
        terminal.show(as_json, found, terminal.status_lines(found))
        sys.stdout.flush()
        time.sleep(seconds)
    _show_status(folder, as_json)


def _show_status(folder: Path, as_json: bool) -> None:
    from glrnn_hpc.results.status import summarize

    found = summarize(folder)
    terminal.show(as_json, found, terminal.status_lines(found))
    if found["trials"]["failed"]:
        raise typer.Exit(LEFT_OUT)


def _names(text: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return default if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
