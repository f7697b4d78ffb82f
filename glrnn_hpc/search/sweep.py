"""The sweep file: a W&B sweep configuration, read and validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from glrnn_hpc import config
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.search.space import Parameter, grid_points

#: What every training logs per epoch, hence what a sweep can optimise.
LOGGED_METRICS = ("loss", "mae", "val_loss", "val_mae")

_KEYS = frozenset(
    {"method", "metric", "parameters", "run_cap", "name", "description", "project", "entity", "program", "command"}
    | {"seed"}
)
_NOT_BUILT = {"early_terminate": "leave it out for now", "method: bayes": "choose method: random or grid for now"}


@dataclass(frozen=True)
class SweepSpec:
    """A validated sweep.

    Attributes
    ----------
    method : str
        grid or random.
    metric, goal : str
        What is optimised, and minimize or maximize.
    parameters : tuple of Parameter
        In the order of the file, constants included.
    run_cap : int or None
        Number of trials at most.
    seed : int
        Seed of the search, not of the training.
    labels : dict
        name, description, project, entity, program and command as given.
    """

    method: Literal["grid", "random"]
    metric: str
    goal: Literal["minimize", "maximize"]
    parameters: tuple[Parameter, ...]
    run_cap: int | None = None
    seed: int = 42
    labels: dict[str, Any] = field(default_factory=dict)

    @property
    def searched(self) -> tuple[Parameter, ...]:
        """The parameters that are no constants."""
        return tuple(parameter for parameter in self.parameters if not parameter.is_constant)

    @property
    def constants(self) -> dict[str, Any]:
        """The parameters that are constants, by name."""
        return {parameter.name: parameter.values[0] for parameter in self.parameters if parameter.is_constant}

    def n_trials(self, wanted: int | None = None) -> int:
        """Return how many trials the sweep has: `wanted`, else `run_cap`, at most the size of a grid.

        Raises
        ------
        ConfigError
            If nothing limits the number of trials.
        """
        limits = [limit for limit in (wanted or self.run_cap,) if limit is not None]
        if self.method == "grid":
            limits.append(len(grid_points(self.searched)))
        if not limits:
            raise ConfigError("run_cap: a random search needs a number of trials; give run_cap, or --trials N.")
        return min(limits)

    def as_dict(self) -> dict[str, Any]:
        """Return the sweep as a mapping that `load_sweep` reads back."""
        content: dict[str, Any] = {**self.labels, "method": self.method}
        content["metric"] = {"name": self.metric, "goal": self.goal}
        if self.run_cap is not None:
            content["run_cap"] = self.run_cap
        content["seed"] = self.seed
        content["parameters"] = {parameter.name: _entry(parameter) for parameter in self.parameters}
        return content


def _entry(parameter: Parameter) -> dict[str, Any]:
    if parameter.is_constant:
        return {"value": parameter.values[0]}
    if parameter.values:
        return {"values": list(parameter.values)}
    return {"distribution": parameter.distribution, "min": parameter.low, "max": parameter.high}


def load_sweep(path_or_mapping: str | Path | Mapping[str, Any]) -> SweepSpec:
    """Read a W&B sweep configuration from a file or a mapping.

    Raises
    ------
    ConfigError
        If a key or value is wrong; the message starts with the key path and names the nearest valid key.
    """
    if isinstance(path_or_mapping, Mapping):
        content = dict(path_or_mapping)
    else:
        content = config.load_yaml(path_or_mapping)
    for key in content:
        if key in _NOT_BUILT:
            raise ConfigError(f"{key}: not supported by this version yet; {_NOT_BUILT[key]}.")
        if key not in _KEYS:
            raise config.unknown_key(str(key), _KEYS)
    method = _method(content)
    metric, goal = _metric(content)
    parameters = _parameters(content)
    spec = SweepSpec(
        method=method,
        metric=metric,
        goal=goal,
        parameters=parameters,
        run_cap=_positive(content, "run_cap"),
        seed=_positive(content, "seed") or 42,
        labels={
            key: content[key]
            for key in ("name", "description", "project", "entity", "program", "command")
            if key in content
        },
    )
    if method == "grid":
        grid_points(spec.searched)
    _check_points(spec)
    return spec


def trial_config(spec: SweepSpec, point: Mapping[str, Any]) -> config.RunConfig:
    """Return the full configuration of a trial: the constants of the sweep and its `point`."""
    return config.parse(config.RunConfig, {**spec.constants, **point}, "parameters")


def _method(content: Mapping[str, Any]) -> Literal["grid", "random"]:
    method = content.get("method")
    if method == "bayes":
        raise ConfigError(f"method: bayes is not supported by this version yet; {_NOT_BUILT['method: bayes']}.")
    if method is None:
        raise ConfigError("method: this key is required; one of grid, random.")
    if method not in ("grid", "random"):
        guess = config.nearest(str(method), ("grid", "random"))
        raise ConfigError(
            f"method: {method!r} is not one of grid, random" + (f"; did you mean {guess}?" if guess else ".")
        )
    return "grid" if method == "grid" else "random"


def _metric(content: Mapping[str, Any]) -> tuple[str, Literal["minimize", "maximize"]]:
    metric = content.get("metric", {"name": "val_loss", "goal": "minimize"})
    if not isinstance(metric, Mapping):
        raise ConfigError(f"metric: a mapping with name and goal is needed, {metric!r} was given.")
    for key in metric:
        if key not in ("name", "goal"):
            raise config.unknown_key(f"metric.{key}", ("name", "goal"))
    name = metric.get("name")
    if name not in LOGGED_METRICS:
        raise ConfigError(f"metric.name: {name!r} is never logged; choose one of {', '.join(LOGGED_METRICS)}.")
    goal = metric.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise ConfigError(f"metric.goal: {goal!r} is not one of minimize, maximize.")
    return name, goal


def _parameters(content: Mapping[str, Any]) -> tuple[Parameter, ...]:
    parameters = content.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise ConfigError("parameters: a mapping of keys of the training configuration is needed.")
    for name in parameters:
        if name not in config.RUN_KEYS:
            raise config.unknown_key(f"parameters.{name}", config.RUN_KEYS)
    return tuple(Parameter.from_config(name, mapping) for name, mapping in parameters.items())


def _positive(content: Mapping[str, Any], key: str) -> int | None:
    value = content.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{key}: an integer of at least 1 is needed, {value!r} was given.")
    return value


def _check_points(spec: SweepSpec) -> None:
    """Check every choice and every bound once, so that no trial fails for its configuration alone."""
    typical = {parameter.name: parameter.extremes()[0] for parameter in spec.searched}
    trial_config(spec, typical)
    for parameter in spec.searched:
        for value in parameter.extremes():
            point = {**typical, parameter.name: value}
            if parameter.name == "window_size" and "pad_length" in {other.name for other in spec.searched}:
                continue  # only the pairs that are drawn together can be judged
            trial_config(spec, point)
