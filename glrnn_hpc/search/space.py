"""Space of a search: the names of `parameter` and `grid` that scripts import."""

from glrnn_hpc.records.json_types import ParameterValue
from glrnn_hpc.search.grid import grid_point, grid_points, grid_size
from glrnn_hpc.search.parameter import Parameter

__all__ = ["Parameter", "ParameterValue", "grid_point", "grid_points", "grid_size"]
