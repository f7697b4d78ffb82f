"""How a sweep is told to W&B: decided once, by the command that creates the sweep."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
from typing import TYPE_CHECKING, Any

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.tracking.run import MODES
from glrnn_hpc.tracking.trial_tracker import PROJECT, Tracking

if TYPE_CHECKING:
    from glrnn_hpc.search.spec import SweepSpec

#: What W&B takes for names; a slash parts entity, project and id.
_ID = re.compile(r"[^/\\#?%:\s]+")


def tracking_of(spec: SweepSpec, name: str, mode: str | None, sweep: str | None) -> dict[str, Any]:
    """Return what `tracking.json` of a new sweep holds.

    Parameters
    ----------
    spec : SweepSpec
        The sweep; its `name`, `project` and `entity` come first.
    name : str
        Of the sweep, if the file gives it none.
    mode : str, optional
        offline, online or disabled; by default WANDB_MODE, else offline.
    sweep : str, optional
        `create`, to make a sweep on W&B's server, or the id of one: ID or entity/project/ID.

    Raises
    ------
    ConfigError
        If the mode or the id is none.
    TrackingError
        If a sweep cannot be made on W&B's server.
    """
    chosen = mode or os.environ.get("WANDB_MODE") or "offline"
    if chosen not in MODES:
        origin = "--wandb" if mode else "WANDB_MODE"
        raise ConfigError(f"{origin}: {chosen!r} is not one of {', '.join(MODES)}.")
    labels = spec.labels
    project = str(labels.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT)
    entity = labels.get("entity") or os.environ.get("WANDB_ENTITY")
    identity: str | None = None
    if sweep is not None:
        if chosen == "disabled":
            raise ConfigError("--wandb-sweep: no run would arrive there, as W&B is disabled; give --wandb offline.")
        if sweep != "create":
            entity, project, identity = _identity(sweep, entity, project)
    told = Tracking(
        chosen, project, entity and str(entity), str(labels.get("name") or name), identity, secrets.token_hex(4)
    )
    if sweep == "create":
        # Here, as nothing else of a sweep needs a network.
        from glrnn_hpc.tracking.server import create_sweep

        identity = create_sweep(_content(spec, told.group), project, told.entity)
        told = dataclasses.replace(told, sweep_id=identity)
    return told.as_dict()


def _identity(sweep: str, entity: Any, project: str) -> tuple[Any, str, str]:
    parts = sweep.split("/")
    if len(parts) not in (1, 3) or not all(_ID.fullmatch(part) for part in parts):
        raise ConfigError(f"--wandb-sweep: {sweep!r} is neither create nor an id: ID or entity/project/ID is needed.")
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    return entity, project, sweep


def _content(spec: SweepSpec, name: str) -> dict[str, Any]:
    """Return a sweep in the words of W&B: keys of this package's own are refused there."""
    content = {key: value for key, value in spec.as_dict().items() if key not in ("seed", "sampler")}
    return {**content, "name": name}
