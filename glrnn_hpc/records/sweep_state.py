"""State of a sweep and how its workers are started: `state.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Literal, get_args

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.records.json_types import VERSION, JsonObject, mapping_at, number_at, version_of, without_missing

#: Keys that are not written while they are false or zero.
_SELDOM_SAID = frozenset({"is_past_target", "n_failed_before", "keep_going", "edits", "memory"})

State = Literal["running", "cancelled", "finished"]


@dataclass(frozen=True)
class Timing:
    """Times after which a sweep notices what happens to its workers [s].

    Attributes
    ----------
    heartbeat : float
        Between two heartbeats of a worker, and between two looks at those of others.
    dead_after : float
        Without a heartbeat, on the clock of the one who looks, after which a worker counts as dead.
    hang_timeout : float
        Without progress after which a rank ends its worker.
    """

    heartbeat: float = 15.0
    dead_after: float = 90.0
    hang_timeout: float = 3600.0


@dataclass(frozen=True)
class LaunchPlan:
    """Plan by which a launcher starts the workers of a sweep, at first and when it is resumed.

    Attributes
    ----------
    workers, ranks_per_worker : int
        Workers, and MPI ranks of each.
    workers_per_node : int
        Workers that share the CPUs of a node.
    cluster : str
        Name of the launcher, or ``module:Class`` of the user's own.
    profile : dict
        Of the site, as its launcher writes it.
    jobs : str
        Beginning of the names of the sweep's jobs.
    collect : bool
        Whether the best model is exported when the workers have ended.
    timing : Timing
        Of heartbeats.
    directory : str or None
        Folder in which the sweep was made; modules of the user's own are looked for there.
    keep_going : bool
        Whether the sweep goes on even if its first trials all fail with the same error.
    memory : str or None
        Memory of the ranks of a worker on a node, such as 16G, near which they are started anew; None for what the
        profile says or the kernel enforces.
    """

    workers: int = 0
    ranks_per_worker: int = 1
    workers_per_node: int = 1
    cluster: str = "local"
    profile: JsonObject = field(default_factory=dict)
    jobs: str = ""
    collect: bool = False
    timing: Timing = field(default_factory=Timing)
    directory: str | None = None
    keep_going: bool = False
    memory: str | None = None


@dataclass(frozen=True)
class SweepState:
    """State of a sweep.

    Attributes
    ----------
    state : str
        running, cancelled or finished.
    n_trials : int
        Number of trials, repeated ones not counted.
    created : float
        When the sweep was made [s since 1970].
    launch : LaunchPlan
        Its keys stand beside the others in the file.
    reason : str or None
        Why the sweep is finished, or why it was stopped: cancelled, but not by its user.
    is_past_target : bool
        Whether more trials were wanted after one had reached metric.target.
    n_failed_before : int
        Trials that had failed when the sweep was last resumed.
    edits : tuple of str
        Changes of the sweep file that the sweep has taken over when it was resumed.
    version : str
        Of the form of the record.
    """

    state: State
    n_trials: int
    created: float
    launch: LaunchPlan = field(default_factory=LaunchPlan)
    reason: str | None = None
    is_past_target: bool = False
    n_failed_before: int = 0
    edits: tuple[str, ...] = ()
    version: str = VERSION

    @property
    def is_stopped(self) -> bool:
        """Whether the sweep was cancelled for a reason of its own, and not by its user."""
        return self.state == "cancelled" and self.reason is not None

    def write(self, folder: layout.SweepFolder) -> None:
        """Write `state.json`; a reader sees the old state or the new one."""
        layout.write_json(folder.state, self.as_json())

    def as_json(self) -> JsonObject:
        """Return what the file holds."""
        content = asdict(self) | {"version": VERSION}
        launch = content.pop("launch")
        # Left out while they say nothing, as in earlier versions.
        said = {key: value for key, value in (content | launch).items() if value or key not in _SELDOM_SAID}
        return without_missing(said)


def read_sweep_state(folder: layout.SweepFolder) -> SweepState:
    """Read the state of a sweep.

    Raises
    ------
    RecordError
        If the file is broken, such as without the state or the time when the sweep was made.
    """
    path = folder.state
    content = layout.read_record(path, "state", "created")
    if content["state"] not in get_args(State):
        raise RecordError(f"{path}: is broken: state is {content['state']!r}, not {', '.join(get_args(State))}.")
    given = {each.name: content[each.name] for each in fields(LaunchPlan) if each.name in content}
    if "timing" in given:
        timing = mapping_at(path, content, "timing")
        names = [each.name for each in fields(Timing)]
        if lacking := [name for name in names if name not in timing]:
            raise RecordError(f"{path}: is broken: timing has no {', '.join(lacking)}.")
        given["timing"] = Timing(*(number_at(path, timing, name) for name in names))
    return SweepState(
        state=content["state"],
        n_trials=int(content.get("n_trials", 0)),
        created=number_at(path, content, "created"),
        launch=LaunchPlan(**given),
        reason=content.get("reason"),
        is_past_target=bool(content.get("is_past_target", False)),
        n_failed_before=int(content.get("n_failed_before", 0)),
        edits=tuple(map(str, content.get("edits", ()))),
        version=version_of(content),
    )
