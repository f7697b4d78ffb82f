"""Ownership of trials: leases (`lease-<generation>.json`), and the processes of a worker (`worker.json`)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from glrnn_hpc import layout
from glrnn_hpc.errors import RecordError
from glrnn_hpc.processes import Process
from glrnn_hpc.records.json_types import VERSION, JsonObject, integer_at, number_at


@dataclass(frozen=True)
class Owner:
    """A rank that can hold trials.

    Attributes
    ----------
    job : str
        Its worker.
    rank : int
        Its number in the worker's world.
    process : Process
        Its process, by which other ranks of the host see whether it still runs.
    """

    job: str
    rank: int
    process: Process

    def publish(self, folder: layout.TrialFolder, generation: int) -> bool:
        """Write the lease of a generation; exactly one of many owners gets True."""
        return layout.publish_once(folder.lease(generation), {**asdict(self), "time": time.time(), "version": VERSION})


def read_lease_owner(folder: layout.TrialFolder, generation: int) -> Owner:
    """Read who took a generation of a trial.

    Raises
    ------
    FileNotFoundError
        If nobody did.
    RecordError
        If the lease is broken.
    """
    path = folder.lease(generation)
    content = layout.read_record(path, "job", "rank", "process")
    try:
        return Owner(str(content["job"]), integer_at(path, content, "rank"), _process(content["process"]))
    except (KeyError, TypeError) as error:
        raise RecordError(f"{path}: is broken: {error}.") from error


def read_lease_time(folder: layout.TrialFolder, generation: int) -> float:
    """Read when a generation of a trial was taken [s since 1970].

    Raises
    ------
    FileNotFoundError
        If nobody took it.
    RecordError
        If the lease is broken.
    """
    path = folder.lease(generation)
    return number_at(path, layout.read_record(path, "time"), "time")


@dataclass(frozen=True)
class WorkerRecord:
    """Processes of a worker.

    Attributes
    ----------
    ranks : tuple of Process
        In the order of the ranks.
    shared_memory : tuple of str
        Names of MPICH's shared memory that killed ranks would leave behind.
    """

    ranks: tuple[Process, ...]
    shared_memory: tuple[str, ...] = ()

    def write(self, folder: layout.WorkerFolder) -> None:
        """Write `worker.json`."""
        content = {"ranks": [asdict(each) for each in self.ranks], "shared_memory": list(self.shared_memory)}
        layout.write_json(folder.record, {**content, "version": VERSION})


def read_worker_record(folder: layout.WorkerFolder) -> WorkerRecord | None:
    """Read which processes a worker has; None if its ranks have not registered.

    Raises
    ------
    RecordError
        If the record is broken.
    """
    if not folder.record.exists():
        return None
    content = layout.read_record(folder.record, "ranks", "shared_memory")
    try:
        return WorkerRecord(tuple(_process(each) for each in content["ranks"]), tuple(content["shared_memory"]))
    except (KeyError, TypeError) as error:
        raise RecordError(f"{folder.record}: is broken: {error}.") from error


def write_started(folder: layout.WorkerFolder, process: Process) -> None:
    """Write which process a launcher started for a worker: `started.json`."""
    layout.write_json(folder.started, {**asdict(process), "version": VERSION})


def read_started(folder: layout.WorkerFolder) -> Process | None:
    """Read which process a launcher started for a worker; None if it started none on its own host.

    Raises
    ------
    RecordError
        If the record is broken.
    """
    if not folder.started.exists():
        return None
    return _process(layout.read_record(folder.started, "host", "pid", "started"))


def _process(content: JsonObject) -> Process:
    return Process(content["host"], content["pid"], content["started"])
