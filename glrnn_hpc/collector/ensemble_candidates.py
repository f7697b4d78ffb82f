"""Candidates for an ensemble: verified trials that agree in data, split and labels, with their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glrnn_hpc.collector.ensemble_selection import Selection, select
from glrnn_hpc.collector.verification import Candidate, Verifier
from glrnn_hpc.collector.verify import Verified, raw_parts
from glrnn_hpc.config import SPLIT_SEED
from glrnn_hpc.errors import SweepError
from glrnn_hpc.experiments.registry import experiment_named
from glrnn_hpc.preprocessor.base import PreparedData
from glrnn_hpc.preprocessor.splits import label_scaling
from glrnn_hpc.records.train_stats import input_names_of, label_names_of, param_names_of
from glrnn_hpc.surrogate.ensemble import Member
from glrnn_hpc.surrogate.intervals import LabelSpace, transformed_truth

Array = NDArray[Any]


@dataclass(frozen=True)
class EnsembleCandidate:
    """Verified trial that may become a member.

    Attributes
    ----------
    candidate : Candidate
        Trial and its sweep.
    files : Verified
        Files of the trial, without its model: a sweep has more models than fit into the memory.
    first_step : int
        First step that it predicts, counted without padding.
    predicted : ndarray, shape (n_val, n_steps - first_step, n_labels), float32
        Its predictions of the validation split, in the units of the labels.
    """

    candidate: Candidate
    files: Verified
    first_step: int
    predicted: Array

    @property
    def input_names(self) -> list[str]:
        """Load features that it takes."""
        return input_names_of(self.files.stats)


@dataclass(frozen=True)
class Truth:
    """Sequences of a split that the training did not see, without padding.

    Attributes
    ----------
    inputs : dict of str to ndarray, shape (n, n_steps)
        Load features by name.
    params : ndarray, shape (n, n_params)
        Parameters.
    labels : ndarray, shape (n, n_steps, n_labels)
        Responses in their units.
    """

    inputs: dict[str, Array]
    params: Array
    labels: Array

    def input_array(self, names: Sequence[str]) -> Array:
        """Return some load features, (n, n_steps, n_inputs)."""
        return np.stack([self.inputs[name] for name in names], axis=-1)


def truth_of(files: Verified, split: str) -> Truth:
    """Return the sequences of a split as a trial has them."""
    assert isinstance(files.data, PreparedData)
    parts = list(raw_parts(files.data.splits[split]))
    inputs, params, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    pad_length = files.config.pad_length
    names = input_names_of(files.stats)
    columns = {name: inputs[:, pad_length:, k] for k, name in enumerate(names)}
    return Truth(columns, params, labels[:, pad_length:])


def candidate_of(candidate: Candidate, files: Verified) -> EnsembleCandidate:
    """Return a verified trial with its predictions of the validation split.

    Raises
    ------
    SweepError
        If its preprocessor gives data sets, of which nobody knows which sequences they hold.
    """
    if not isinstance(files.data, PreparedData):
        raise SweepError(
            f"{candidate.root}: --ensemble needs whole sequences, but the preprocessor of the sweep gives data sets of "
            "its own; let it be a subclass of ArrayPreprocessor, or collect without --ensemble."
        )
    first_step, predicted = predictions_of(files, truth_of(files, "val"))
    return EnsembleCandidate(candidate, replace(files, model=None), first_step, predicted)


def predictions_of(files: Verified, truth: Truth) -> tuple[int, Array]:
    """Return what a verified trial predicts for some sequences.

    Returns
    -------
    tuple
        First step that is predicted, counted without padding, and the predictions from it on in the units of the
        labels, (n, n_steps - first_step, n_labels), float32.
    """
    names = input_names_of(files.stats)
    member = Member(files.model, files.stats, files.config.as_dict(), names)
    return member.first_step, member.predict(truth.input_array(names), truth.params)


def disagreement(first: EnsembleCandidate, other: EnsembleCandidate) -> str | None:
    """Return why two trials cannot be members of one ensemble; None if they can."""
    stats = first.files.stats, other.files.stats
    configs = first.files.config, other.files.config
    number = first.candidate.slot.number
    settings: dict[str, list[Any]] = {
        "labels": [label_names_of(each) for each in stats],
        "parameters": [param_names_of(each) for each in stats],
        "fingerprint of the data": [each.get("fingerprint") for each in stats],
        "split_seed": [each.get("split_seed", SPLIT_SEED) for each in stats],
        "train_frac": [each.train_frac for each in configs],
        "val_frac": [each.val_frac for each in configs],
    }
    for name, (of_first, of_other) in settings.items():
        if of_first != of_other:
            return (
                f"cannot be in one ensemble with trial {number}: its {name} is {of_other}, that of trial {number} "
                f"{of_first}; members must agree in labels, parameters, data and split"
            )
    if "fingerprint" in stats[0]:
        return None
    # Data that lie in no file have none.
    truths = [truth_of(each.files, "val").labels for each in (first, other)]
    if truths[0].shape != truths[1].shape or not np.array_equal(truths[0], truths[1]):
        return f"cannot be in one ensemble with trial {number}: its validation sequences are others"
    return None


def select_members(candidates: Sequence[EnsembleCandidate], n_picks: int) -> Selection:
    """Pick members by the error of their mean on the validation split, at the steps that all candidates predict.

    Errors are taken in the units of the experiment's transforms: in those of the labels, a few sequences with the
    largest stresses decide, and on the same sequences an ensemble that was chosen so erred more.
    """
    first_step = max(each.first_step for each in candidates)
    truth = truth_of(candidates[0].files, "val")
    space = label_space(candidates[0].files)
    simulated, lows, highs = transformed_truth(space, truth.labels[:, first_step:], truth.params)
    predictions = [
        np.clip(space.forward(each.predicted[:, first_step - each.first_step :], truth.params), lows, highs).astype(
            "float32"
        )
        for each in candidates
    ]
    deviations = simulated.std(axis=(0, 1))
    return select(predictions, simulated, np.where(deviations > 0, deviations, 1.0), n_picks)


def label_space(files: Verified) -> LabelSpace:
    """Return the transformed units of the labels of a trial, whatever it was trained on."""
    transforms = experiment_named(files.config.experiment).label_transforms()
    return LabelSpace(tuple(label_names_of(files.stats)), tuple(param_names_of(files.stats)), tuple(transforms))


def label_divisor(files: Verified) -> Array:
    """Return what standardises the labels, (n_labels,); 1 where the statistics do not tell it."""
    scaling = label_scaling(files.stats)
    return np.ones(files.stats["num_labels"]) if scaling is None else scaling.divisor()


class CandidatePool:
    """Candidates for one ensemble, collected while the trials of a sweep are verified.

    Parameters
    ----------
    verifier : Verifier
        Notes the trials that do not fit the first one.

    Attributes
    ----------
    candidates : list of EnsembleCandidate
        Trials that may be members, in the order in which they were added.
    """

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self.candidates: list[EnsembleCandidate] = []

    def add(self, candidate: Candidate, files: Verified) -> None:
        """Add a verified trial, or note why it cannot be a member beside the first one.

        Raises
        ------
        SweepError
            If its preprocessor gives no whole sequences.
        """
        given = candidate_of(candidate, files)
        reason = disagreement(self.candidates[0], given) if self.candidates else None
        if reason is None and not np.isfinite(given.predicted).all():
            reason = "predicts values that are not finite"
        if reason is None:
            self.candidates.append(given)
        else:
            self._verifier.refuse(candidate, reason)
