"""Registry of launchers: the names of `--cluster`, and launchers of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from glrnn_hpc import layout
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.launch.launcher import Launcher
from glrnn_hpc.records.sweep_state import LaunchPlan
from glrnn_hpc.references import import_reference

#: Launchers of this package. References, as submitit and what it loads are of no use on a machine without Slurm.
LAUNCHERS: Mapping[str, str] = MappingProxyType(
    {
        "local": "glrnn_hpc.launch.local:LocalLauncher",
        "slurm": "glrnn_hpc.launch.slurm.launcher:SlurmLauncher",
        "debug": "glrnn_hpc.launch.debug:DebugLauncher",
    }
)

_EXAMPLE = "my_launcher:MyLauncher"


def launcher_class(cluster: str, directory: str | None = None) -> type[Launcher]:
    """Return the launcher of a name.

    Parameters
    ----------
    cluster : str
        A key of `LAUNCHERS`, or `module:Class` of the user's own.
    directory : str, optional
        Folder whose modules are found first; by default the current folder.

    Raises
    ------
    ConfigError
        If there is no such launcher, or it cannot be imported.
    """
    if cluster not in LAUNCHERS and ":" not in cluster:
        raise ConfigError(
            f"--cluster: {cluster!r} is not one of {', '.join(LAUNCHERS)}; choose one of them, or give a launcher of "
            f"your own as module:Class, such as {_EXAMPLE}."
        )
    reference = LAUNCHERS.get(cluster, cluster)
    chosen = import_reference(reference, "--cluster", directory=directory, example=_EXAMPLE)
    if not (isinstance(chosen, type) and issubclass(chosen, Launcher)):
        raise ConfigError(
            f"--cluster: {reference} is no subclass of glrnn_hpc.launch.Launcher; derive it from that class."
        )
    return chosen


def launcher_for(folder: layout.SweepFolder, plan: LaunchPlan) -> Launcher:
    """Return the launcher of a sweep.

    Raises
    ------
    ConfigError
        If there is no such launcher, or the plan's profile is wrong.
    """
    return launcher_class(plan.cluster, plan.directory).from_plan(folder, plan)
