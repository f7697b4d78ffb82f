"""Validated sweep: method, metric, parameters and number of trials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.records.json_types import JsonObject, JsonValue, ParameterValue
from glrnn_hpc.search.early_terminate import EarlyTerminate
from glrnn_hpc.search.goal import Goal
from glrnn_hpc.search.grid import grid_size
from glrnn_hpc.search.parameter import Parameter

Method = Literal["grid", "random", "bayes"]

#: More trials, or points of a grid, are most often a mistake.
_MOST_TRIALS = 1_000_000


@dataclass(frozen=True)
class SweepSpec:
    """A validated sweep.

    Attributes
    ----------
    method : str
        grid, random or bayes.
    metric, goal : str
        What is optimised, and minimize or maximize.
    parameters : tuple of Parameter
        In the order of the file, constants included; those of nested groups stand among the others.
    run_cap : int or None
        Number of trials at most.
    seed : int
        Seed of the search, not of the training.
    target : float or None
        A value of the metric that ends the sweep.
    impute : str or None
        best, worst or latest: what the search by bayes takes for the value of a failed trial; None leaves it out.
    impute_while_running : str or None
        Kept for W&B: the search by bayes takes every trial that still runs for a bad one (constant liar).
    early_terminate : EarlyTerminate or None
        Settings of Hyperband.
    sampler : str
        Of method bayes: tpe, gp or cmaes.
    labels : dict
        name, description, project, entity, program, command and the like as given.
    directory : str
        Folder from which the user's own code is imported; not part of the sweep file. Empty for the current folder.
    """

    method: Method
    metric: str
    goal: Goal
    parameters: tuple[Parameter, ...]
    run_cap: int | None = None
    seed: int = 42
    target: float | None = None
    impute: str | None = None
    impute_while_running: str | None = None
    early_terminate: EarlyTerminate | None = None
    sampler: str = "tpe"
    labels: dict[str, JsonValue] = field(default_factory=dict)
    directory: str = field(default="", compare=False)

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """The parameters that are no constants."""
        return tuple(parameter for parameter in self.parameters if not parameter.is_constant)

    @property
    def constants(self) -> dict[str, ParameterValue]:
        """The parameters that are constants, by name."""
        return {parameter.name: parameter.values[0] for parameter in self.parameters if parameter.is_constant}

    @property
    def data_file(self) -> str:
        """Path of the HDF5 file that all trials read.

        Raises
        ------
        KeyError
            If there is none, as in a sweep whose own preprocessor reads something else.
        """
        return str(self.constants["raw_data"])

    @property
    def ranks_per_trial(self) -> int:
        """MPI ranks that train a trial together."""
        n_ranks = self.constants.get("ranks_per_trial", 1)
        assert isinstance(n_ranks, int | float | str)  # checked when the sweep was read
        return int(n_ranks)

    def n_trials(self, wanted: int | None = None) -> int:
        """Return how many trials the sweep has: `wanted`, else `run_cap`, at most the size of a grid.

        Raises
        ------
        ConfigError
            If nothing limits the number of trials, or there would be more than a million.
        """
        limits = [limit for limit in (wanted or self.run_cap,) if limit is not None]
        if self.method == "grid":
            size = grid_size(self.searched)
            if size > _MOST_TRIALS and not limits:
                raise ConfigError(f"parameters: the grid has {size} points; give run_cap, or --trials N, for a part.")
            limits.append(size)
        if not limits:
            raise ConfigError(f"run_cap: {self.method} needs a number of trials; give run_cap, or --trials N.")
        if min(limits) > _MOST_TRIALS:
            raise ConfigError(f"run_cap: at most {_MOST_TRIALS} trials are allowed, {min(limits)} were asked for.")
        return min(limits)

    def as_dict(self) -> JsonObject:
        """Return the sweep as a mapping that `load_sweep` reads back."""
        metric = {"name": self.metric, "goal": self.goal, "target": self.target, "impute": self.impute}
        metric["impute_while_running"] = self.impute_while_running
        content = {
            **self.labels,
            "method": self.method,
            "metric": {key: value for key, value in metric.items() if value is not None},
            "early_terminate": self.early_terminate and self.early_terminate.as_config(),
            "run_cap": self.run_cap,
            "seed": self.seed,
            "sampler": self.sampler if self.method == "bayes" else None,
            "parameters": {parameter.name: parameter.as_config() for parameter in self.parameters},
        }
        return {key: value for key, value in content.items() if value is not None}
