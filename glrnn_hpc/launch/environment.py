"""Environment of what a launcher starts: variables of schedulers that the shell, or a job around it, has left there."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping

logger = logging.getLogger(__name__)

#: Beginnings of the variables that MPI launchers give their ranks; another program would take itself for one.
_OF_RANKS = ("PMI_", "PMI2_", "PMIX_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_APP_CTX", "HYDRA_", "MPI_LOCAL")
#: Settings of PMIx itself.
_OF_PMIX = ("PMIX_MCA_",)

#: Beginnings of the variables by which MPI's launchers find a scheduler, its hosts and its own launcher.
_OF_SCHEDULERS = ("SLURM_", "PBS_", "LSB_", "COBALT_", "LOADL_", "OAR_", "PE_HOSTFILE", "FLUX_")
#: What ranks on this machine still need: the CPUs that are theirs (`worker.devices`), and where Slurm is.
_STAYING = frozenset({"SLURM_CPUS_PER_TASK", "SLURM_CONF"})

#: Settings of Slurm's commands and of PMIx; the other SLURM_* of an allocation describe the allocation.
_SETTINGS_OF_SLURM = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT", "SLURM_JWT", "SLURM_PMIX_", "SLURM_DEBUG")
#: GPUs of the allocation around.
_OF_GPUS = frozenset({"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL"})

#: Beginnings of the variables that stand for options of the commands that are asked about jobs: with SQUEUE_STATES or
#: SQUEUE_PARTITION running workers would not be seen.
_OF_QUERIES = ("SQUEUE_", "SCANCEL_", "SINFO_", "SACCT_", "SCONTROL_")

#: Options of sbatch that the sweep decides, as SBATCH_ variables name them; `--wait` would not return, on another
#: cluster nobody would find the jobs, and memory or CPUs by GPU contradict what a profile says.
_OF_THE_SWEEP = frozenset(
    {"ARRAY_INX", "JOB_NAME", "OUTPUT", "ERROR", "INPUT", "OPEN_MODE", "SIGNAL", "REQUEUE", "NO_REQUEUE", "TIMELIMIT"}
    | {"WAIT", "CLUSTERS", "CPUS_PER_GPU"}
)
#: Options that contradict each other: one that is given is for all.
_ALTERNATIVES = (
    frozenset({"MEM", "MEM_PER_NODE", "MEM_PER_CPU", "MEM_PER_GPU"}),
    frozenset({"GPUS", "GPUS_PER_NODE", "GPUS_PER_TASK", "GRES", "TRES_PER_TASK"}),
    frozenset({"SWITCHES", "REQ_SWITCH", "WAIT4SWITCH"}),
)
_SBATCH = "SBATCH_"


def of_local_ranks(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of workers that are started on this machine, whatever job this is in.

    In an allocation, in a job of Jupyter or under `srun --pty` the launchers of MPI would start the ranks by srun,
    which waits for the resources that the shell has, or on the hosts of PBS by ssh.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _STAYING or not name.startswith((*_OF_SCHEDULERS, *_OF_RANKS)) or name.startswith(_OF_PMIX)
    }
    # Hydra is the launcher of MPICH and of Intel MPI; fork starts the ranks here.
    kept |= {"HYDRA_LAUNCHER": "fork", "I_MPI_HYDRA_BOOTSTRAP": "fork"}
    # OpenMPI takes no more ranks than cores, and binds those of each of several workers to the same cores. Its fourth
    # version has the names with OMPI_MCA, its fifth those with PRTE_MCA.
    kept.setdefault("OMPI_MCA_rmaps_base_oversubscribe", "1")
    kept.setdefault("OMPI_MCA_hwloc_base_binding_policy", "none")
    kept.setdefault("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
    kept.setdefault("PRTE_MCA_hwloc_default_binding_policy", "none")
    if os.geteuid() == 0:
        # Who starts a sweep as root, as in a container, has decided that.
        kept |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return kept


def of_queries(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of Slurm's commands, without the user's own options of those that show and end jobs."""
    return {name: value for name, value in environment.items() if not name.startswith(_OF_QUERIES)}


def of_submission(options: Collection[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment in which sbatch submits jobs with these options, and which it hands to them.

    For sbatch a variable of the shell is above a line of the batch script. Here the profile is above the variable; one
    whose option is left open, such as SBATCH_ACCOUNT, holds.

    Parameters
    ----------
    options : collection of str
        Names of the options that are given, as sbatch spells them, with dashes or underscores.
    environment : mapping
        Of this process.
    """
    given = {name.upper().replace("-", "_") for name in options} | _OF_THE_SWEEP
    for names in _ALTERNATIVES:
        if given & names:
            given |= names
    is_inside = any(name in environment for name in ("SLURM_JOB_ID", "SLURM_JOBID"))
    kept = {}
    for name, value in of_queries(environment).items():
        if name.startswith(_SBATCH) and name.removeprefix(_SBATCH) in given:
            logger.warning("%s=%s of the shell is ignored: the profile and the sweep decide that", name, value)
        elif name.startswith(_OF_RANKS) and not name.startswith(_OF_PMIX):
            continue
        elif is_inside and name.startswith("SLURM_") and not name.startswith(_SETTINGS_OF_SLURM):
            continue
        elif is_inside and name in _OF_GPUS:
            continue
        else:
            if name.startswith(_SBATCH):
                logger.info("%s=%s of the shell holds: the profile says nothing of it", name, value)
            kept[name] = value
    return kept


@contextlib.contextmanager
def in_place_of_this(environment: Mapping[str, str]) -> Iterator[None]:
    """Let this process have another environment in the block, for a library that starts a command with its own."""
    before = dict(os.environ)
    _replace(environment)
    try:
        yield
    finally:
        _replace(before)


def _replace(environment: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
