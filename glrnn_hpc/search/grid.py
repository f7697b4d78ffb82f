"""Grid over the parameters of a sweep: the values along each axis, and the points of their Cartesian product."""

from __future__ import annotations

import math
from collections.abc import Sequence

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.records.json_types import ParameterValue, Point
from glrnn_hpc.search.distributions import rounded
from glrnn_hpc.search.parameter import Parameter

_LARGEST_AXIS = 1_000_000


def grid_axis(parameter: Parameter) -> Sequence[ParameterValue]:
    """Return every value of a parameter in order.

    Raises
    ------
    ConfigError
        If the parameter is continuous, or quantised without bounds, or has probabilities.
    """
    where, settings = f"parameters.{parameter.name}", dict(parameter.settings)
    if parameter.probabilities:
        raise ConfigError(
            f"{where}.probabilities: a grid runs every value once; leave them out, or use method: random."
        )
    if parameter.values:
        return parameter.values
    if parameter.distribution not in ("int_uniform", "q_uniform"):
        raise ConfigError(
            f"{where}: a grid needs a finite set, {parameter.distribution} is "
            f"{'continuous' if parameter.is_continuous else 'not one'}; give values, or use method: random."
        )
    low, high, q = settings["min"], settings["max"], settings.get("q", 1)
    n_values = (high - low) / q
    if not n_values < _LARGEST_AXIS:
        raise ConfigError(
            f"{where}: a grid over {low} to {high} by {q:g} has more than {_LARGEST_AXIS} values; narrow the bounds, "
            "enlarge q, or use method: random."
        )
    if parameter.distribution == "int_uniform":
        return range(int(low), int(high) + 1)
    # W&B's own grid steps from min by q and leaves max out; 0.1 * 3 may not count as below 0.3.
    return [rounded(low + n * q, low, q) for n in range(math.ceil(n_values - 1e-9))]


def grid_size(parameters: Sequence[Parameter]) -> int:
    """Return the number of points of the grid.

    Raises
    ------
    ConfigError
        If one of the parameters is continuous.
    """
    return math.prod(len(grid_axis(parameter)) for parameter in parameters)


def grid_point(parameters: Sequence[Parameter], index: int) -> Point:
    """Return point `index` of the Cartesian product; the last parameter varies fastest.

    Raises
    ------
    ConfigError
        If one of the parameters is continuous.
    """
    point = {}
    for parameter in reversed(parameters):
        axis = grid_axis(parameter)
        index, place = divmod(index, len(axis))
        point[parameter.name] = axis[place]
    return {parameter.name: point[parameter.name] for parameter in parameters}


def grid_points(parameters: Sequence[Parameter]) -> list[Point]:
    """Return the Cartesian product of all parameters; the last one varies fastest.

    Raises
    ------
    ConfigError
        If one of them is continuous.
    """
    return [grid_point(parameters, index) for index in range(grid_size(parameters))]
