"""Application `glrnn` that all commands join: its exit statuses, and the types of common arguments."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from glrnn_hpc import logs
from glrnn_hpc.errors import WRONG_INPUT, GlrnnError

DONE, BUG, LEFT_OUT = 0, 1, 3

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
    """Run `glrnn`; an error that the user can correct is one message and exit status 2."""
    logs.to_stderr()
    try:
        app()
    except GlrnnError as error:
        # An error that every MPI rank raises is printed by one of them.
        if not error.is_agreed or _rank() == 0:
            logs.print_error(error)
        sys.exit(WRONG_INPUT)


def _rank() -> int:
    from glrnn_hpc.data.ranks import world

    return world().rank
