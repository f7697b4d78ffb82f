"""Names and modes of W&B that a user gives: checked before anything is made, as W&B's client would write no run.

The ranks of a sweep train on whatever W&B does, so that nobody would see there what the client refuses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType

from glrnn_hpc.errors import ConfigError

#: What W&B's client takes for a mode, and what it is here. Each run has one writer, which is what online means.
MODES: Mapping[str, str] = MappingProxyType(
    {
        "offline": "offline",
        "online": "online",
        "disabled": "disabled",
        "dryrun": "offline",
        "run": "online",
        "shared": "online",
    }
)

#: Most characters of a project and a group.
LONGEST_NAME = 128

_RESERVED = "/\\#?%:"


def chosen_mode(mode: str | None) -> str | None:
    """Return the mode that the user chose by `--wandb` or WANDB_MODE; None if neither is given.

    Raises
    ------
    ConfigError
        If W&B has no such mode.
    """
    where, given = ("--wandb", mode) if mode is not None else ("WANDB_MODE", os.environ.get("WANDB_MODE"))
    if given is None:
        return None
    if given not in MODES:
        raise ConfigError(f"{where}: {given!r} is not one of {', '.join(MODES)}; choose one of them.")
    return MODES[given]


def check_project(where: str, name: str) -> None:
    """Check the name of a project.

    Raises
    ------
    ConfigError
        If W&B does not take it.
    """
    _check(where, "project", name, rf"[^{re.escape(_RESERVED)}\x00-\x1f\x7f]+", _RESERVED)


def check_entity(where: str, name: str) -> None:
    """Check the name of a user or a team.

    Raises
    ------
    ConfigError
        If W&B does not take it.
    """
    _check(where, "entity", name, rf"[^{re.escape(_RESERVED)}\s]+", f"{_RESERVED} and blanks")


def _check(where: str, kind: str, name: str, allowed: str, refused: str) -> None:
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{where}: W&B takes no {kind} of {len(name)} characters; give at most {LONGEST_NAME}, not {name!r}."
        )
    if not name.strip() or not re.fullmatch(allowed, name):
        advice = "give the project as `project` and the user or team as `entity`" if "/" in name else "choose another"
        raise ConfigError(f"{where}: {name!r} is no {kind} of W&B, which refuses {refused} in it; {advice}.")


def check_group(where: str, name: str) -> None:
    """Check the name of a sweep, which is the group of its runs.

    Raises
    ------
    ConfigError
        If it is longer than W&B takes.
    """
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{where}: W&B takes no group of {len(name)} characters; give a name of at most {LONGEST_NAME}."
        )


def check_environment() -> None:
    """Check that W&B's client takes its variables; where the client is missing, nothing is checked.

    Raises
    ------
    ConfigError
        If the client refuses one: it would then begin no run at all, whatever else it is told.
    """
    variables = sorted(name for name in os.environ if name.startswith("WANDB_"))
    if project := os.environ.get("WANDB_PROJECT"):
        check_project("WANDB_PROJECT", project)
    if entity := os.environ.get("WANDB_ENTITY"):
        check_entity("WANDB_ENTITY", entity)
    if not variables:
        return
    try:
        import wandb
    except Exception:  # a training goes on without the client, and says so itself
        return
    for name in variables:
        read = getattr(wandb.Settings(), "update_from_env_vars", None)
        if read is None:  # another version of the client
            return
        try:
            read({name: os.environ[name]})
        except Exception as error:
            # Without the value: it may be the API key.
            raise ConfigError(
                f"{name}: W&B's client refuses its value: {_reason(error)}; correct the variable or unset it."
            ) from None


def _reason(error: Exception) -> str:
    """Return why the client refuses a value; pydantic's own message would show the value."""
    errors = getattr(error, "errors", None)
    return str(errors()[0]["msg"]) if callable(errors) else str(error).splitlines()[0]
