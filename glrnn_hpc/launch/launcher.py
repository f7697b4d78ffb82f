"""Contract of a launcher: it starts, watches and ends the workers of one sweep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, TypeAlias

from glrnn_hpc import layout
from glrnn_hpc.import_path import module_command
from glrnn_hpc.launch.slurm.profile import Profile
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.study.study import SweepStudy


def worker_command(root: Path, job: str, n_ranks: int) -> list[str]:
    """Return the command of a worker, which each of its ranks is one start of.

    Files of the current folder take the place of no library there, as they would with `python -m`.

    Parameters
    ----------
    root : Path
        Folder of the sweep.
    job : str
        Name of the worker, which no other one has.
    n_ranks : int
        Its MPI ranks.
    """
    return [*module_command("glrnn_hpc"), "worker", str(root), "--job", job, "--ranks", str(n_ranks)]


#: Called with the study about twice a second while a launcher waits.
OnProgress: TypeAlias = Callable[[SweepStudy], None]


class Launcher(ABC):
    """Launcher of the workers of one sweep; `--cluster module:Class` takes a subclass of the user's own.

    Each worker is one start of `glrnn worker FOLDER --job NAME --ranks N`, in N MPI ranks; no two workers have the same
    NAME. `worker_command` returns this command as a list. Workers end by themselves when the sweep is finished or
    cancelled.

    Parameters
    ----------
    folder : SweepFolder
        The sweep. It is not there yet when `check` is called for a new sweep.
    plan : LaunchPlan
        Number and size of the workers, profile of the site, name of the jobs.

    Attributes
    ----------
    takes_profile : bool
        Whether it uses the profile of a site (`--profile`).
    collects_in_a_job : bool
        Whether `start` also starts a job that exports the best model after the workers (`--collect`), and `wait` waits
        for it. Otherwise the best model is exported by `collect`, in the process that waited.
    """

    takes_profile: ClassVar[bool] = False
    collects_in_a_job: ClassVar[bool] = False

    def __init__(self, folder: layout.SweepFolder, plan: LaunchPlan) -> None:
        self.folder = folder
        self.plan = plan

    @classmethod
    def from_plan(cls, folder: layout.SweepFolder, plan: LaunchPlan) -> Launcher:
        """Return the launcher for a sweep.

        Raises
        ------
        ConfigError
            If the plan's profile is wrong.
        """
        return cls(folder, plan)

    @classmethod
    def default_ranks(cls, n_trials: int, ranks_per_trial: int) -> int:
        """Return the MPI ranks of a worker if the user does not choose: a multiple of `ranks_per_trial`.

        Raises
        ------
        LaunchError
            If the user must choose.
        """
        return ranks_per_trial

    @classmethod
    def nodes_per_worker(cls, profile: Profile) -> int:
        """Return over how many nodes the ranks of a worker are spread."""
        return 1

    @classmethod
    def workers_per_node(cls, n_workers: int) -> int:
        """Return how many of the workers share the CPUs of a node."""
        return 1

    @abstractmethod
    def check(self) -> None:
        """Check that the workers can be started here, before anything is made.

        Raises
        ------
        LaunchError
            If they cannot.
        """

    @abstractmethod
    def start(self) -> int:
        """Start the workers that are missing; return how many were.

        Raises
        ------
        LaunchError
            If they cannot be started; none of them is left behind then.
        """

    @abstractmethod
    def wait(self, report: OnProgress) -> None:
        """Wait until the workers have ended; the sweep is finished or cancelled then.

        Raises
        ------
        SweepError
            If they have ended and trials are left.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Take back the workers that have not begun, after the sweep was cancelled; the others end by themselves."""

    def collect(self) -> None:
        """Export the best model of a finished sweep.

        Raises
        ------
        GlrnnError
            If there is no model to export, or it cannot be verified.
        """
        # Here, as it loads TensorFlow.
        from glrnn_hpc.collector import collect

        collect.collect(self.folder.root, top=1)
