"""Experiment: columns, groups, types and relations of one kind of simulation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from numpy.typing import NDArray

from glrnn_hpc.config import PreprocessingConfig
from glrnn_hpc.errors import ConfigError, DataError
from glrnn_hpc.experiments.derived_features import DerivedFeatures
from glrnn_hpc.experiments.labels import ExactRelation, LabelTransform

Array = NDArray[Any]

#: Names of one pressure, or one density, may be rounded: values that differ by less are the same.
_SAME_VALUE = 1e-3


#: Parameter that tells the type of an experiment.
TYPE_PARAMETER = "experiment_type"


class UnderivableInputs(DataError):
    """Load features are missing, and the relations of the experiment do not give them."""


@dataclass(frozen=True)
class Column:
    """One parameter, load feature or response.

    Attributes
    ----------
    name : str
        In raw files, data files and configurations.
    unit : str
        In data files; empty if it has none.
    title : str
        Words in front of the name on the axis of a figure.
    raw_divisor : float
        Divisor that brings the values of raw files to `unit`.
    """

    name: str
    unit: str = ""
    title: str = ""
    raw_divisor: float = 1.0

    def label(self) -> str:
        """Return the text on the axis of a figure, such as ``axial strain e_z [-]``."""
        return f"{self.title} {self.name} [{self.unit or '-'}]".lstrip()


@dataclass(frozen=True)
class Group:
    """One group of a data file, as far as extra parameters are computed from it.

    Attributes
    ----------
    file : Path
        The data file, for messages.
    pressure, experiment_type : str
        Both parts of its name.
    output_names : tuple of str
        Names of the responses.
    outputs : ndarray, shape (n_samples, n_steps, n_outputs), float32
        Raw responses, not padded.
    """

    file: Path
    pressure: str
    experiment_type: str
    output_names: tuple[str, ...]
    outputs: Array

    @property
    def name(self) -> str:
        """The name of the group in the file."""
        return f"{self.pressure}/{self.experiment_type}"


@dataclass(frozen=True)
class ExtraParameter:
    """A parameter that is appended to the contact parameters.

    The key `add_<name>` of a configuration switches it; a parameter without such a key is always appended.

    Attributes
    ----------
    name : str
        Of the parameter.
    values : callable
        Takes a `Group` and returns its value, or an ndarray of shape (n_samples,). It raises a `DataError` if the
        group does not tell the parameter.
    unit : str
        Empty if it has none.
    """

    name: str
    values: Callable[[Group], float | Array]
    unit: str = ""


@dataclass(frozen=True)
class DerivedInputs:
    """Load features that follow from others.

    Attributes
    ----------
    columns : mapping of str to ndarray, shape (n_steps,)
        The derived features by name.
    note : str
        The relation in one sentence, for the user.
    """

    columns: Mapping[str, Array]
    note: str


class Experiment:
    """One kind of experiment; subclass it in a file of your own and name it by `experiment: module:Class`.

    A subclass defines `name`, `contact_params`, `inputs`, `outputs` and `type_codes`; all else has a default. It is
    made without arguments. Its module is imported by commands that load no TensorFlow, so it should not import it.

    Attributes
    ----------
    name : str
        For messages.
    contact_params, inputs, outputs : tuple of Column
        Default columns of a data file, in their order. `glrnn parse` reads them from the raw files.
    type_codes : mapping of str to float
        Experiment types, the second part of a group's name, and their values as a parameter.
    control : str
        Load feature that the steps of an experiment follow; by default the last one.
    state_outputs : tuple of str
        Responses from which parameters and relations follow; they are read from an observation even if they are not
        compared.
    raw_group_keys : tuple of str
        Constants of a raw file that tell its group; empty if raw files do not tell it.
    unused_constants, unused_sequences : tuple of str
        Other constants and sequences of raw files, listed in the attributes of a data file.
    preprocessor : str
        `module:Class` of the preprocessor, a subclass of `preprocessor.FilePreprocessor`.
    """

    name: ClassVar[str]
    contact_params: ClassVar[tuple[Column, ...]]
    inputs: ClassVar[tuple[Column, ...]]
    outputs: ClassVar[tuple[Column, ...]]
    type_codes: ClassVar[Mapping[str, float]]
    control: ClassVar[str]
    state_outputs: ClassVar[tuple[str, ...]] = ()
    raw_group_keys: ClassVar[tuple[str, ...]] = ()
    unused_constants: ClassVar[tuple[str, ...]] = ()
    unused_sequences: ClassVar[tuple[str, ...]] = ()
    preprocessor: ClassVar[str] = "glrnn_hpc.preprocessor:FilePreprocessor"

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not hasattr(cls, "control") and getattr(cls, "inputs", None):
            cls.control = getattr(cls.inputs[-1], "name", "")

    def column_names(self, kind: str) -> tuple[str, ...]:
        """Return the names of the columns `contact_params`, `inputs` or `outputs`."""
        columns: tuple[Column, ...] = getattr(self, kind)
        return tuple(column.name for column in columns)

    def units(self) -> Mapping[str, str]:
        """Return the units of responses, by name; those without a unit are left out."""
        return MappingProxyType({column.name: column.unit for column in self.outputs if column.unit})

    def parameter_units(self) -> Mapping[str, str]:
        """Return the units of contact parameters and extra parameters, by name; those without one are left out."""
        units = {column.name: column.unit for column in self.contact_params}
        units |= {parameter.name: parameter.unit for parameter in self.extra_parameters()}
        return MappingProxyType({name: unit for name, unit in units.items() if unit})

    def input_label(self, name: str) -> str:
        """Return the text on the axis of a figure over the load feature `name`."""
        derived = (column for features in self.derived_features() for column in features.columns)
        columns = (*self.inputs, *derived)
        return next((column.label() for column in columns if column.name == name and column.title), name)

    # Groups of raw files and data files

    def raw_group(self, constants: Mapping[str, Any]) -> str | None:
        """Return the group that the constants of a raw file tell, None if they lack `raw_group_keys`.

        Parameters
        ----------
        constants : mapping
            Of one raw file.

        Raises
        ------
        ValueError
            If the constants are there and tell no group; the reader puts the path in front of its text.
        """
        return None

    def is_same_group(self, folder: str, stated: str) -> bool:
        """Return whether the folders of a raw file and its constants mean one group, by name or by value.

        Parameters
        ----------
        folder, stated : str
            Names ``pressure/experiment_type``.
        """
        return all(
            part == other or _is_same_value(part, other)
            for part, other in zip(folder.split("/"), stated.split("/"), strict=True)
        )

    def group_problems(self, pressure: str, experiment_type: str) -> list[str]:
        """Return in sentences without a full stop what `glrnn inspect` reports of a group's name."""
        if experiment_type in self.type_codes:
            return []
        return [f"{experiment_type} is {self._no_type()}"]

    # Parameters

    def extra_parameters(self) -> tuple[ExtraParameter, ...]:
        """Return the parameters that can be appended to the contact parameters, in their order."""
        return (ExtraParameter(TYPE_PARAMETER, self.type_code),)

    def type_code(self, group: Group) -> float:
        """Return the value of a group's experiment type.

        Raises
        ------
        DataError
            If the type is none of `type_codes`.
        """
        if group.experiment_type not in self.type_codes:
            raise DataError(f"{group.file}: {group.name} is {self._no_type()}; set add_experiment_type to False.")
        return self.type_codes[group.experiment_type]

    def appended_parameters(self, config: PreprocessingConfig) -> tuple[ExtraParameter, ...]:
        """Return the extra parameters that a configuration switches on, in their order.

        Raises
        ------
        ConfigError
            If a switch that is off by default is on, and the experiment has no such parameter.
        """
        known = {parameter.name: parameter for parameter in self.extra_parameters()}
        for key, field in PreprocessingConfig.model_fields.items():
            name = key.removeprefix("add_")
            if name != key and field.default is False and getattr(config, key) and name not in known:
                raise ConfigError(
                    f"{key}: the experiment {self.name} has no parameter {name} to append; it has "
                    f"{', '.join(known) or 'none'}."
                )
        return tuple(each for each in known.values() if getattr(config, f"add_{each.name}", True))

    def check_parameter(self, name: str, value: float) -> None:
        """Refuse a value of a parameter that cannot be in its unit.

        Raises
        ------
        DataError
            With the unit that is needed.
        """

    # Relations

    def derived_features(self) -> Sequence[DerivedFeatures]:
        """Return load features that follow from those of a data file, for the key `inputs` to choose.

        They are computed wherever a model needs them, and no file or observation holds them.
        """
        return ()

    def label_transforms(self) -> Sequence[LabelTransform]:
        """Return the transforms in which networks learn labels under `label_scaling: physical`.

        A label without one is learnt as it is. Transforms let stresses of all pressures count alike, and keep predicted
        values where they can be: a label that is learnt as a logarithm stays positive.
        """
        return ()

    def exact_relations(self) -> Sequence[ExactRelation]:
        """Return the relations that give labels under `exact`, those that serve most types first."""
        return ()

    def initial_parameters(self, first: Mapping[str, float]) -> Mapping[str, float]:
        """Return extra parameters that the first row of an observation tells.

        Parameters
        ----------
        first : mapping of str to float
            Responses in the first row: those that are compared, and `state_outputs`.
        """
        return {}

    def derive_inputs(
        self, columns: Mapping[str, Array], missing: Sequence[str], control: str, type_code: float | None
    ) -> DerivedInputs:
        """Return load features that an observation does not have, by exact relations of the experiment.

        Parameters
        ----------
        columns : mapping of str to ndarray, shape (n_steps,)
            What was observed, in the units of a data file.
        missing : sequence of str
            The load features to derive.
        control : str
            The feature that the steps follow.
        type_code : float, optional
            Of the experiment, None if it is not known.

        Raises
        ------
        UnderivableInputs
            If they do not follow; the text says why, without a full stop.
        """
        raise UnderivableInputs(f"the experiment {self.name} has no relation that gives them")

    def contradictions(
        self,
        first: Mapping[str, float],
        spans: Mapping[str, float],
        known: Mapping[str, float],
        type_code: float | None,
    ) -> list[str]:
        """Return in sentences what an observation says against the parameters and the type that are given.

        Parameters
        ----------
        first : mapping of str to float
            Responses in the first row of the observation.
        spans : mapping of str to float
            Greatest minus least value of responses, as far as it is known.
        known : mapping of str to float
            Parameters that the user gave.
        type_code : float, optional
            Of the experiment, None if it is not known.
        """
        return []

    def _no_type(self) -> str:
        types = list(self.type_codes)
        return f"neither {' nor '.join(types)}" if len(types) > 1 else f"not {''.join(types)}"


def is_number(text: str) -> bool:
    """Return whether a name is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_same_value(name: str, other: str) -> bool:
    return is_number(name) and is_number(other) and math.isclose(float(name), float(other), rel_tol=_SAME_VALUE)
