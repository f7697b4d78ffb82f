"""What the findings of ranks mean: each check with its status, what was found, and what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from glrnn_hpc.doctor import probe
from glrnn_hpc.worker import devices

Finding = dict[str, Any]

#: Seconds to import TensorFlow on a node from which on it is worth another place for the environment.
SLOW_IMPORT = 60.0
#: Seconds to get and give back the journal's lock, with the others who want it, from which on many ranks would wait.
SLOW_LOCK = 1.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name : str
        What was looked at.
    status : str
        ok; warning, if it works, but not as well as it could; problem, if it does not work as it was asked for.
    found, advice : str
        One line each; no advice where nothing is to be done.
    """

    name: str
    status: Literal["ok", "warning", "problem"]
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Asked:
    """What ranks were asked for.

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


@dataclass
class Report:
    """What was found.

    Attributes
    ----------
    checks : list of Check
        In the order in which they were made.
    ranks : list of dict
        What each rank wrote.
    log : str
        What the ranks printed, if they did not come to their end.
    is_incomplete : bool
        Whether the job did not run in time, so that the nodes were not looked at.
    """

    checks: list[Check] = field(default_factory=list)
    ranks: list[Finding] = field(default_factory=list)
    log: str = ""
    is_incomplete: bool = False

    def count(self, status: str) -> int:
        """Return how many checks have a status."""
        return sum(check.status == status for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "checks": [asdict(check) for check in self.checks],
            "problems": self.count("problem"),
            "warnings": self.count("warning"),
            "is_incomplete": self.is_incomplete,
            "ranks": self.ranks,
            "log": self.log,
        }


def judge(found: list[Finding], asked: Asked, count: int | None, said: str = "") -> list[Check]:
    """Return what the findings of ranks mean.

    Parameters
    ----------
    found : list of dict
        What each rank wrote, in any order; not empty.
    asked : Asked
        What they were asked to be.
    count : int, optional
        The number that they counted up together.
    said : str
        Their last words, for those that did not come to their end.
    """
    found = sorted(found, key=lambda each: each["task"])
    checks = list(_lost(found, asked, said))
    whole = {step: [each[step] for each in found if step in each] for step in ("MPI", "files", "HDF5", "TensorFlow")}
    if whole["MPI"]:
        checks += [_mpi(whole["MPI"], asked), *_hosts(found, asked)]
    checks += _cpus(found, asked)
    # What they did together says nothing if one of them did not do its part.
    if len(whole["files"]) == asked.n_ranks:
        checks += _files(whole["files"], asked, count)
    if whole["HDF5"]:
        checks.append(_hdf5(whole["HDF5"]))
    if whole["TensorFlow"]:
        checks += _tensorflow(found, whole["TensorFlow"], asked)
    return checks


def _lost(found: list[Finding], asked: Asked, said: str) -> Iterator[Check]:
    doing = sorted({each["doing"] for each in found if each["doing"] is not None})
    n_lost = sum(each["doing"] is not None for each in found) + max(0, asked.n_ranks - len(found))
    if not n_lost:
        return
    where = f" while they were at {', '.join(doing)}" if doing else " before their first line"
    words = f": {said}" if said else ""
    advice = mpi_advice(asked.mpi) if "MPI" in doing else "What the ranks wrote is below."
    yield Check("ranks", "problem", f"{n_lost} of {asked.n_ranks} ranks ended{where}{words}", advice)


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
        "(Open MPI: libmpi.so.40, MPICH: libmpi.so.12), or choose the other of pmix and pmi2."
    )


def _mpi(found: list[Finding], asked: Asked) -> Check:
    for each in found:
        if "error" in each:
            return Check("MPI", "problem", each["error"], mpi_advice(asked.mpi))
    library = found[0].get("version", "")
    named = f"{library} from {found[0]['file']}" if library else "no MPI"
    sizes = sorted({each["size"] for each in found})
    if sizes != [asked.n_ranks]:
        seen = " or ".join(map(str, sizes))
        text = f"{asked.n_ranks} ranks were started, and each sees a world of {seen} ({named})"
        return Check("MPI", "problem", text, mpi_advice(asked.mpi, library))
    text = f"{asked.n_ranks} ranks see each other" if asked.n_ranks > 1 else "one rank"
    return Check("MPI", "ok", f"{text} ({named})")


def _hosts(found: list[Finding], asked: Asked) -> Iterator[Check]:
    if asked.mpi is None:
        return
    per_host: dict[str, int] = defaultdict(int)
    for each in found:
        per_host[each["host"]] += 1
    text = ", ".join(f"{count} on {host}" for host, count in sorted(per_host.items()))
    if len(found) == asked.n_ranks and (len(per_host), set(per_host.values())) != (asked.nodes, {asked.ranks_per_node}):
        text += f"; asked for {asked.ranks_per_node} on each of {asked.nodes}"
        yield Check("nodes", "problem", text, "Look for options of sbatch in the profile that spread ranks otherwise.")
    else:
        yield Check("nodes", "ok", text)


def _cpus(found: list[Finding], asked: Asked) -> Iterator[Check]:
    """Check that the ranks of a node have the CPUs that their threads are to keep busy."""
    on_host: dict[str, list[set[int]]] = defaultdict(list)
    for each in found:
        on_host[each["host"]].append(set(each["cpus"]))
    if not asked.cpus_per_rank:
        (sets,) = on_host.values()
        yield Check("CPUs", "ok", f"{len(sets[0])} for {len(sets)} ranks")
        return
    for host, sets in sorted(on_host.items()):
        wanted = asked.cpus_per_rank * len(sets)
        fewest, together = min(map(len, sets)), len(set.union(*sets))
        text = f"{host}: {fewest} for each rank, {together} for all {len(sets)}"
        if fewest < asked.cpus_per_rank or together < wanted:
            yield Check(
                "CPUs",
                "warning",
                f"{text}; asked for {asked.cpus_per_rank} each",
                "The ranks are in each other's way: look at cpus_per_task, and at how the site binds tasks.",
            )
            return
    yield Check("CPUs", "ok", text)


def _files(found: list[Finding], asked: Asked, count: int | None) -> Iterator[Check]:
    errors = [each["error"] for each in found if "error" in each]
    elsewhere = "Keep sweeps on another file system that all nodes see, such as the site's parallel one."
    if errors:
        yield Check("file system", "problem", errors[0], elsewhere)
        return
    n_ranks = len(found)
    won = sum(each["won"] for each in found)
    if won == probe.N_LINKS:
        yield Check("os.link", "ok", f"exclusive: each of {won} names was won by one of {n_ranks} ranks")
    else:
        text = f"not exclusive: {n_ranks} ranks won {won} times, of {probe.N_LINKS} names"
        yield Check("os.link", "problem", text, elsewhere)
    torn = sum(each["torn"] for each in found)
    if torn:
        text = f"not atomic: {torn} of {n_ranks * probe.N_REPLACES} readers saw a part of a file"
        yield Check("os.replace", "problem", text, elsewhere)
    else:
        yield Check("os.replace", "ok", f"atomic: {n_ranks * probe.N_REPLACES} readers saw whole files")
    counted = n_ranks * probe.N_LOCKS
    seconds = max(each["lock_seconds"] for each in found)
    if count != counted:
        text = f"the journal's lock let several in: {n_ranks} ranks counted to {count} instead of {counted}"
        yield Check("lock", "problem", text, f"{elsewhere} Or keep the study in a database (--storage).")
    elif seconds > SLOW_LOCK:
        text = f"the journal's lock works, but takes {seconds:.2g} s with {n_ranks} ranks"
        yield Check("lock", "warning", text, "With hundreds of ranks keep the study in a database (--storage).")
    else:
        yield Check("lock", "ok", f"the journal's lock holds; {1000 * seconds:.0f} ms with {n_ranks} ranks")
    if asked.has_scratch:
        reasons = [each["scratch"] for each in found if each["scratch"]]
        if reasons:
            advice = "Set scratch to a folder on the node's own disk, or leave it out: the data are read in place."
            yield Check("scratch", "warning", reasons[0], advice)
        else:
            yield Check("scratch", "ok", "can be written to")


def _hdf5(found: list[Finding]) -> Check:
    for each in found:
        if "error" in each:
            return Check("HDF5", "problem", each["error"], "Install h5py anew; with MPI it must be built for this MPI.")
    if all(each["mpio"] for each in found):
        return Check("HDF5", "ok", "h5py reads by MPI-IO: the ranks of a node read together")
    return Check(
        "HDF5",
        "ok",
        "h5py without MPI-IO: each rank reads its part by itself, with the same result",
        "Collective reads are for large data on parallel file systems: "
        "HDF5_MPI=ON CC=mpicc pip install --no-binary=h5py h5py, with the modules of MPI and parallel HDF5 loaded.",
    )


def _tensorflow(found: list[Finding], tried: list[Finding], asked: Asked) -> Iterator[Check]:
    for each in tried:
        if "error" in each:
            yield Check("TensorFlow", "problem", each["error"], "pip install tensorflow; with GPUs '.[gpu]'.")
            return
    seconds = max(each["seconds"] for each in tried)
    text = f"{tried[0]['version']}, imported in {seconds:.0f} s; threads of a rank: {tried[0]['threads']}"
    if seconds > SLOW_IMPORT:
        advice = "Put the environment on a faster file system, or into a container: one file instead of thousands."
        yield Check("TensorFlow", "warning", text, advice)
    else:
        yield Check("TensorFlow", "ok", text)
    yield from _gpus([each for each in found if "TensorFlow" in each], asked)


def _gpus(found: list[Finding], asked: Asked) -> Iterator[Check]:
    used = [each["TensorFlow"]["gpu"] for each in found]
    if not (asked.gpus_per_rank or asked.gpus_per_node):
        if asked.mpi is not None:
            text = "none asked for" + (f"; TensorFlow sees {used[0]}" if used[0] else "")
            yield Check("GPUs", "ok", text)
        return
    seen = ", ".join(f"{each['host']} {each['visible'] or '-'}" for each in found)
    text = f"CUDA_VISIBLE_DEVICES of the ranks: {seen}"
    if not all(each["visible"] for each in found):
        advice = "Slurm gives ranks no GPU: look at gpus_per_task or gpus_per_node, and at `sinfo --format='%P %G'`."
        yield Check("GPUs", "problem", text, advice)
        return
    n_gpus = len({_place(each, asked) for each in found})
    if asked.gpus_per_rank and n_gpus < len(found):
        text += f"; {n_gpus} GPUs for {len(found)} ranks although each asked for its own"
        # Without nvidia-smi the numbers may be those of GPUs that each rank sees alone.
        is_sure = all(each["gpus"] for each in found)
        advice = (
            "Ask the site how it binds GPUs to tasks." if is_sure else "Look whether they are the same: nvidia-smi."
        )
        yield Check("GPUs", "problem" if is_sure else "warning", text, advice)
    else:
        yield Check("GPUs", "ok", f"{text}; {n_gpus} GPUs for {len(found)} ranks")
    if all(used):
        names = sorted({each["TensorFlow"]["gpu"] for each in found})
        yield Check("TensorFlow's GPUs", "ok", f"each rank has one: {', '.join(names)}")
    else:
        text = f"TensorFlow sees none on {used.count(None)} of {len(used)} ranks: they would compute on CPUs"
        advice = "pip install '.[gpu]' where python runs; a container needs --nv; look at nvidia-smi on the node."
        yield Check("TensorFlow's GPUs", "problem", text, advice)


def _place(each: Finding, asked: Asked) -> tuple[str, ...]:
    """Return the host of a rank and the GPUs that it takes."""
    visible = each["visible"].split(",")
    if not asked.gpus_per_rank:
        visible = [visible[devices.gpu_of(each.get("MPI", {}).get("on_node", 0), len(visible)) or 0]]
    known = dict(enumerate(each["gpus"]))
    return each["host"], *(known.get(int(gpu), gpu) if gpu.isdigit() else gpu for gpu in visible)
