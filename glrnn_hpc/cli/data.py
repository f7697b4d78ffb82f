"""Commands for data files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glrnn_hpc.cli import tables
from glrnn_hpc.cli.app import DONE, LEFT_OUT, Json, app
from glrnn_hpc.errors import ConfigError


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
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="triaxial (default), or module:Class of your own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Parse YADE's raw files into one HDF5 file; what is broken or left out is named (exit status 3).

    Under mpiexec or srun the ranks share the files; the result is the same.
    """
    from glrnn_hpc.data import yade
    from glrnn_hpc.data.ranks import world
    from glrnn_hpc.experiments.registry import experiment_named

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
        contact_keys=_names(contact_params),
        input_keys=_names(inputs),
        output_keys=_names(outputs),
        experiment=experiment_named(experiment, "--experiment"),
        dtype=dtype,
        ranks=ranks,
    )
    if ranks.rank != 0:
        raise typer.Exit(DONE if report.is_complete else LEFT_OUT)
    rows = [[name, *map(str, vars(group).values())] for name, group in report.groups.items()]
    totals = [sum(column) for column in zip(*(vars(group).values() for group in report.groups.values()), strict=True)]
    rows.append(["all", *map(str, totals)])
    table = tables.Table(["group", "files", "good", "trimmed", "short", "corrupt"], rows)
    written = f"{report.sequence_length} steps each -> {report.output}"
    tables.print_result(as_json, report.as_dict(), [*report.problems, *report.left_out_lines(), table, written])
    if not report.is_complete:
        raise typer.Exit(LEFT_OUT)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE.hdf5", help="File to look at.")],
    experiment: Annotated[
        str | None, typer.Option(metavar="NAME", help="triaxial (default), or module:Class of your own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show groups, shapes, attributes, ranges and problems of a data file."""
    from glrnn_hpc.data import inspect as inspection
    from glrnn_hpc.experiments.registry import experiment_named

    description = inspection.inspect(file, experiment_named(experiment, "--experiment"))
    tables.print_result(as_json, description.as_dict(), [inspection.render(description)])


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())
