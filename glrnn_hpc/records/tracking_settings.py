"""Settings of the tracking of a sweep by W&B: `tracking.json`, written once when the sweep is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from glrnn_hpc import layout
from glrnn_hpc.records.json_types import VERSION, JsonObject

_OF_THE_SWEEP = frozenset({"method", "constants"})


@dataclass(frozen=True)
class TrackingSettings:
    """Settings by which the trials of a sweep are logged to W&B.

    Attributes
    ----------
    mode : str
        offline, online or disabled.
    project : str
        Of the runs.
    entity : str or None
        User or team; None for W&B's own choice.
    group : str
        The name of the sweep.
    sweep_id : str or None
        Of a W&B sweep in which the runs arrive.
    prefix : str
        Beginning of the ids of all runs.
    method, constants : str and dict, or None
        Of the sweep as it was made, for the tag and the configuration of its runs; sweeps of earlier versions have them
        in their file alone.
    """

    mode: str
    project: str
    entity: str | None
    group: str
    sweep_id: str | None
    prefix: str
    method: str | None = None
    constants: JsonObject | None = None

    def run_id(self, number: int) -> str:
        """Return the id of a trial's run."""
        return f"{self.prefix}-{number}"

    def write(self, sweep: layout.SweepFolder) -> None:
        """Write `tracking.json`."""
        content = {**asdict(self), "version": VERSION}
        # Left out where they are not known, as in earlier versions.
        unknown = {name for name in _OF_THE_SWEEP if content[name] is None}
        layout.write_json(sweep.tracking, {name: value for name, value in content.items() if name not in unknown})


def read_tracking_settings(sweep: layout.SweepFolder) -> TrackingSettings | None:
    """Read the settings of a sweep; None if its trials are not tracked.

    Raises
    ------
    RecordError
        If the file is broken.
    """
    if not sweep.tracking.exists():
        return None
    names = [each.name for each in fields(TrackingSettings)]
    content = layout.read_record(sweep.tracking, *(name for name in names if name not in _OF_THE_SWEEP))
    settings = TrackingSettings(**{name: content[name] for name in names if name in content})
    return None if settings.mode == "disabled" else settings
