"""What the commands print: tables, lines, progress, and one JSON object in place of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glrnn_hpc.collector.collection import Collection, SweepAccount
    from glrnn_hpc.records.sweep_summary import SweepSummary

#: Of trials that failed alike, that are named.
_NUMBERS = 10

#: Of what ranks wrote before they ended.
_LOG_LINES = 15


def status_lines(found: SweepSummary) -> list[str]:
    """Return the table of a sweep's trials and a line that sums it up."""
    rows = [
        [
            str(row["number"]),
            row["state"],
            row["where"] or "-",
            str(row["epochs"]),
            _number(row["last"]),
            _number(row["best_so_far"]),
            _number(row["epochs_per_minute"], 3),
            "-" if row["eta_seconds"] is None else duration(row["eta_seconds"]),
            point(row["params"]),
        ]
        for row in found["table"]
    ]
    metric = found["metric"]
    header = ["trial", "state", "where", "epoch", metric, f"best {metric}", "epochs/min", "at most", "parameters"]
    lines = [table(header, rows)]
    lines += [f"trial {row['number']} failed: {row['error']}" for row in found["table"] if row.get("error")]
    counts = ", ".join(f"{count} {state}" for state, count in found["trials"].items() if count)
    counts += f", {found['retried']} retried" if found["retried"] else ""
    best = found["best"]
    line = f"{found['state']}: {counts}" + (f"; best: trial {best['number']}, {best['value']:.6g}" if best else "")
    if found["eta_seconds"] is not None:
        line += f"; about {duration(found['eta_seconds'])} left"
    if found["utilisation"] is not None:
        line += f"; {found['utilisation']:.0%} of the ranks' time in fit and evaluate"
    return [*lines, line + (f" ({found['reason']})" if found["reason"] else "")]


def collect_lines(found: Collection) -> list[str]:
    """Return the lines of `glrnn collect`: the ranking, what the best one is worth, what went wrong, what it cost."""
    is_many, best, metric = "sweeps" in found, found["best"], found["metric"]
    where = {row["sweep"]: row["sweep"] + " " for row in [*found["top"], *found["refused"]]} if is_many else {}
    lines = [
        f"{where.get(row.get('sweep', ''), '')}trial {row['number']} was refused: {row['reason']}"
        for row in found["refused"]
    ]
    shown = [name for name in ("val_loss", "test_loss") if name != metric]
    rows = [
        [
            *([row["sweep"]] if is_many else []),
            str(row["number"]),
            _number(row["value"]),
            *(_number(row["recomputed"][name]) for name in shown),
            point(row["config"]),
        ]
        for row in found["top"]
    ]
    lines.append(table([*(["sweep"] if is_many else []), "trial", metric, *shown, "parameters"], rows))
    lines.append(
        f"best: {where.get(best.get('sweep', ''), '')}trial {best['number']}, verified on the val and test split"
    )
    lines.append(metrics_line(best["metrics"]))
    kinds = ("mae", "rmse", "r2")
    errors = [[name, *(_number(values[kind], 4) for kind in kinds)] for name, values in best["errors"].items()]
    lines.append(table(["test split", "MAE", "RMSE", "R2"], errors))
    accounts: Mapping[str, Collection | SweepAccount] = found["sweeps"] if is_many else {"": found}
    for root, sweep in accounts.items():
        lines += [f"{root}:"] if is_many else []
        lines += _account_lines(sweep)
    return [*lines, f"-> {best['path']}"]


def _account_lines(found: Collection | SweepAccount) -> list[str]:
    lines = []
    for group in found["failures"]:
        numbers = ", ".join(map(str, group["trials"][:_NUMBERS])) + (", …" if len(group["trials"]) > _NUMBERS else "")
        lines.append(f"{len(group['trials'])} failed ({numbers}): {group['error']}")
    if found["prunings"]:
        epochs = ", ".join(f"{count} after epoch {epoch}" for epoch, count in found["prunings"].items())
        lines.append(f"{found['trials']['pruned']} pruned: {epochs}")
    line = f"{found['state']} after {duration(found['wall_seconds'])}; {found['rank_hours']:.3g} rank hours in trials"
    if found["utilisation"] is not None:
        line += f" of {found['allocated_rank_hours']:.3g} allocated, {found['utilisation']:.0%} in fit and evaluate"
    return [*lines, line]


def check_lines(found: dict[str, Any]) -> list[str]:
    """Return the lines of `glrnn doctor`: each check, and below it what to do."""
    width = max(len(check["name"]) for check in found["checks"])
    lines = []
    for check in found["checks"]:
        lines.append(f"{check['status']:<8} {check['name']:<{width}}  {check['found']}")
        if check["advice"]:
            lines.append(f"{'':<8} {'':<{width}}  -> {check['advice']}")
    if found["log"]:
        lines += ["", "The last lines that the ranks wrote:", *found["log"].splitlines()[-_LOG_LINES:], ""]
    return [*lines, f"problems: {found['problems']}, warnings: {found['warnings']}"]


def _number(value: float | None, digits: int = 6) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """Return seconds as h, min or s."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{minutes:.0f} min" if minutes >= 1 else f"{seconds:.0f} s"


def point(params: dict[str, Any]) -> str:
    """Return parameters in one line."""
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()
    )


def metrics_line(metrics: dict[str, float]) -> str:
    """Return metrics in one line."""
    return ", ".join(f"{name} {value:.5g}" for name, value in metrics.items())


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return rows in columns as wide as their longest cells."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def show(as_json: bool, content: Mapping[str, object], lines: list[str]) -> None:
    """Print one JSON object, or the lines."""
    if as_json:
        print(json.dumps(content))
    else:
        print("\n".join(lines))
