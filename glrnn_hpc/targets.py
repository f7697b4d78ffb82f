"""Targets of a training: what a network learns in place of the labels, made of them and turned back into them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.config import PreprocessingConfig
from glrnn_hpc.errors import ConfigError, ModelError
from glrnn_hpc.experiments.base import TYPE_PARAMETER, Experiment
from glrnn_hpc.experiments.labels import ExactRelation, LabelTransform
from glrnn_hpc.experiments.registry import experiment_of
from glrnn_hpc.records.train_stats import ExactRecord, TargetsRecord, TransformRecord, columns_in
from glrnn_hpc.scaling import Scaling

logger = logging.getLogger(__name__)

Array = NDArray[Any]

#: How far from a type's number the parameter that tells the type may be.
_SAME_TYPE = 1e-3


@dataclass(frozen=True)
class AppliedRelation:
    """Relation that gives a label of a model: everywhere, or where the parameter `experiment_type` has a value."""

    relation: ExactRelation
    type_code: float | None = None


@dataclass(frozen=True)
class Targets:
    """What a network learns: transformed labels, without those that relations give.

    Attributes
    ----------
    input_names, param_names, label_names : tuple of str
        Columns of the model in their order.
    transforms : tuple of LabelTransform
        One for each target, in the order of the labels.
    relations : tuple of AppliedRelation
        In the order in which they are applied.
    scaling : Scaling or None
        Mean and std of the transformed labels in the training; None if they are learnt as they are.
    """

    input_names: tuple[str, ...]
    param_names: tuple[str, ...]
    label_names: tuple[str, ...]
    transforms: tuple[LabelTransform, ...]
    relations: tuple[AppliedRelation, ...] = ()
    scaling: Scaling | None = None

    def of_labels(self, labels: Any, params: Any, xp: Any = np) -> Any:
        """Return the targets of labels.

        Parameters
        ----------
        labels : array, shape (..., n_labels), float64
            In their units.
        params : array, shape (..., n_params), float64
            In their units; its other axes broadcast against those of `labels`.
        xp : module
            `numpy`, or `keras.ops` inside a TensorFlow graph.

        Returns
        -------
        array, shape (..., n_targets), float64
            Standardised, if there is a scaling. Not finite where a value cannot be transformed.
        """
        columns = [
            each.forward(labels[..., self.label_names.index(each.label)], self._reference(each, params), xp)
            for each in self.transforms
        ]
        targets = xp.stack(columns, axis=-1)
        return targets if self.scaling is None else (targets - self.scaling.mean) / self.scaling.divisor()

    def to_labels(self, targets: Any, inputs: Any, params: Any, xp: Any = np) -> Any:
        """Return all labels of what a network gives.

        Parameters
        ----------
        targets : array, shape (..., n_targets), float64
            As `of_labels` gives them.
        inputs : array, shape (..., n_inputs), float64
            Load features at the same steps, in their units.
        params : array, shape (..., n_params), float64
            In their units; the axes of both broadcast against those of `targets`.
        xp : module
            `numpy` or `keras.ops`.

        Returns
        -------
        array, shape (..., n_labels), float64
        """
        if self.scaling is not None:
            targets = targets * self.scaling.divisor() + self.scaling.mean
        columns = {name: inputs[..., k] for k, name in enumerate(self.input_names)}
        columns |= {name: params[..., k] for k, name in enumerate(self.param_names)}
        zero = xp.zeros_like(targets[..., 0])
        labels: dict[str, Any] = {}
        for k, each in enumerate(self.transforms):
            labels[each.label] = each.inverse(targets[..., k], self._reference(each, params), xp)
        for applied in self.relations:
            label = applied.relation.label
            value = zero + applied.relation.value({**columns, **labels}, xp)
            if applied.type_code is not None:
                holds = xp.abs(zero + columns[TYPE_PARAMETER] - applied.type_code) < _SAME_TYPE
                value = xp.where(holds, value, labels.get(label, zero))
            labels[label] = value
        return xp.stack([labels[name] for name in self.label_names], axis=-1)

    def record(self) -> TargetsRecord:
        """Return what `train_stats.json` holds of them, beside the names of the columns."""
        record: TargetsRecord = {
            "transforms": [
                TransformRecord(label=each.label, kind=each.kind, reference=each.reference, offset=each.offset)
                for each in self.transforms
            ],
            "exact": [
                ExactRecord(label=each.relation.label, relation=each.relation.text, type_code=each.type_code)
                for each in self.relations
            ],
        }
        if self.scaling is not None:
            record["mean"], record["std"] = self.scaling.mean, self.scaling.std
        return record

    def standardised(self, mean: Array, std: Array) -> Targets:
        """Return targets that are standardised."""
        return replace(self, scaling=Scaling(mean, std))

    def _reference(self, transform: LabelTransform, params: Any) -> Any:
        return None if transform.reference is None else params[..., self.param_names.index(transform.reference)]


def choose_targets(
    experiment: Experiment, config: PreprocessingConfig, names: Mapping[str, Sequence[str]], types: Collection[str]
) -> Targets | None:
    """Return the targets that a configuration asks for, not standardised; None if the labels are learnt as they are.

    Parameters
    ----------
    experiment : Experiment
        Declares transforms and relations.
    config : PreprocessingConfig
        Its keys `label_scaling` and `exact`.
    names : mapping
        Names of the columns `input`, `param` and `label`.
    types : collection of str
        Experiment types of the sequences.

    Raises
    ------
    ConfigError
        If the experiment declares no transform or no relation for these labels, or a relation lacks columns.
    """
    is_physical = config.label_scaling == "physical"
    if not is_physical and config.exact is False:
        return None
    params, labels = tuple(names["param"]), tuple(names["label"])
    targets = Targets(tuple(names["input"]), params, labels, ())
    if config.exact is not False:
        targets = replace(targets, relations=_relations(experiment, config.exact, targets, types))
    given = {each.relation.label for each in targets.relations if _covers_all(each, targets.relations, types)}
    declared = {each.label: each for each in experiment.label_transforms() if each.label in labels}
    if is_physical and not declared:
        raise ConfigError(
            f"label_scaling: physical: the experiment {experiment.name} declares no transform of "
            f"{', '.join(labels)}; declare them by label_transforms(), or leave label_scaling out."
        )
    learnt = [label for label in labels if label not in given]
    if not learnt:
        raise ConfigError(f"exact: relations give all labels, {', '.join(labels)}; there is nothing to train.")
    _check_order(experiment, targets, learnt)
    transforms = [
        declared.get(label, LabelTransform(label)) if is_physical else LabelTransform(label) for label in learnt
    ]
    known = [each if each.reference in params else replace(each, reference=None) for each in transforms]
    return replace(targets, transforms=tuple(known))


def targets_of(stats: Mapping[str, Any], config: Mapping[str, Any]) -> Targets | None:
    """Return the targets of a trained model; None if it learnt the labels as they are.

    Parameters
    ----------
    stats, config : mapping
        `train_stats` and configuration of the model.

    Raises
    ------
    ModelError
        If the record is broken, or the experiment does not declare one of its relations any more.
    """
    record = stats.get("targets")
    if record is None:
        return None
    try:
        transforms = tuple(LabelTransform(**each) for each in record["transforms"])
        targets = Targets(
            tuple(stats["input_names"]), tuple(stats["param_names"]), tuple(stats["label_names"]), transforms
        )
        wanted = [(str(each["relation"]), each["type_code"]) for each in record["exact"]]
    except (KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"train_stats: targets is broken: {error!r}.") from error
    if wanted:
        declared = {each.text: each for each in experiment_of(config).exact_relations()}
        for text, _ in wanted:
            if text not in declared:
                raise ModelError(
                    f"train_stats: the model needs the relation {text}, which its experiment does not declare; it "
                    f"declares {', '.join(declared) or 'none'}."
                )
        targets = replace(targets, relations=tuple(AppliedRelation(declared[text], code) for text, code in wanted))
    if "mean" not in record:
        return targets
    return targets.standardised(columns_in(record, "mean"), columns_in(record, "std"))


def _relations(
    experiment: Experiment, wanted: bool | list[str], targets: Targets, types: Collection[str]
) -> tuple[AppliedRelation, ...]:
    """Return the first relation that can be applied to each wanted label and type."""
    declared = experiment.exact_relations()
    labels = [each.label for each in declared if each.label in targets.label_names]
    names = list(dict.fromkeys(labels)) if wanted is True else list(wanted or ())
    for name in names:
        if name not in labels:
            raise ConfigError(
                f"exact: the experiment {experiment.name} declares no relation that gives {name}; it declares some for "
                f"{', '.join(dict.fromkeys(labels)) or 'none of the labels'}."
            )
    # In the order of the declarations, whatever that of the key is: a relation may need a label that another one gives.
    names.sort(key=labels.index)
    applied, reasons = [], []
    available = {*targets.input_names, *targets.param_names, *targets.label_names}
    for label in names:
        open_types, lacking = set(types), []
        for relation in (each for each in declared if each.label == label):
            if relation.experiment_type not in (None, *open_types):
                continue
            is_partial = relation.experiment_type is not None and set(types) != {relation.experiment_type}
            needs = (*relation.needs, *((TYPE_PARAMETER,) if is_partial else ()))
            if missing := [name for name in needs if name not in available]:
                lacking.append(f"{relation.text} needs {', '.join(missing)}")
                continue
            code = experiment.type_codes[str(relation.experiment_type)] if is_partial else None
            applied.append(AppliedRelation(relation, code))
            open_types -= open_types if relation.experiment_type is None else {relation.experiment_type}
            if not open_types:
                break
        if lacking and open_types:
            reasons.append("; ".join(lacking))
            is_without = all(each.relation.label != label for each in applied)
            if wanted is not True and is_without:
                raise ConfigError(_no_relation(f"{label} is not exact here", reasons, targets))
    if not applied:
        raise ConfigError(_no_relation("no label is exact here", reasons, targets))
    for reason in reasons:
        _tell_what_is_learnt(reason)
    return tuple(applied)


@functools.lru_cache(maxsize=64)
def _tell_what_is_learnt(reason: str) -> None:
    """Log it once in a process, which may read the models of all trials of a sweep."""
    logger.info("exact: is learnt where the model lacks columns: %s", reason)


def _check_order(experiment: Experiment, targets: Targets, learnt: Sequence[str]) -> None:
    """Refuse a relation that needs a label which only a later one gives."""
    known = {*targets.input_names, *targets.param_names, *learnt}
    for each in (applied.relation for applied in targets.relations):
        if later := [name for name in each.needs if name not in known]:
            raise ConfigError(
                f"exact: the relation {each.text} of the experiment {experiment.name} needs {', '.join(later)}, which "
                "a relation gives that is declared after it; declare that one first in exact_relations()."
            )
        known.add(each.label)


def _no_relation(what: str, reasons: Sequence[str], targets: Targets) -> str:
    columns = ", ".join((*targets.input_names, *targets.param_names))
    why = "; ".join(reasons) or "the experiment declares no relation for these labels and types"
    return f"exact: {what}: {why}; the model has {columns}. Add the columns, or set exact: false."


def _covers_all(applied: AppliedRelation, relations: Sequence[AppliedRelation], types: Collection[str]) -> bool:
    """Return whether the label of a relation is given for all types, so that nothing of it is left to learn."""
    of_label = [each for each in relations if each.relation.label == applied.relation.label]
    if any(each.type_code is None for each in of_label):
        return True
    return {each.relation.experiment_type for each in of_label} >= set(types)
