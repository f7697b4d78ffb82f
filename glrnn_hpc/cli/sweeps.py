"""Commands for sweeps."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glrnn_hpc.cli import progress, tables
from glrnn_hpc.cli.app import LEFT_OUT, Json, SweepDir, app
from glrnn_hpc.cli.interruption import telling_what_goes_on
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.keras_import import import_keras

if TYPE_CHECKING:
    from glrnn_hpc.launch.slurm.profile import Profile

#: A year: no thread can wait for ever.
MAX_SECONDS = 3.2e7

Memory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Of a worker's ranks on a node, such as 16G: near it they are started anew."),
]


MovedData = Annotated[
    Path | None, typer.Option("--raw-data", metavar="PATH", help="Where the data are now, if they have moved.")
]


@app.command()
def sweep(
    sweep_file: Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="W&B sweep configuration.")],
    out: Annotated[Path, typer.Option(help="Folder of the sweep; must not exist, or be empty.")],
    cluster: Annotated[
        str, typer.Option(help="local: this machine; slurm: jobs; debug: this process; or module:Class.")
    ] = "local",
    profile: Annotated[Path | None, typer.Option(help="Of --cluster slurm: the site's YAML file.")] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Workers to start; 0: only make the folder, for scripts that start glrnn worker.")
    ] = 1,
    ranks_per_worker: Annotated[
        int | None, typer.Option(min=1, help="MPI ranks of each; default: one per CPU.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials in place of run_cap.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Of method bayes: tpe, gp or cmaes.")] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Database for the study, in place of the journal file.")
    ] = None,
    heartbeat: Annotated[
        float, typer.Option(min=0.01, max=MAX_SECONDS, help="Seconds between two heartbeats of a worker.")
    ] = 15,
    dead_after: Annotated[
        float, typer.Option(min=0.02, max=MAX_SECONDS, help="Seconds without a heartbeat until others take over.")
    ] = 90,
    hang_timeout: Annotated[
        float, typer.Option(min=1, max=MAX_SECONDS, help="Seconds without progress until a rank ends its worker.")
    ] = 3600,
    collect: Annotated[bool, typer.Option("--collect", help="Export the best model when the workers end.")] = False,
    wandb: Annotated[
        str | None,
        typer.Option(help="offline, online, disabled or W&B's other modes; default: WANDB_MODE, else offline."),
    ] = None,
    wandb_sweep: Annotated[
        str | None, typer.Option(metavar="create|ID", help="Sweep of W&B's server in which the runs arrive.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on even if the first trials all fail with the same error.")
    ] = False,
    memory: Memory = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start the workers and return.")] = False,
    as_json: Json = False,
) -> None:
    """Search for the best model: make the sweep's folder, start workers, wait for the trials."""
    from glrnn_hpc.launch import run_sweep
    from glrnn_hpc.records.sweep_state import Timing
    from glrnn_hpc.search.sweep import load_sweep

    if dead_after < 2 * heartbeat:
        raise ConfigError(f"--dead-after {dead_after:g} must be at least twice --heartbeat {heartbeat:g}.")
    site = _load_profile(cluster, profile)
    spec = load_sweep(sweep_file, sampler=sampler)
    with telling_what_goes_on(out), progress.SweepProgress(is_quiet=as_json) as report:
        run_sweep(
            spec,
            out,
            n_workers=workers,
            ranks_per_worker=ranks_per_worker,
            n_trials=trials,
            storage=storage,
            timing=Timing(heartbeat, dead_after, hang_timeout),
            cluster=cluster,
            profile=site,
            collect=collect,
            wandb=wandb,
            wandb_sweep=wandb_sweep,
            keep_going=keep_going,
            memory=memory,
            wait=not no_wait,
            report=report,
        )
    _print_status(out, as_json)


@app.command()
def resume(
    folder: SweepDir,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Workers that shall run; default: as at the start.")
    ] = None,
    ranks_per_worker: Annotated[int | None, typer.Option(min=1, help="MPI ranks of each new worker.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="A larger number of trials than before.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    raw_data: MovedData = None,
    cluster: Annotated[
        str | None, typer.Option(help="local, slurm, debug or module:Class; default: as at the start.")
    ] = None,
    profile: Annotated[Path | None, typer.Option(help="The site's YAML file; default: as at the start.")] = None,
    keep_going: Annotated[
        bool | None, typer.Option("--keep-going", help="Go on even if the first trials all fail with the same error.")
    ] = None,
    memory: Memory = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start what is missing and return.")] = False,
    as_json: Json = False,
) -> None:
    """Go on with a sweep: start the workers it lacks, adopt the trials of dead ones, add trials."""
    from glrnn_hpc.launch import resume_sweep

    site = _load_profile(cluster, profile)
    with telling_what_goes_on(folder), progress.SweepProgress(is_quiet=as_json) as report:
        resume_sweep(
            folder,
            n_workers=workers,
            ranks_per_worker=ranks_per_worker,
            n_trials=trials,
            retry_failed=retry_failed,
            raw_data=raw_data,
            cluster=cluster,
            profile=site,
            keep_going=keep_going,
            memory=memory,
            wait=not no_wait,
            report=report,
        )
    _print_status(folder, as_json)


@app.command()
def worker(
    folder: SweepDir,
    job: Annotated[str | None, typer.Option(help="Name of this worker; the launcher's choice.")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Refuse to start with another number of ranks.")] = None,
    as_json: Json = False,
) -> None:
    """Pull trials until none waits; this is what mpiexec and srun start."""
    from glrnn_hpc.worker import main

    main.run(folder, job, ranks)
    if as_json:
        _print_status(folder, as_json)


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
        _print_status(folder, as_json)


@app.command()
def cancel(folder: SweepDir, as_json: Json = False) -> None:
    """Stop a sweep: its ranks release their trials within a heartbeat; `glrnn resume` goes on with them."""
    from glrnn_hpc.launch import cancel_sweep

    cancel_sweep(folder)
    _print_status(folder, as_json)


@app.command()
def collect(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders of comparable sweeps.")],
    top: Annotated[int, typer.Option(min=1, help="How many of the best trials to verify and list.")] = 5,
    ensemble: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Export the mean of at most K trials with intervals, not the best one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the best model goes; default, with one DIR: DIR/best.")
    ] = None,
    raw_data: MovedData = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Fit no Gaussian processes to compare the best model with.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Rank the trials of one or several sweeps, evaluate them again from their files, export the best, or a mean."""
    import_keras()
    from glrnn_hpc.collector.collect import collect as collect_best

    summary = collect_best(folders, top, ensemble=ensemble, out=out, raw_data=raw_data, baseline=not no_baseline)
    tables.print_result(as_json, summary, tables.collect_output(summary))
    is_small = ensemble is not None and summary["ensemble"]["candidates"] < ensemble
    if summary["refused"] or summary["trials"]["failed"] or is_small:
        raise typer.Exit(LEFT_OUT)


@app.command()
def report(
    folder: SweepDir,
    top: Annotated[int, typer.Option(min=1, help="How many of the best trials the table shows.")] = 20,
    raw_data: MovedData = None,
    as_json: Json = False,
) -> None:
    """Write DIR/report.html, a page of its own that needs no internet, and DIR/figures/*.png; trials may still run."""
    from glrnn_hpc.records.baseline import BaselineComparison
    from glrnn_hpc.report.report import write_report

    summary = write_report(folder, top, raw_data)
    lines = [f"{name}: left out: {reason}" for name, reason in summary["left_out"].items()]
    lines.append(BaselineComparison(**summary["baseline"]).in_words())
    tables.print_result(as_json, summary, [*lines, f"{len(summary['figures'])} figures -> {summary['report']}"])
    if summary["faulty"]:
        raise typer.Exit(LEFT_OUT)


def _load_profile(cluster: str | None, file: Path | None) -> Profile | None:
    """Load the site's profile, if a file is given; without `cluster` the sweep's folder names the launcher."""
    from glrnn_hpc.launch.registry import launcher_class
    from glrnn_hpc.launch.slurm.profile import load_profile

    if file is None:
        return None
    if cluster is not None and not launcher_class(cluster).takes_profile:
        raise ConfigError("--profile: belongs to --cluster slurm.")
    return load_profile(file)


def _watch(folder: Path, seconds: float, as_json: bool) -> None:
    from glrnn_hpc.summary.status import summarize

    while (summary := summarize(folder))["state"] == "running":
        # On a terminal the table stays in its place; a log gets one after the other, and --json one object per line.
        if not as_json:
            tables.clear_terminal()
        tables.print_result(as_json, summary, tables.status_output(summary))
        sys.stdout.flush()
        time.sleep(seconds)
    _print_status(folder, as_json)


def _print_status(folder: Path, as_json: bool) -> None:
    from glrnn_hpc.summary.status import summarize

    summary = summarize(folder)
    tables.print_result(as_json, summary, tables.status_output(summary))
    if summary["trials"]["failed"]:
        raise typer.Exit(LEFT_OUT)
