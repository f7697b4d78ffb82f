"""Sweep file: a W&B sweep configuration, read and validated."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glrnn_hpc import config
from glrnn_hpc.errors import ConfigError
from glrnn_hpc.experiments import registry
from glrnn_hpc.experiments.base import Experiment
from glrnn_hpc.models import registry as networks
from glrnn_hpc.records.json_types import ParameterValue
from glrnn_hpc.references import import_reference
from glrnn_hpc.search import sweep_keys
from glrnn_hpc.search.grid import grid_size
from glrnn_hpc.search.key_values import check_plausible, with_types
from glrnn_hpc.search.parameter import Parameter
from glrnn_hpc.search.spec import SweepSpec

logger = logging.getLogger(__name__)

#: The key that chooses a preprocessor of the user's own.
PREPROCESSOR = "preprocessor"

#: The keys that decide on the units of a loss, and the end of the names of losses that do not depend on them.
UNIT_KEYS = ("label_scaling", "exact", "standardize_outputs")
RAW_SUFFIX = "_raw"

#: The keys that choose groups of the data.
GROUP_KEYS = ("pressure", "experiment_type")


def load_sweep(
    path_or_mapping: str | Path | Mapping[str, Any], *, sampler: str | None = None, directory: str | None = None
) -> SweepSpec:
    """Read a W&B sweep configuration from a file or a mapping.

    Parameters
    ----------
    path_or_mapping : path or mapping
        The sweep file, or what it holds.
    sampler : str, optional
        Of method bayes, in place of the file's.
    directory : str, optional
        Folder of the user's own code, such as a preprocessor; by default the current folder.

    Raises
    ------
    ConfigError
        If a key or value is wrong; the message starts with the key path and names the nearest valid key.
    """
    if isinstance(path_or_mapping, Mapping):
        content = dict(path_or_mapping)
    else:
        content = config.load_yaml(path_or_mapping)
    folder = directory or str(Path.cwd())
    sweep_keys.check_known(content)
    method = sweep_keys.method(content)
    metric = sweep_keys.metric(content, method)
    spec = SweepSpec(
        method=method,
        metric=metric.name,
        goal=metric.goal,
        parameters=_parameters(content, folder),
        run_cap=sweep_keys.integer(content, "run_cap", least=1),
        seed=sweep_keys.seed(content),
        target=metric.target,
        impute=metric.impute,
        impute_while_running=metric.impute_while_running,
        early_terminate=sweep_keys.early_terminate(content),
        sampler=sweep_keys.sampler(content, method, sampler),
        labels=sweep_keys.labels(content),
        directory=folder,
    )
    if method == "grid":
        grid_size(spec.searched)
    _check_points(spec)
    check_metric(spec)
    # Only for what the user gives, not each time that a rank or a command reads the folder of a sweep.
    if directory is None:
        for parameter in spec.parameters:
            check_plausible(parameter, f"parameters.{parameter.name}")
        for key in ("program", "command"):
            if key in spec.labels:
                logger.info("%s is kept for W&B and not executed: a trial is a training of this package", key)
    return spec


def check_metric(spec: SweepSpec) -> None:
    """Check that the metric means the same in all trials.

    Raises
    ------
    ConfigError
        If keys are searched on which its unit depends, or it is not logged with the keys of the sweep.
    """
    values = {key: config.RunConfig.model_fields[key].default for key in UNIT_KEYS}
    searched = [each.name for each in spec.parameters if each.name in UNIT_KEYS and not each.is_constant]
    values |= {key: value for key, value in spec.constants.items() if key in UNIT_KEYS}
    if not is_raw_metric(spec.metric):
        if mixed := [name for name in searched if name != "standardize_outputs"]:
            raise ConfigError(
                f"metric.name: {spec.metric} is in other units where {' and '.join(mixed)} differ, which the sweep "
                "searches; choose val_loss_raw, which is taken over all labels in units of their deviation."
            )
        return
    if "standardize_outputs" in searched or not values["standardize_outputs"]:
        raise ConfigError(f"metric.name: {spec.metric} needs standardize_outputs: true.")
    if not searched and values["label_scaling"] == "raw" and values["exact"] is False:
        raise ConfigError(
            f"metric.name: {spec.metric} is logged where label_scaling or exact is set; without them "
            f"{spec.metric.removesuffix(RAW_SUFFIX)} is the same."
        )


def is_raw_metric(name: str) -> bool:
    """Return whether a metric is taken over all labels in raw standardised units."""
    return name.endswith(RAW_SUFFIX)


def trial_config(spec: SweepSpec, point: Mapping[str, Any]) -> config.RunConfig:
    """Return the full configuration of a trial: the constants of the sweep and its `point`."""
    own = preprocessor_of(spec)
    given = {key: value for key, value in {**spec.constants, **point}.items() if key not in _claimed_words(own)}
    where, directory = f"parameters.{networks.KEY}", spec.directory or None
    known = networks.run_keys(given.get(networks.KEY), where, directory=directory)
    keys = {key: value for key, value in given.items() if key in known}
    if own is not None:
        keys.setdefault("raw_data", own.__name__)
    return networks.run_config(keys, "parameters", directory=directory)


def group_choices(spec: SweepSpec) -> tuple[Any, Any]:
    """Return the pressures and the experiment types that trials of the sweep can select: `All`, or lists."""
    values = {parameter.name: parameter.extremes() for parameter in spec.parameters}
    pressures, types = (_union(values.get(key, ["All"])) for key in GROUP_KEYS)
    return pressures, types


def experiment_of(spec: SweepSpec) -> Experiment:
    """Return the experiment that the sweep names, triaxial compression if it names none.

    Raises
    ------
    ConfigError
        If there is none of that name, or a user's own cannot be imported or lacks a part.
    """
    claimed = _claimed_words(preprocessor_of(spec))
    named = {key: value for key, value in spec.constants.items() if key not in claimed}
    return registry.experiment_of(named, "parameters", directory=spec.directory or None)


def preprocessor_of(spec: SweepSpec) -> type[Any] | None:
    """Return the preprocessor class that the sweep names; None if it names none.

    Raises
    ------
    ConfigError
        If it cannot be imported, or has no `get_default_config`.
    """
    reference = spec.constants.get(PREPROCESSOR)
    return None if reference is None else _import_preprocessor(reference, spec.directory)


def build_preprocessor(spec: SweepSpec, point: Mapping[str, Any], source: Any = None) -> Any:
    """Make the sweep's own preprocessor for a point: it gets the keys that its `get_default_config` names.

    Parameters
    ----------
    spec : SweepSpec
        A sweep that names a preprocessor.
    point : mapping
        The point of the trial.
    source : DemData, optional
        Data in memory, for a class that takes `source`, as subclasses of PreprocessorTriaxialCompression do.
    """
    own = preprocessor_of(spec)
    if own is None:
        raise ConfigError(f"parameters.{PREPROCESSOR}: the sweep names no preprocessor.")
    given = {**spec.constants, **point}
    keys = {key: given.get(key, default) for key, default in _default_config(own).items()}
    if "source" in inspect.signature(own).parameters:
        keys["source"] = source
    built = own(**keys)
    if hasattr(built, "takes_first_output_for_e0"):
        # Subclasses of PreprocessorTriaxialCompression guess a column with a warning, which nobody reads in a sweep.
        built.takes_first_output_for_e0 = False
    return built


def _default_config(own: type[Any]) -> dict[str, Any]:
    """Return the keys of a preprocessor class; GrainLearning's base class returns None where there are none."""
    return dict(own.get_default_config() or {})


def _claimed_words(own: type[Any] | None) -> frozenset[str]:
    """Return which of the keys that name code are keys of the user's own preprocessor, and mean what it says."""
    return frozenset() if own is None else frozenset({registry.KEY, networks.KEY} & _default_config(own).keys())


def _union(choices: Sequence[ParameterValue]) -> ParameterValue:
    names: list[ParameterValue] = []
    for choice in choices:
        if choice == "All":
            return "All"
        names.extend(choice if isinstance(choice, list) else [choice])
    return list(dict.fromkeys(names))


def _import_preprocessor(reference: object, directory: str) -> type[Any]:
    where = f"parameters.{PREPROCESSOR}"
    own = import_reference(reference, where, directory=directory or None)
    if not isinstance(own, type) or not callable(getattr(own, "get_default_config", None)):
        raise ConfigError(f"{where}: {reference} is no class with get_default_config(); subclass Preprocessor.")
    if not isinstance(inspect.getattr_static(own, "get_default_config"), classmethod | staticmethod):
        raise ConfigError(
            f"{where}: get_default_config() of {reference} is a method of objects; make it a class method "
            "(@classmethod): a sweep needs the keys before it makes an object."
        )
    return own


def _parameters(content: Mapping[str, object], directory: str) -> tuple[Parameter, ...]:
    parameters = content.get("parameters")
    if not isinstance(parameters, Mapping) or not parameters:
        raise ConfigError(
            f"parameters: a mapping of keys of the training configuration is needed, {parameters!r} was given."
        )
    leaves = list(_leaves("parameters", parameters))
    own: type[Any] | None = None
    for _, name, mapping in leaves:
        if name == PREPROCESSOR:
            reference = Parameter.from_config(name, mapping)
            if not reference.is_constant:
                raise ConfigError(f"parameters.{PREPROCESSOR}: one class for the whole sweep is needed.")
            own = _import_preprocessor(reference.values[0], directory)
    claimed = _claimed_words(own)
    names = _network_names([leaf for leaf in leaves if leaf[1] not in claimed])
    where_network = f"parameters.{networks.KEY}"
    known = {PREPROCESSOR}.union(*(networks.run_keys(name, where_network, directory=directory) for name in names))
    known |= set() if own is None else _default_config(own).keys()
    for _, name, mapping in leaves:
        if name == registry.KEY and name not in claimed:
            named = Parameter.from_config(name, mapping)
            if not named.is_constant:
                raise ConfigError(f"parameters.{registry.KEY}: one experiment for the whole sweep is needed.")
            registry.experiment_named(named.values[0], f"parameters.{registry.KEY}", directory=directory)
    configs = [networks.config_class(name, where_network, directory=directory) for name in names]
    parameters_by_name: dict[str, Parameter] = {}
    for where, name, mapping in leaves:
        if name in config.ALWAYS and name not in known:
            for value in Parameter.from_config(name, mapping, where).values:
                config.without_always({name: value}, where.rpartition(".")[0])
            continue
        if name not in known:
            raise config.unknown_key(where, known)
        if name in parameters_by_name:
            raise ConfigError(f"{where}: {name} is given twice; the names of nested groups do not tell keys apart.")
        parameter = Parameter.from_config(name, mapping, where)
        if name not in claimed:
            parameter = with_types(parameter, where, configs)
        parameters_by_name[name] = parameter
        if name == "ranks_per_trial" and not parameter.is_constant:
            raise ConfigError(f"{where}: one number for the whole sweep is needed: the ranks are split once.")
    return tuple(parameters_by_name.values())


def _network_names(leaves: Sequence[tuple[str, str, object]]) -> Sequence[object]:
    """Return the networks that the sweep names; None for the default."""
    names: Sequence[object] = [None]
    for _, name, mapping in leaves:
        if name == networks.KEY:
            names = Parameter.from_config(name, mapping).values or names
    return names


def _leaves(where: str, parameters: Mapping[str, object]) -> Iterator[tuple[str, str, object]]:
    """Yield key path, name and entry of every parameter, those of nested groups in their place."""
    for name, mapping in parameters.items():
        path = f"{where}.{name}"
        if not isinstance(mapping, Mapping) or "parameters" not in mapping:
            yield path, str(name), mapping
            continue
        for key in mapping:
            if key != "parameters":
                raise ConfigError(f"{path}.{key}: a group has parameters and nothing else.")
        if not isinstance(mapping["parameters"], Mapping) or not mapping["parameters"]:
            raise ConfigError(f"{path}.parameters: a mapping is needed, {mapping['parameters']!r} was given.")
        yield from _leaves(f"{path}.parameters", mapping["parameters"])


def _check_points(spec: SweepSpec) -> None:
    """Check every choice and every bound once, so that no trial fails for its configuration alone."""
    typical = {parameter.name: parameter.extremes()[0] for parameter in spec.searched}
    trial_config(spec, typical)
    for parameter in spec.searched:
        for value in parameter.extremes():
            trial_config(spec, {**typical, parameter.name: value})
