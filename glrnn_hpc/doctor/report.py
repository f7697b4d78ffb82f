"""Report of `glrnn doctor`: its checks, and the records of the ranks that they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from glrnn_hpc.doctor.probe import RankRecord
from glrnn_hpc.records.json_types import JsonObject

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One part of an installation or a site, and whether it works.

    Attributes
    ----------
    name : str
        The part.
    status : str
        ok; warning, if it works, but not as well as it could; problem, if it does not work as it was requested.
    result, advice : str
        One line each; no advice where nothing is to be done.
    """

    name: str
    status: Status
    result: str
    advice: str = ""


@dataclass
class Report:
    """Result of a run of `glrnn doctor`.

    Attributes
    ----------
    checks : list of Check
        In the order in which they were made.
    ranks : list of RankRecord
        One for each rank that wrote its record.
    log : str
        What the ranks printed, if they did not come to their end.
    is_incomplete : bool
        Whether the job did not run in time, so that the nodes were not examined.
    """

    checks: list[Check] = field(default_factory=list)
    ranks: list[RankRecord] = field(default_factory=list)
    log: str = ""
    is_incomplete: bool = False

    def add(self, name: str, status: Status, result: str, advice: str = "") -> None:
        """Add a check."""
        self.checks.append(Check(name, status, result, advice))

    def count(self, status: Status) -> int:
        """Return how many checks have a status."""
        return sum(check.status == status for check in self.checks)

    def as_dict(self) -> JsonObject:
        """Return the content of `--json`."""
        return {
            "checks": [
                {"name": check.name, "status": check.status, "found": check.result, "advice": check.advice}
                for check in self.checks
            ],
            "problems": self.count("problem"),
            "warnings": self.count("warning"),
            "is_incomplete": self.is_incomplete,
            "ranks": self.ranks,
            "log": self.log,
        }
