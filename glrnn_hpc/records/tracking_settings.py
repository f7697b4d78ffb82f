"""Settings of the tracking of a sweep by W&B: `tracking.json`, written once when the sweep is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from glrnn_hpc import layout
from glrnn_hpc.records.json_types import VERSION


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
    """

    mode: str
    project: str
    entity: str | None
    group: str
    sweep_id: str | None
    prefix: str

    def run_id(self, number: int) -> str:
        """Return the id of a trial's run."""
        return f"{self.prefix}-{number}"

    def write(self, sweep: layout.SweepFolder) -> None:
        """Write `tracking.json`."""
        layout.write_json(sweep.tracking, {**asdict(self), "version": VERSION})


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
    content = layout.read_record(sweep.tracking, *names)
    settings = TrackingSettings(**{name: content[name] for name in names})
    return None if settings.mode == "disabled" else settings
