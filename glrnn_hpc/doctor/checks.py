"""Checks of the records of ranks: what each result means, and what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from glrnn_hpc.doctor import probe
from glrnn_hpc.doctor.probe import FilesStep, Hdf5Step, MpiStep, RankRecord, TensorflowStep
from glrnn_hpc.doctor.report import Check
from glrnn_hpc.worker import devices

#: Seconds to import TensorFlow on a node from which on it is worth another place for the environment.
SLOW_IMPORT = 60.0
#: Seconds to get and release the journal's lock, with the others who want it, from which on many ranks would wait.
SLOW_LOCK = 1.0


@dataclass(frozen=True)
class RankRequest:
    """Ranks that were requested, and what each of them was to have.

    Attributes
    ----------
    nodes, ranks_per_node, cpus_per_rank : int
        Sizes; 0 CPUs for as many as there are.
    gpus_per_rank, gpus_per_node : int
        GPUs; 0 for none.
    mpi : str, optional
        How srun starts the ranks; None for mpiexec.
    has_scratch : bool
        Whether data are to be copied to the node's own disk.
    """

    nodes: int
    ranks_per_node: int
    cpus_per_rank: int = 0
    gpus_per_rank: int = 0
    gpus_per_node: int = 0
    mpi: str | None = None
    has_scratch: bool = False

    @property
    def n_ranks(self) -> int:
        """All ranks."""
        return self.nodes * self.ranks_per_node


def check_ranks(
    records: Sequence[RankRecord], request: RankRequest, count: int | None, last_error: str = ""
) -> list[Check]:
    """Check the records of ranks.

    Parameters
    ----------
    records : sequence of RankRecord
        In any order; not empty.
    request : RankRequest
        The ranks that were requested.
    count : int, optional
        The number to which they counted together.
    last_error : str
        The last error in their log, for those that did not come to their end.
    """
    records = sorted(records, key=lambda record: record["task"])
    checks = list(_check_completeness(records, request, last_error))
    mpi = [record["MPI"] for record in records if "MPI" in record]
    files = [record["files"] for record in records if "files" in record]
    hdf5 = [record["HDF5"] for record in records if "HDF5" in record]
    if mpi:
        checks += [_check_mpi(mpi, request), *_check_hosts(records, request)]
    checks += _check_cpus(records, request)
    # What they did together says nothing if one of them did not do its part.
    if len(files) == request.n_ranks:
        checks += _check_files(files, request, count)
    if hdf5:
        checks.append(_check_hdf5(hdf5))
    with_tensorflow = [record for record in records if "TensorFlow" in record]
    if with_tensorflow:
        checks += _check_tensorflow([record["TensorFlow"] for record in with_tensorflow])
        if not any("error" in record["TensorFlow"] for record in with_tensorflow):
            checks += _check_gpus(with_tensorflow, request)
    return checks


def _check_completeness(records: Sequence[RankRecord], request: RankRequest, last_error: str) -> Iterator[Check]:
    unfinished = [record["doing"] for record in records if record["doing"] is not None]
    n_lost = len(unfinished) + max(0, request.n_ranks - len(records))
    if not n_lost:
        return
    where = f" while they were at {', '.join(sorted(set(unfinished)))}" if unfinished else " before their first line"
    reason = f": {last_error}" if last_error else ""
    advice = mpi_advice(request.mpi) if "MPI" in unfinished else "What the ranks wrote is below."
    yield Check("ranks", "problem", f"{n_lost} of {request.n_ranks} ranks ended{where}{reason}", advice)


def mpi_advice(mpi: str | None, library: str = "") -> str:
    """Return what to do if ranks do not see each other."""
    if mpi is None:
        return "mpiexec and mpi4py use different MPI libraries: `pip install '.[embedded-mpi]'`, or set MPI4PY_LIBMPI."
    if mpi == "none":
        return "`mpi: none` starts ranks that know nothing of each other: set mpi to pmix or pmi2 (see the check srun)."
    if "MPICH" in library or "Intel" in library:
        return (
            "MPICH is started by `mpi: pmi2`; for Open MPI load its module and set mpi_library, such as libmpi.so.40."
        )
    return (
        f"The library that mpi4py loads does not understand `mpi: {mpi}`: load the site's MPI module, set mpi_library "
        "(Open MPI: libmpi.so.40, MPICH: libmpi.so.12), or another kind than this, such as pmix or pmi2."
    )


def _check_mpi(steps: Sequence[MpiStep], request: RankRequest) -> Check:
    for step in steps:
        if "error" in step:
            return Check("MPI", "problem", step["error"], mpi_advice(request.mpi))
    library = steps[0].get("version", "")
    named = f"{library} from {steps[0]['file']}" if library else "no MPI"
    sizes = sorted({step["size"] for step in steps})
    if sizes != [request.n_ranks]:
        world = " or ".join(map(str, sizes))
        text = f"{request.n_ranks} ranks were started, and each sees a world of {world} ({named})"
        return Check("MPI", "problem", text, mpi_advice(request.mpi, library))
    text = f"{request.n_ranks} ranks see each other" if request.n_ranks > 1 else "one rank"
    return Check("MPI", "ok", f"{text} ({named})")


def _check_hosts(records: Sequence[RankRecord], request: RankRequest) -> Iterator[Check]:
    if request.mpi is None:
        return
    per_host: dict[str, int] = defaultdict(int)
    for record in records:
        per_host[record["host"]] += 1
    text = ", ".join(f"{count} on {host}" for host, count in sorted(per_host.items()))
    if len(records) == request.n_ranks and (len(per_host), set(per_host.values())) != (
        request.nodes,
        {request.ranks_per_node},
    ):
        text += f"; asked for {request.ranks_per_node} on each of {request.nodes}"
        yield Check("nodes", "problem", text, "Look for options of sbatch in the profile that spread ranks otherwise.")
    else:
        yield Check("nodes", "ok", text)


def _check_cpus(records: Sequence[RankRecord], request: RankRequest) -> Iterator[Check]:
    """Check that the ranks of a node have the CPUs that their threads are to keep busy."""
    on_host: dict[str, list[set[int]]] = defaultdict(list)
    for record in records:
        on_host[record["host"]].append(set(record["cpus"]))
    if not request.cpus_per_rank:
        (sets,) = on_host.values()
        yield Check("CPUs", "ok", f"{len(sets[0])} for {len(sets)} ranks")
        return
    for host, sets in sorted(on_host.items()):
        wanted = request.cpus_per_rank * len(sets)
        fewest, n_distinct = min(map(len, sets)), len(set.union(*sets))
        text = f"{host}: {fewest} for each rank, {n_distinct} for all {len(sets)}"
        if fewest < request.cpus_per_rank or n_distinct < wanted:
            yield Check(
                "CPUs",
                "warning",
                f"{text}; asked for {request.cpus_per_rank} each",
                "The ranks are in each other's way: look at cpus_per_task, and at how the site binds tasks.",
            )
            return
    yield Check("CPUs", "ok", text)


def _check_files(steps: Sequence[FilesStep], request: RankRequest, count: int | None) -> Iterator[Check]:
    errors = [step["error"] for step in steps if "error" in step]
    elsewhere = "Keep sweeps on another file system that all nodes see, such as the site's parallel one."
    if errors:
        yield Check("file system", "problem", errors[0], elsewhere)
        return
    n_ranks = len(steps)
    won = sum(step["won"] for step in steps)
    if won == probe.N_LINKS:
        yield Check("os.link", "ok", f"exclusive: each of {won} names was won by one of {n_ranks} ranks")
    else:
        text = f"not exclusive: {n_ranks} ranks won {won} times, of {probe.N_LINKS} names"
        yield Check("os.link", "problem", text, elsewhere)
    torn = sum(step["torn"] for step in steps)
    if torn:
        text = f"not atomic: {torn} of {n_ranks * probe.N_REPLACES} readers saw a part of a file"
        yield Check("os.replace", "problem", text, elsewhere)
    else:
        yield Check("os.replace", "ok", f"atomic: {n_ranks * probe.N_REPLACES} readers saw whole files")
    counted = n_ranks * probe.N_LOCKS
    seconds = max(step["lock_seconds"] for step in steps)
    if count != counted:
        text = f"the journal's lock let several in: {n_ranks} ranks counted to {count} instead of {counted}"
        yield Check("lock", "problem", text, f"{elsewhere} Or keep the study in a database (--storage).")
    elif seconds > SLOW_LOCK:
        text = f"the journal's lock works, but takes {seconds:.2g} s with {n_ranks} ranks"
        yield Check("lock", "warning", text, "With hundreds of ranks keep the study in a database (--storage).")
    else:
        yield Check("lock", "ok", f"the journal's lock holds; {1000 * seconds:.0f} ms with {n_ranks} ranks")
    if request.has_scratch:
        reasons = [step["scratch"] for step in steps if step["scratch"]]
        if reasons:
            advice = "Set scratch to a folder on the node's own disk, or leave it out: the data are read in place."
            yield Check("scratch", "warning", reasons[0], advice)
        else:
            yield Check("scratch", "ok", "can be written to")


def _check_hdf5(steps: Sequence[Hdf5Step]) -> Check:
    for step in steps:
        if "error" in step:
            return Check("HDF5", "problem", step["error"], "Install h5py anew; with MPI it must be built for this MPI.")
    if all(step["mpio"] for step in steps):
        return Check("HDF5", "ok", "h5py reads by MPI-IO: the ranks of a node read together")
    return Check(
        "HDF5",
        "ok",
        "h5py without MPI-IO: each rank reads its part by itself, with the same result",
        "Collective reads are for large data on parallel file systems: "
        "HDF5_MPI=ON CC=mpicc pip install --no-binary=h5py h5py, with the modules of MPI and parallel HDF5 loaded.",
    )


def _check_tensorflow(steps: Sequence[TensorflowStep]) -> Iterator[Check]:
    for step in steps:
        if "error" in step:
            yield Check("TensorFlow", "problem", step["error"], "pip install tensorflow; with GPUs '.[gpu]'.")
            return
    seconds = max(step["seconds"] for step in steps)
    text = f"{steps[0]['version']}, imported in {seconds:.0f} s; threads of a rank: {steps[0]['threads']}"
    if seconds > SLOW_IMPORT:
        advice = "Put the environment on a faster file system, or into a container: one file instead of thousands."
        yield Check("TensorFlow", "warning", text, advice)
    else:
        yield Check("TensorFlow", "ok", text)


def _check_gpus(records: Sequence[RankRecord], request: RankRequest) -> Iterator[Check]:
    used = [record["TensorFlow"]["gpu"] for record in records]
    if not (request.gpus_per_rank or request.gpus_per_node):
        if request.mpi is not None:
            text = "none asked for" + (f"; TensorFlow sees {used[0]}" if used[0] else "")
            yield Check("GPUs", "ok", text)
        return
    visible = ", ".join(f"{record['host']} {record['visible'] or '-'}" for record in records)
    text = f"CUDA_VISIBLE_DEVICES of the ranks: {visible}"
    if not all(record["visible"] for record in records):
        advice = "Slurm gives ranks no GPU: look at gpus_per_task or gpus_per_node, and at `sinfo --format='%P %G'`."
        yield Check("GPUs", "problem", text, advice)
        return
    n_gpus = len({_host_and_gpus(record, request) for record in records})
    if request.gpus_per_rank and n_gpus < len(records):
        text += f"; {n_gpus} GPUs for {len(records)} ranks although each asked for its own"
        # Without nvidia-smi the numbers may be those of GPUs that each rank sees alone.
        is_sure = all(record["gpus"] for record in records)
        advice = (
            "Ask the site how it binds GPUs to tasks." if is_sure else "Look whether they are the same: nvidia-smi."
        )
        yield Check("GPUs", "problem" if is_sure else "warning", text, advice)
    else:
        yield Check("GPUs", "ok", f"{text}; {n_gpus} GPUs for {len(records)} ranks")
    names = sorted({gpu for gpu in used if gpu})
    if all(used):
        yield Check("TensorFlow's GPUs", "ok", f"each rank has one: {', '.join(names)}")
    else:
        text = f"TensorFlow sees none on {used.count(None)} of {len(used)} ranks: they would compute on CPUs"
        advice = "pip install '.[gpu]' where python runs; a container needs --nv; look at nvidia-smi on the node."
        yield Check("TensorFlow's GPUs", "problem", text, advice)


def _host_and_gpus(record: RankRecord, request: RankRequest) -> tuple[str, ...]:
    """Return the host of a rank and the GPUs that it takes."""
    visible = (record["visible"] or "").split(",")
    if not request.gpus_per_rank:
        visible = [visible[devices.gpu_of(record.get("MPI", {}).get("on_node", 0), len(visible)) or 0]]
    known = dict(enumerate(record["gpus"]))
    return record["host"], *(known.get(int(gpu), gpu) if gpu.isdigit() else gpu for gpu in visible)
