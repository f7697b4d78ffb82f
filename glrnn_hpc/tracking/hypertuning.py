"""Search of hyperparameters that W&B's server leads from a script, under the name that GrainLearning gave it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glrnn_hpc.config import ARRAY_KEYS
from glrnn_hpc.tracking.server import create_sweep, require_server


class HyperTuning:
    """Sweep of W&B around a function that trains.

    Parameters
    ----------
    sweep_config : dict
        Keys of a W&B sweep without `parameters`: `method`, `metric`, `early_terminate`.
    search_space : dict
        Searched parameters, as W&B describes them.
    other_config : dict, optional
        The other keys of the configuration; arrays in memory among them stay with the script.
    entity_name : str
        User or team; empty for the default of the server, which is filled in once the sweep is made.
    project_name : str
        Project of the sweep.

    Attributes
    ----------
    sweep_id : str or None
        Identity of the sweep, once it is made.
    """

    def __init__(
        self,
        sweep_config: dict[str, Any],
        search_space: Mapping[str, Any],
        other_config: Mapping[str, Any] | None = None,
        entity_name: str = "",
        project_name: str = "my_sweep",
    ) -> None:
        self.sweep_config = sweep_config
        self.search_space = search_space
        self.other_config = other_config
        self.project_name = project_name
        self.entity_name = entity_name
        self.sweep_id: str | None = None

    def get_sweep_id(self) -> str:
        """Make the sweep on the server, keep its identity in `sweep_id`, and return it.

        Raises
        ------
        TrackingError
            If the server cannot be reached, does not know the user, or does not take the sweep.
        """
        require_server()
        constants = {
            key: {"values": [os.fspath(value) if isinstance(value, os.PathLike) else value]}
            for key, value in (self.other_config or {}).items()
            if key not in ARRAY_KEYS
        }
        self.sweep_config["parameters"] = {**constants, **self.search_space}
        self.sweep_id = create_sweep(self.sweep_config, self.project_name, self.entity_name or None)
        if not self.entity_name:
            import wandb

            self.entity_name = str(wandb.Api(timeout=30).default_entity)
        return self.sweep_id

    def run_sweep(self, training_func: Callable[[], Any], count: int = 100) -> None:
        """Make the sweep and let an agent in this process call a function for each of `count` runs.

        The state of the search is kept in `wandb/ENTITY_PROJECT_ID.npy`.

        Raises
        ------
        TrackingError
            If the server cannot be reached, does not know the user, or does not take the sweep.
        """
        import wandb

        sweep_id = self.get_sweep_id()
        wandb.agent(sweep_id, function=training_func, entity=self.entity_name, project=self.project_name, count=count)
        wandb.finish()
        folder = Path(os.environ.get("WANDB_DIR") or Path.cwd()) / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        state: Any = vars(self)
        np.save(folder / f"{self.entity_name}_{self.project_name}_{sweep_id}.npy", state)
