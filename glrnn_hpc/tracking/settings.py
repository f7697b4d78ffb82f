"""Decision how the trials of a sweep are logged to W&B, made once by the command that creates the sweep."""

from __future__ import annotations

import dataclasses
import os
import re
import secrets

from glrnn_hpc.errors import ConfigError
from glrnn_hpc.records.json_types import JsonObject
from glrnn_hpc.records.tracking_settings import TrackingSettings
from glrnn_hpc.search.spec import SweepSpec
from glrnn_hpc.tracking import names

#: Project of the sweeps that name none.
PROJECT = "glrnn_hpc"

#: An id that W&B takes.
_ID = re.compile(r"[^/\\#?%:\s]+")


def tracking_settings(spec: SweepSpec, name: str, mode: str | None, sweep: str | None) -> TrackingSettings:
    """Return the settings of a new sweep.

    Parameters
    ----------
    spec : SweepSpec
        The sweep; its `name`, `project` and `entity` come first.
    name : str
        Of the sweep, if the file gives it none.
    mode : str, optional
        offline, online or disabled, or another name that W&B has for one of them; by default WANDB_MODE, else offline.
    sweep : str, optional
        `create`, to make a sweep on W&B's server, or the id of one: ID or entity/project/ID.

    Raises
    ------
    ConfigError
        If the mode, the id, the project or the entity is none that W&B takes.
    TrackingError
        If a sweep cannot be made on W&B's server.
    """
    chosen = names.chosen_mode(mode) or "offline"
    labels = spec.labels
    project = str(labels.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT)
    named = labels.get("entity") or os.environ.get("WANDB_ENTITY")
    entity = str(named) if named else None
    sweep_id: str | None = None
    if chosen != "disabled":
        _check_labels(spec)
        names.check_environment()
    if sweep is not None:
        if chosen == "disabled":
            raise ConfigError("--wandb-sweep: no run would arrive there, as W&B is disabled; give --wandb offline.")
        if sweep != "create":
            entity, project, sweep_id = _parse_sweep_id(sweep, entity, project)
    group = str(labels.get("name") or name[: names.LONGEST_NAME])
    prefix = secrets.token_hex(4)
    settings = TrackingSettings(chosen, project, entity, group, sweep_id, prefix, spec.method, spec.constants)
    if sweep == "create":
        # Here, as nothing else of a sweep needs a network.
        from glrnn_hpc.tracking.server import create_sweep

        sweep_id = create_sweep(_wandb_content(spec, group), project, entity)
        settings = dataclasses.replace(settings, sweep_id=sweep_id)
    return settings


def _check_labels(spec: SweepSpec) -> None:
    """Check the keys of the sweep file that name something of W&B's."""
    checks = {"project": names.check_project, "entity": names.check_entity, "name": names.check_group}
    for key, check in checks.items():
        if given := spec.labels.get(key):
            check(key, str(given))


def _parse_sweep_id(sweep: str, entity: str | None, project: str) -> tuple[str | None, str, str]:
    """Return entity, project and id of a sweep on W&B's server."""
    parts = sweep.split("/")
    if len(parts) not in (1, 3) or not _ID.fullmatch(parts[-1]):
        raise ConfigError(f"--wandb-sweep: {sweep!r} is neither create nor an id: ID or entity/project/ID is needed.")
    if len(parts) == 3:
        names.check_entity("--wandb-sweep", parts[0])
        names.check_project("--wandb-sweep", parts[1])
        return parts[0], parts[1], parts[2]
    return entity, project, sweep


def _wandb_content(spec: SweepSpec, name: str) -> JsonObject:
    """Return a sweep without this package's own keys, which W&B refuses."""
    content = {key: value for key, value in spec.as_dict().items() if key not in ("seed", "sampler")}
    return {**content, "name": name}
