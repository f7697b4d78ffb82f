"""Commands for runs in W&B."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from glrnn_hpc.cli import tables
from glrnn_hpc.cli.app import LEFT_OUT, Json, app


@app.command()
def sync(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a sweep, or the --out of glrnn train.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    include_unfinished: Annotated[
        bool, typer.Option("--include-unfinished", help="Send runs, too, that are still written.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send offline runs to the server of W&B, from where there is internet; what it has is not sent again."""
    from glrnn_hpc.tracking.sync import sync as sync_runs

    outcomes = sync_runs(folder, is_dry=dry_run, include_unfinished=include_unfinished)
    states = ["would sync"] if dry_run else ["synced"]
    counts = {state: sum(each.state == state for each in outcomes) for state in [*states, "skipped", "failed"]}
    content = {"synced": 0, **{state.replace(" ", "_"): count for state, count in counts.items()}}
    lines = [f"{each.name}: {each.state}" + _in_brackets(each.reason or each.path) for each in outcomes]
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items()))
    tables.print_result(as_json, {**content, "runs": [asdict(each) for each in outcomes]}, lines)
    if counts["failed"]:
        raise typer.Exit(LEFT_OUT)


def _in_brackets(text: str | None) -> str:
    return f" ({text})" if text else ""
