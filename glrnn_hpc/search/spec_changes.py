"""Changes of a sweep file after its sweep was made: those that a sweep takes over, and those that would mix trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.records.json_types import JsonObject
from glrnn_hpc.search.spec import SweepSpec

#: Keys whose values decide nothing about a trial, or only how many there are.
_FREE = frozenset({"name", "description", "program", "command", "run_cap"})

#: The path of the data may change, as data move; their content may not, which is checked where it can be read.
DATA_PATH = "parameters.raw_data"


@dataclass(frozen=True)
class SpecChange:
    """Change of one key of a sweep file: its path, its value at the start and now; None for a key that is not there."""

    path: str
    before: object
    now: object

    def __str__(self) -> str:
        return f"{self.path}: {_shown(self.before)} at the start, {_shown(self.now)} now"

    @property
    def is_allowed(self) -> bool:
        """Whether the sweep can go on with it: its trials mean the same as before."""
        is_hyperband_off = self.path == "early_terminate" and self.now is None
        return self.path in _FREE or self.path == DATA_PATH or is_hyperband_off


def changes_of(before: SweepSpec, now: SweepSpec) -> list[SpecChange]:
    """Return the keys in which two sweeps differ, in the order of the file; the order of the keys does not count."""
    first, second = (dict(_leaves(spec.as_dict())) for spec in (before, now))
    return [
        SpecChange(path, first.get(path), second.get(path))
        for path in dict.fromkeys([*first, *second])
        if first.get(path) != second.get(path)
    ]


def allowed_changes(before: SweepSpec, now: SweepSpec, where: object) -> list[SpecChange]:
    """Return the changes of a sweep file, if the sweep can take over all of them.

    Parameters
    ----------
    before, now : SweepSpec
        The sweep as it was resolved at its start, and the file as it is now.
    where : object
        Path of the file, for the message.

    Raises
    ------
    ConfigError
        If a change would mix trials that cannot be compared.
    """
    changes = changes_of(before, now)
    if refused := [change for change in changes if not change.is_allowed]:
        lines = "".join(f"\n  {change}" for change in refused)
        raise ConfigError(
            f"{where}: was changed after the sweep was made, whose trials would not be comparable:{lines}\n"
            "Put these values back, or make a new sweep with another --out. In a sweep that was made may change: "
            "run_cap, name, description, program, command, the path of raw_data, and early_terminate may be taken away."
        )
    return changes


def _leaves(content: JsonObject) -> Iterator[tuple[str, object]]:
    """Yield key paths and values: those of metric and of each parameter, and the other keys as a whole."""
    for key, value in content.items():
        if key in ("metric", "parameters") and isinstance(value, Mapping):
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield key, value


def _shown(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
