"""Networks of the surrogates; Keras is imported when the first one is built."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glrnn_hpc.models.lstm import rnn_model, rnn_model_for_triax

__all__ = ["rnn_model", "rnn_model_for_triax"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("glrnn_hpc.models.lstm"), name)
