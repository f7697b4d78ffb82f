"""Output of the commands on stdout: tables and lines, or one JSON object in place of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import rich.table

    from glrnn_hpc.collector.collection import Collection, ExportedEnsemble, SweepAccount
    from glrnn_hpc.doctor.report import Report
    from glrnn_hpc.records.sweep_summary import SweepSummary

#: Trials with the same error that are named.
_MAX_NUMBERS = 10

#: Lines of the ranks' log that are printed.
_LOG_LINES = 15


@dataclass(frozen=True)
class Table:
    """Table of texts.

    Attributes
    ----------
    header : sequence of str
        One title for each column.
    rows : sequence of sequence of str
        One text for each column.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def as_text(self) -> str:
        """Return the rows in columns as wide as their longest cells, however wide a terminal is."""
        widths = [max(len(row[column]) for row in [self.header, *self.rows]) for column in range(len(self.header))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [self.header, *self.rows]
        ]
        return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])

    def for_terminal(self) -> rich.table.Table:
        """Return the table that rich fits into the width of a terminal."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for title in self.header:
            table.add_column(Text(title))
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


Output: TypeAlias = list[str | Table]


def print_result(as_json: bool, content: Mapping[str, Any], output: Sequence[str | Table]) -> None:
    """Print the result of a command: one JSON object, or its tables and lines."""
    if as_json:
        print(json.dumps(content))
    elif sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        console = Console()
        for part in output:
            if isinstance(part, Table):
                console.print(part.for_terminal())
            else:
                console.print(Text(part), soft_wrap=True)
    else:
        print("\n".join(part.as_text() if isinstance(part, Table) else part for part in output))


def clear_terminal() -> None:
    """Clear the terminal, so that what is printed next replaces what was there; a log stays as it is."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().clear()


def status_output(summary: SweepSummary) -> Output:
    """Return the table of a sweep's trials, and a line that sums it up."""
    rows = [
        [
            str(row["number"]),
            row["state"],
            row["where"] or "-",
            str(row["epochs"]),
            _format_number(row["last"]),
            _format_number(row["best_so_far"]),
            _format_number(row["epochs_per_minute"], 3),
            "-" if row["eta_seconds"] is None else format_duration(row["eta_seconds"]),
            format_point(row["params"]),
        ]
        for row in summary["table"]
    ]
    metric = summary["metric"]
    header = ["trial", "state", "where", "epoch", metric, f"best {metric}", "epochs/min", "at most", "parameters"]
    output: Output = [Table(header, rows)]
    output += [f"trial {row['number']} failed: {row['error']}" for row in summary["table"] if row.get("error")]
    counts = ", ".join(f"{count} {state}" for state, count in summary["trials"].items() if count)
    counts += f", {summary['retried']} retried" if summary["retried"] else ""
    best = summary["best"]
    line = f"{summary['state']}: {counts}" + (f"; best: trial {best['number']}, {best['value']:.6g}" if best else "")
    if summary["eta_seconds"] is not None:
        line += f"; about {format_duration(summary['eta_seconds'])} left"
    if summary["utilisation"] is not None:
        line += f"; {summary['utilisation']:.0%} of the ranks' time in fit and evaluate"
    return [*output, line + (f" ({summary['reason']})" if summary["reason"] else "")]


def collect_output(summary: Collection) -> Output:
    """Return the output of `glrnn collect`: the ranking, the best model's errors, the failures and the cost."""
    from glrnn_hpc.records.baseline import BaselineComparison

    is_many, best, metric = "sweeps" in summary, summary["best"], summary["metric"]
    where = {row["sweep"]: row["sweep"] + " " for row in [*summary["top"], *summary["refused"]]} if is_many else {}
    output: Output = [
        f"{where.get(row.get('sweep', ''), '')}trial {row['number']} was refused: {row['reason']}"
        for row in summary["refused"]
    ]
    # Losses of transformed labels in the first two; the third is there where labels are transformed or exact.
    losses = ("val_loss", "test_loss", "test_loss_raw")
    shown = [name for name in losses if name != metric and all(name in row["recomputed"] for row in summary["top"])]
    rows = [
        [
            *([row["sweep"]] if is_many else []),
            str(row["number"]),
            _format_number(row["value"]),
            *(_format_number(row["recomputed"][name]) for name in shown),
            format_point(row["config"]),
        ]
        for row in summary["top"]
    ]
    output.append(Table([*(["sweep"] if is_many else []), "trial", metric, *shown, "parameters"], rows))
    sweep_of_best = where.get(best.get("sweep", ""), "")
    output.append(f"best: {sweep_of_best}trial {best['number']}, verified on the val and test split")
    output.append(format_metrics(best["metrics"]))
    output.append(Table(["test split", "MAE", "RMSE", "R2"], _error_rows(best["errors"])))
    if "ensemble" in summary:
        output += _ensemble_output(summary["ensemble"])
    if "baseline" in summary:
        output.append(BaselineComparison(**summary["baseline"]).in_words())
    accounts: Mapping[str, Collection | SweepAccount] = summary["sweeps"] if is_many else {"": summary}
    for root, sweep in accounts.items():
        output += [f"{root}:"] if is_many else []
        output += _cost_lines(sweep)
    return [*output, f"-> {best['path']}"]


def _error_rows(errors: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    kinds = ("mae", "rmse", "r2")
    return [[name, *(_format_number(values[kind], 4) for kind in kinds)] for name, values in errors.items()]


def _ensemble_output(ensemble: ExportedEnsemble) -> Output:
    """Return the members of an ensemble, its errors beside those of the best one, and what its intervals hold."""
    members = ", ".join(
        f"{member['sweep'] + ' ' if 'sweep' in member else ''}trial {member['number']}"
        + (f" x{member['weight']}" if member["weight"] > 1 else "")
        for member in ensemble["members"]
    )
    n_candidates, asked = ensemble["candidates"], ensemble["asked"]
    output: Output = [f"ensemble of {members}, chosen on the val split from {n_candidates} verified trials"]
    if n_candidates < asked:
        output.append(f"--ensemble {asked}: there are no more than {n_candidates} verified trials")
    level = f"held by {ensemble['interval_level']:.0%} interval"
    rows = [
        [*row, f"{part:.1%}"]
        for row, part in zip(_error_rows(ensemble["errors"]), ensemble["coverage"].values(), strict=True)
    ]
    output.append(Table(["test split", "MAE", "RMSE", "R2", level], rows))
    single = ensemble["best_single"]
    errors = [each["mse_standardised"] for each in (ensemble, single)]
    output += [
        f"MSE in standardised units from step {ensemble['first_step']} on, {split} split: "
        f"{_format_number(errors[0][split], 4)}, of the best single one (trial {single['number']}) "
        f"{_format_number(errors[1][split], 4)}"
        for split in ("val", "test")
    ]
    return output


def _cost_lines(summary: Collection | SweepAccount) -> list[str]:
    """Return the lines about failed and pruned trials, and the time that the ranks used."""
    lines = []
    for group in summary["failures"]:
        numbers = ", ".join(map(str, group["trials"][:_MAX_NUMBERS]))
        numbers += ", …" if len(group["trials"]) > _MAX_NUMBERS else ""
        lines.append(f"{len(group['trials'])} failed ({numbers}): {group['error']}")
    if summary["prunings"]:
        epochs = ", ".join(f"{count} after epoch {epoch}" for epoch, count in summary["prunings"].items())
        lines.append(f"{summary['trials']['pruned']} pruned: {epochs}")
    duration = format_duration(summary["wall_seconds"])
    line = f"{summary['state']} after {duration}; {summary['rank_hours']:.3g} rank hours in trials"
    if summary["utilisation"] is not None:
        line += f" of {summary['allocated_rank_hours']:.3g} allocated, {summary['utilisation']:.0%} in fit and evaluate"
    return [*lines, line]


def doctor_lines(report: Report) -> list[str]:
    """Return the lines of `glrnn doctor`: each check, and its advice below it."""
    width = max(len(check.name) for check in report.checks)
    lines = []
    for check in report.checks:
        lines.append(f"{check.status:<8} {check.name:<{width}}  {check.result}")
        if check.advice:
            lines.append(f"{'':<8} {'':<{width}}  -> {check.advice}")
    if report.log:
        lines += ["", "The last lines that the ranks wrote:", *report.log.splitlines()[-_LOG_LINES:], ""]
    return [*lines, f"problems: {report.count('problem')}, warnings: {report.count('warning')}"]


def _format_number(value: float | None, digits: int = 6) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def format_duration(seconds: float) -> str:
    """Return seconds as h, min or s."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min" if minutes >= 1 else f"{seconds:.0f} s"


def format_point(params: Mapping[str, Any]) -> str:
    """Return parameters in one line."""
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()
    )


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Return metrics in one line."""
    return ", ".join(f"{name} {value:.5g}" for name, value in metrics.items())
