"""TensorFlow of ranks whose trials sleep: what `worker.devices` asks it before a rank trains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def _ignore(*_: Any) -> None:
    """Do nothing."""


def _no_devices(kind: str) -> list[Any]:
    return []


config = SimpleNamespace(
    threading=SimpleNamespace(set_intra_op_parallelism_threads=_ignore, set_inter_op_parallelism_threads=_ignore),
    experimental=SimpleNamespace(enable_tensor_float_32_execution=_ignore, set_memory_growth=_ignore),
    list_physical_devices=_no_devices,
    set_visible_devices=_ignore,
)
