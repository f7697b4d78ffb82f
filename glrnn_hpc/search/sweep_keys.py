"""Keys of a sweep file: the checks of each but `parameters`, and their typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from glrnn_hpc import config
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.records.json_types import JsonObject, JsonValue
from glrnn_hpc.search.distributions import finite_number
from glrnn_hpc.search.early_terminate import EarlyTerminate
from glrnn_hpc.search.goal import Goal
from glrnn_hpc.search.sampler_kinds import check_sampler
from glrnn_hpc.search.spec import Method

#: Metrics that every training logs after each epoch; a sweep optimises one of them.
LOGGED_METRICS = ("loss", "mae", "val_loss", "val_mae", "loss_raw", "val_loss_raw")
METHODS = ("grid", "random", "bayes")
_IMPUTE = ("best", "worst", "latest")

#: Keys of W&B that are kept for its own tools and mean nothing here.
_TEXTS = ("name", "description", "project", "entity", "program")
_LABELS = (*_TEXTS, "command", "controller", "job", "image_uri", "scheduler", "apiVersion", "kind")
_KEYS = frozenset({"method", "metric", "parameters", "early_terminate", "run_cap", "seed", "sampler", *_LABELS})


def check_known(content: Mapping[str, object]) -> None:
    """Check that a sweep file has no unknown key.

    Raises
    ------
    ConfigError
        If it has one; the nearest known key is named. Or if a value is the text None, where null is meant.
    """
    if isinstance(inner := content.get("sweep"), Mapping) and inner.keys() & {"method", "parameters"}:
        raise ConfigError(
            f"sweep: the keys {', '.join(map(str, inner))} stand inside it; they belong to the top level of the file: "
            "take away the line `sweep:` and the indentation below it."
        )
    for key in content:
        if key not in _KEYS:
            raise config.unknown_key(str(key), _KEYS)
    # Those of parameters are checked with their keys: one of the user's own may mean the text.
    others = {key: value for key, value in content.items() if key not in (*_LABELS, "parameters")}
    config.refuse_none_as_text(others)


def method(content: Mapping[str, object]) -> Method:
    """Return the method of the search."""
    return cast(Method, _one_of("method", content.get("method"), METHODS))


def _one_of(where: str, value: object, allowed: tuple[str, ...]) -> str:
    if value is None:
        raise ConfigError(f"{where}: this key is required; one of {', '.join(allowed)}.")
    if value not in allowed:
        hint = config.did_you_mean(value, allowed, "; ", ".")
        raise ConfigError(f"{where}: {value!r} is not one of {', '.join(allowed)}{hint}")
    return str(value)


@dataclass(frozen=True)
class MetricKey:
    """The key `metric` of a sweep file."""

    name: str = "val_loss"
    goal: Goal = "minimize"
    target: float | None = None
    impute: str | None = None
    impute_while_running: str | None = None


def metric(content: Mapping[str, object], method: Method) -> MetricKey:
    """Return the metric that is optimised, and how.

    Raises
    ------
    ConfigError
        If it is missing where the search needs it, or one of its keys is wrong.
    """
    given = content.get("metric")
    if given is None:
        if method == "bayes" or content.get("early_terminate") is not None:
            raise ConfigError(
                "metric: bayes and early_terminate need it; give name and goal, such as val_loss, minimize."
            )
        return MetricKey()
    if not isinstance(given, Mapping):
        raise ConfigError(f"metric: a mapping with name and goal is needed, {given!r} was given.")
    allowed = ("name", "goal", "target", "impute", "impute_while_running")
    for key in given:
        if key not in allowed:
            raise config.unknown_key(f"metric.{key}", allowed)
    name = given.get("name")
    if name not in LOGGED_METRICS:
        raise ConfigError(f"metric.name: {name!r} is never logged; choose one of {', '.join(LOGGED_METRICS)}.")
    target = given.get("target")
    if target is not None:
        finite_number("metric.target", target)
    imputed = {key: _imputed(f"metric.{key}", given.get(key)) for key in ("impute", "impute_while_running")}
    # As W&B does where the key is there without a value.
    goal = _one_of("metric.goal", given.get("goal") or "minimize", ("minimize", "maximize"))
    return MetricKey(name, cast(Goal, goal), target, **imputed)


def _imputed(where: str, value: object) -> str | None:
    # false turns it off; W&B's schema has it as a text for impute_while_running.
    return None if value in (None, False, "false") else _one_of(where, value, _IMPUTE)


def early_terminate(content: Mapping[str, object]) -> EarlyTerminate | None:
    """Return the settings of Hyperband; None if trials are not stopped by it."""
    given = content.get("early_terminate")
    return None if given is None else EarlyTerminate.from_config(given)


def labels(content: JsonObject) -> dict[str, JsonValue]:
    """Return the keys that are kept for W&B.

    Raises
    ------
    ConfigError
        If a text is needed and something else was given.
    """
    given = {key: content[key] for key in _LABELS if content.get(key) is not None}
    for key in _TEXTS:
        if key in given and (isinstance(given[key], bool) or not isinstance(given[key], str | int | float)):
            raise ConfigError(f"{key}: a text is needed, {given[key]!r} was given.")
    return given


def seed(content: Mapping[str, object]) -> int:
    """Return the seed of the search."""
    given = integer(content, "seed", least=0)
    return 42 if given is None else given


def integer(content: Mapping[str, object], key: str, *, least: int) -> int | None:
    """Return an integer; None if the file does not have the key.

    Raises
    ------
    ConfigError
        If anything else was given, or a smaller one.
    """
    value = content.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{key}: an integer of at least {least} is needed, {value!r} was given.")
    return value


def sampler(content: Mapping[str, object], method: Method, chosen: str | None) -> str:
    """Return the sampler of method bayes: `chosen`, else that of the file.

    Raises
    ------
    ConfigError
        If the method has no sampler, there is none of that name, or a package that it needs is missing.
    """
    kind = chosen or content.get("sampler")
    if kind is None:
        return "tpe"
    if method != "bayes":
        raise ConfigError(f"sampler: {kind} belongs to method: bayes; this sweep has method: {method}.")
    check_sampler(str(kind))
    return str(kind)
