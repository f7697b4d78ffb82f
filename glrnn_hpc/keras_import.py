"""Import of Keras without the packages that it takes along and no rank needs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

#: Keras has wrappers for them, which nothing here uses.
_COMPANIONS = ("matplotlib", "sklearn")


def import_keras() -> None:
    """Import Keras without Matplotlib and scikit-learn.

    They are a quarter of what a rank's imports cost: 1.0 of 3.5 s of a core, 80 MB, and 770 modules that every rank
    would read from the file system of the cluster. Both can be imported afterwards as ever; only Keras' own wrappers
    for them say, in this process, that they are not installed.
    """
    modules: dict[str, Any] = sys.modules
    hidden = [name for name in _COMPANIONS if name not in modules]
    # Importing a module whose entry is None fails as if it were not installed.
    modules.update(dict.fromkeys(hidden))
    try:
        importlib.import_module("keras")
    finally:
        for name in hidden:
            del modules[name]
