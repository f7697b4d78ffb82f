"""Commands for a project and the machine that it runs on."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from glrnn_hpc.cli import tables
from glrnn_hpc.cli.app import LEFT_OUT, Json, app
from glrnn_hpc.errors import WRONG_INPUT


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make; must not exist, or be empty.")], as_json: Json = False
) -> None:
    """Write a project folder: sweep files, job scripts, profiles and sbatch scripts, with its paths filled in."""
    from glrnn_hpc import project

    files = project.write_project(folder)
    root = folder.resolve()
    change_folder = "" if root == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    lines = [f"{len(files)} files -> {root}", f"Put your data to {root / project.DATA}; data/README.md says how. Then:"]
    lines.append(f"  {change_folder}glrnn sweep sweeps/smoke.yaml --out runs/smoke")
    content = {"output": str(root), "data": str(root / project.DATA), "files": [str(file) for file in files]}
    tables.print_result(as_json, content, lines)


@app.command()
def doctor(
    profile: Annotated[Path | None, typer.Option(help="A site's YAML file: look at its nodes by a short job.")] = None,
    timeout: Annotated[
        float, typer.Option(min=0, help="Of --profile: minutes for which the job may wait in the queue.")
    ] = 10,
    as_json: Json = False,
) -> None:
    """Look at what this machine, or a site's nodes, have: MPI, GPUs, file system, Slurm; say what to install.

    Exit status: 0 all works, there may be warnings; 2 there is a problem; 3 the job did not begin in time.
    """
    if profile is None:
        from glrnn_hpc.doctor.machine import examine_machine

        report = examine_machine()
    else:
        # Here, as submitit and what it loads are of no use on a machine without Slurm.
        from glrnn_hpc.doctor.site_job import examine_site
        from glrnn_hpc.launch.slurm.profile import load_profile

        report = examine_site(load_profile(profile), 60 * timeout)
    tables.print_result(as_json, report.as_dict(), tables.doctor_lines(report))
    if report.count("problem"):
        raise typer.Exit(WRONG_INPUT)
    if report.is_incomplete:
        raise typer.Exit(LEFT_OUT)
